//! `onebit doctor`: every prerequisite, found and wanted, with the line that mends it.

use std::path::Path;

use serde_json::json;

use super::Failed;
use super::client::Client;
use crate::app::check_up;
use crate::config::Config;
use crate::host::checks::{Check, Verdict};

pub(super) async fn run(
    config: Config,
    root: &Path,
    json: bool,
    fix_script: bool,
) -> Result<(), Failed> {
    let served = Client::find(&config.data_dir).await.is_some();
    let checks = check_up(&config, root, served);
    if fix_script {
        print!("{}", script(&checks));
        return Ok(());
    }
    if json {
        println!(
            "{}",
            json!({ "checks": checks.iter().map(view).collect::<Vec<_>>() })
        );
    } else {
        checks.iter().for_each(print);
    }
    let problems = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Problem)
        .count();
    match problems {
        0 => Ok(()),
        1 => Err("one problem keeps the appliance from working; its fix is above".into()),
        n => Err(
            format!("{n} problems keep the appliance from working; their fixes are above").into(),
        ),
    }
}

/// The fixes as a shell script that stops at the first one that fails. Advice that no command gives is a comment.
fn script(checks: &[Check]) -> String {
    let mut script = String::from(
        "#!/bin/sh\n# What `onebit doctor` advises for this machine. Read it before you run it.\nset -eu\n",
    );
    let mut known = Vec::new();
    for check in checks.iter().filter(|check| check.verdict != Verdict::Good) {
        let Some(fix) = &check.fix else { continue };
        script.push_str(&format!("\n# {}: {}\n", check.name, check.found));
        // Several checks may be mended by one line; running it once is enough.
        if known.contains(&fix) {
            script.push_str("# the line for it stands above\n");
        } else {
            script.push_str(&format!("{fix}\n"));
            known.push(fix);
        }
    }
    if known.is_empty() {
        script.push_str("\n# nothing to mend\n");
    }
    script
}

fn view(check: &Check) -> serde_json::Value {
    json!({
        "name": check.name,
        "verdict": check.verdict.word(),
        "found": check.found,
        "wanted": check.wanted,
        "why": check.why,
        "fix": check.fix,
    })
}

/// A good check is one line; the others say what to do.
fn print(check: &Check) {
    println!(
        "{:<8} {:<18} {}",
        check.verdict.word(),
        check.name,
        check.found
    );
    if check.verdict != Verdict::Good {
        println!("{:27} wanted: {}", "", check.wanted);
        println!("{:27} why:    {}", "", check.why);
    }
    if let Some(fix) = &check.fix {
        println!("{:27} fix:    {fix}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, verdict: Verdict, fix: Option<&str>) -> Check {
        Check {
            name,
            verdict,
            found: "this".into(),
            wanted: "that",
            why: "because",
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn a_script_says_each_line_once() {
        let checks = [
            check("a", Verdict::Good, Some("never")),
            check("b", Verdict::Problem, Some("sudo mend")),
            check("c", Verdict::Advice, Some("sudo mend")),
            check("d", Verdict::Advice, None),
        ];
        let script = script(&checks);
        assert_eq!(script.matches("sudo mend").count(), 1, "{script}");
        assert!(!script.contains("never") && script.starts_with("#!/bin/sh\n"));
        assert!(super::script(&checks[..1]).contains("nothing to mend"));
    }
}
