//! The guard: a tiny second process that outlives the appliance by a moment.
//!
//! It reads `+GROUP` and `-GROUP` lines from a pipe whose only writer is the appliance. When the pipe
//! ends, the appliance is gone, whatever killed it, and every group still listed is killed.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process_group};

/// The hidden subcommand of our own binary.
pub const SUBCOMMAND: &str = "supervise-guard";

/// The hidden subcommand.
pub fn main() -> ExitCode {
    run(std::io::stdin().lock());
    ExitCode::SUCCESS
}

/// Runs until `input` ends, then kills what is left. Returns how many groups that were.
pub fn run(input: impl BufRead) -> usize {
    let mut groups = BTreeSet::new();
    for line in input.lines() {
        let Ok(line) = line else { break };
        apply(&mut groups, &line);
    }
    let left: Vec<Pid> = groups
        .iter()
        .filter_map(|&raw| Pid::from_raw(raw))
        .collect();
    for &group in &left {
        // An error means that the group is already empty, which is what we want.
        let _ = kill_process_group(group, Signal::KILL);
    }
    left.len()
}

/// One line of the pipe. Lines that are no group number above 1 are ignored: killing group 0 or 1
/// would hit ourselves or init.
fn apply(groups: &mut BTreeSet<i32>, line: &str) {
    let (what, number) = line.split_at(line.len().min(1));
    let Some(group) = number.trim().parse::<i32>().ok().filter(|&g| g > 1) else {
        return;
    };
    match what {
        "+" => groups.insert(group),
        "-" => groups.remove(&group),
        _ => false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_add_and_remove_groups() {
        let mut groups = BTreeSet::new();
        for line in [
            "+100", "+200", "-100", "+0", "+1", "-999", "", "+", "+x", "?5", "+-7",
        ] {
            apply(&mut groups, line);
        }
        assert_eq!(groups.into_iter().collect::<Vec<_>>(), [200]);
    }

    #[test]
    fn an_empty_pipe_kills_nothing() {
        assert_eq!(run(&b""[..]), 0);
    }
}
