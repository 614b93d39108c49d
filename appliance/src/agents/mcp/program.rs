//! How a server's program is started: with a clean environment, a home of its own, and no more of the disk than its
//! command says.

use std::path::{Path, PathBuf};

use crate::config::program_folders;
use crate::process::{Limits, Pipes, Sandbox, Spec};

/// Open files of a server's program.
const FILES_MAX: u64 = 1024;

/// What is started. The program sees the system, its own installation, its home, and the paths that its command names.
///
/// # Errors
/// There is no such program, or its home cannot be made.
pub(super) fn spec(
    homes: &Path,
    name: &str,
    command: &str,
    args: &[String],
    env: &[(String, String)],
    own_ports: &[u16],
) -> Result<Spec, String> {
    let program = found(command).ok_or_else(|| {
        format!("there is no program `{command}` here; install it, or give its whole path")
    })?;
    let home = homes.join(name);
    std::fs::create_dir_all(&home)
        .map_err(|error| format!("its home {} cannot be made: {error}", home.display()))?;
    let mut sandbox = Sandbox::system().writing(&home);
    let real = program.canonicalize().unwrap_or_else(|_| program.clone());
    for program in [&program, &real] {
        // A program in PREFIX/bin has its libraries beside it.
        let beside = program
            .parent()
            .map(|folder| match folder.ends_with("bin") {
                true => folder.parent().unwrap_or(folder),
                false => folder,
            });
        // What is installed in the top folder says nothing about the rest of it.
        if let Some(beside) = beside.filter(|folder| folder.components().count() > 2) {
            sandbox = sandbox.reading(beside);
        }
    }
    let named = args.iter().map(PathBuf::from);
    for path in named.filter(|path| path.is_absolute() && path.exists()) {
        if path.is_file() {
            // A script needs what lies beside it, and a package of npm's what it was installed with.
            let packages = path
                .ancestors()
                .find(|folder| folder.ends_with("node_modules"));
            if let Some(beside) = packages
                .or(path.parent())
                .filter(|folder| folder.components().count() > 2)
            {
                sandbox = sandbox.reading(beside);
            }
        }
        sandbox = sandbox.writing(path);
    }
    let bin = program
        .parent()
        .map(|folder| folder.display().to_string())
        .unwrap_or_default();
    let mut spec = Spec::new(&program)
        .args(args)
        .env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .dir(&home)
        .sandbox(sandbox)
        .connecting_but(own_ports);
    for (key, value) in env {
        spec = spec.env(key, value);
    }
    spec.limits = Limits {
        files: Some(FILES_MAX),
        ..Limits::default()
    };
    spec.pipes = Pipes::Talk;
    Ok(spec)
}

fn found(command: &str) -> Option<PathBuf> {
    let path = PathBuf::from(command);
    if path.components().count() > 1 {
        return (path.is_absolute() && path.is_file()).then_some(path);
    }
    program_folders()
        .into_iter()
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_a_home_and_the_paths_of_its_command() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let args = [
            "--x".to_owned(),
            shared.display().to_string(),
            "/nonexistent/y".to_owned(),
        ];
        let env = [("TOKEN".to_owned(), "t".to_owned())];
        let spec = spec(folder.path(), "s", "sh", &args, &env, &[8000]).unwrap();
        let home = folder.path().join("s");
        assert!(home.is_dir() && spec.program.is_absolute());
        let sandbox = spec.sandbox.unwrap();
        assert!(sandbox.write.contains(&home) && sandbox.write.contains(&shared));
        assert!(!sandbox.write.contains(&PathBuf::from("/nonexistent/y")));
        assert!(
            spec.env
                .iter()
                .any(|(key, value)| key == "TOKEN" && value == "t")
        );
        let names: Vec<&str> = spec.env.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["PATH", "HOME", "TMPDIR", "TOKEN"]);
        assert!(
            super::spec(folder.path(), "s", "no-such-program", &[], &[], &[])
                .unwrap_err()
                .contains("no program")
        );
        assert!(super::spec(folder.path(), "s", "./sh", &[], &[], &[]).is_err());
    }
}
