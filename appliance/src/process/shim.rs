//! `onebit supervise`: the few steps between fork and the real program, in safe Rust.
//!
//! Sets the parent-death signal, limits and sandbox, then becomes the program by `exec`, so that the
//! appliance's child *is* the engine and no process is spent on watching it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

use super::{Limits, Sandbox, Spec};

/// The hidden subcommand of our own binary.
pub const SUBCOMMAND: &str = "supervise";

/// Why the program could not be become. Printed on stderr, so it ends up in the child's log ring.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("supervise: bad argument {0:?}")]
    Argument(OsString),
    #[error("supervise: the appliance is gone")]
    Orphan,
    #[error("supervise: {what}: {source}")]
    Kernel {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("supervise: this kernel does not enforce landlock, which this child requires")]
    NoLandlock,
    #[error("supervise: landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("cannot run {program}: {source}")]
    Exec {
        program: String,
        source: std::io::Error,
    },
}

/// The arguments that make the shim start `spec` as a child of `parent`.
pub(super) fn arguments(spec: &Spec, parent: u32) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        SUBCOMMAND.into(),
        "--parent".into(),
        parent.to_string().into(),
    ];
    let mut number = |flag: &str, value: Option<u64>| {
        if let Some(value) = value {
            args.extend([flag.into(), value.to_string().into()]);
        }
    };
    number("--address-bytes", spec.limits.address_bytes);
    number("--cpu-s", spec.limits.cpu_s);
    number("--file-bytes", spec.limits.file_bytes);
    number("--files", spec.limits.files);
    if spec.limits.memlock_max {
        args.push("--memlock-max".into());
    }
    if spec.connects {
        args.push("--connects".into());
    }
    for port in &spec.avoids {
        args.extend(["--avoid".into(), port.to_string().into()]);
    }
    if let Some(sandbox) = &spec.sandbox {
        args.push(if sandbox.required {
            "--sandbox-required".into()
        } else {
            "--sandbox".into()
        });
        for path in &sandbox.read {
            args.extend(["--read".into(), path.into()]);
        }
        for path in &sandbox.write {
            args.extend(["--write".into(), path.into()]);
        }
    }
    args.push("--".into());
    args.push(spec.program.clone().into());
    args.extend(spec.args.iter().cloned());
    args
}

/// What the arguments mean.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    parent: u32,
    limits: Limits,
    connects: bool,
    avoids: Vec<u16>,
    sandbox: Option<Sandbox>,
    program: OsString,
    args: Vec<OsString>,
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Orders, ShimError> {
    let mut orders = Orders::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut next = || args.next().ok_or_else(|| ShimError::Argument(arg.clone()));
        match arg.to_str() {
            Some("--parent") => orders.parent = number(&next()?)?,
            Some("--address-bytes") => orders.limits.address_bytes = Some(number(&next()?)?),
            Some("--cpu-s") => orders.limits.cpu_s = Some(number(&next()?)?),
            Some("--file-bytes") => orders.limits.file_bytes = Some(number(&next()?)?),
            Some("--files") => orders.limits.files = Some(number(&next()?)?),
            Some("--memlock-max") => orders.limits.memlock_max = true,
            Some("--connects") => orders.connects = true,
            Some("--avoid") => orders.avoids.push(number(&next()?)?),
            Some("--sandbox") => orders.sandbox = Some(Sandbox::default()),
            Some("--sandbox-required") => {
                orders.sandbox = Some(Sandbox {
                    required: true,
                    ..Sandbox::default()
                })
            }
            Some("--read") => orders
                .sandbox
                .get_or_insert_default()
                .read
                .push(PathBuf::from(next()?)),
            Some("--write") => orders
                .sandbox
                .get_or_insert_default()
                .write
                .push(PathBuf::from(next()?)),
            Some("--") => {
                orders.program = next()?;
                orders.args = args.collect();
                return Ok(orders);
            }
            _ => return Err(ShimError::Argument(arg)),
        }
    }
    Err(ShimError::Argument("--".into()))
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Result<T, ShimError> {
    text.to_str()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| ShimError::Argument(text.to_owned()))
}

/// The hidden subcommand: becomes the program, or says on stderr why not.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Err(error) = become_program(args);
    // The parent's log ring reads this; if even that fails, the exit code remains.
    let _ = writeln!(std::io::stderr(), "{error}");
    // As shells say "command not found".
    ExitCode::from(127)
}

/// Becomes the program named in `args` (everything after the subcommand). Returns only on failure.
pub fn become_program(
    args: impl IntoIterator<Item = OsString>,
) -> Result<std::convert::Infallible, ShimError> {
    let orders = parse(args)?;
    let kernel = |what| {
        move |e: rustix::io::Errno| ShimError::Kernel {
            what,
            source: e.into(),
        }
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(kernel("parent-death signal"))?;
    // The appliance may have died between fork and the line above; then nobody would ever signal us.
    if getppid().map(|p| p.as_raw_nonzero().get().cast_unsigned()) != Some(orders.parent) {
        return Err(ShimError::Orphan);
    }
    limit(&orders.limits).map_err(kernel("limits"))?;
    if !orders.connects {
        connect_to([])?;
    } else if !orders.avoids.is_empty() {
        connect_to((1..=u16::MAX).filter(|port| !orders.avoids.contains(port)))?;
    }
    if let Some(sandbox) = &orders.sandbox {
        enforce(sandbox)?;
    }
    let source = Command::new(&orders.program).args(&orders.args).exec();
    Err(ShimError::Exec {
        program: orders.program.to_string_lossy().into_owned(),
        source,
    })
}

fn limit(limits: &Limits) -> Result<(), rustix::io::Errno> {
    let both = |n: u64| Rlimit {
        current: Some(n),
        maximum: Some(n),
    };
    // A crash must not write gigabytes of model weights to disk, nor leak a chat into a core file.
    setrlimit(Resource::Core, both(0))?;
    let wanted = [
        (Resource::As, limits.address_bytes),
        (Resource::Cpu, limits.cpu_s),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.files),
    ];
    for (resource, value) in wanted {
        if let Some(value) = value {
            setrlimit(resource, both(value))?;
        }
    }
    if limits.memlock_max {
        let hard = getrlimit(Resource::Memlock).maximum;
        setrlimit(
            Resource::Memlock,
            Rlimit {
                current: hard,
                maximum: hard,
            },
        )?;
    }
    Ok(())
}

/// Gives up opening TCP connections to all but these ports, for this process and all that it will start.
fn connect_to(ports: impl IntoIterator<Item = u16>) -> Result<(), ShimError> {
    let rules = ports
        .into_iter()
        .map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rules(rules)?
        .restrict_self()?;
    Ok(())
}

/// Whether this kernel can keep children from opening TCP connections (Linux 6.7 and later, with Landlock).
pub fn can_keep_unconnected() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::ConnectTcp)
        .is_ok()
}

fn enforce(sandbox: &Sandbox) -> Result<(), ShimError> {
    // Landlock V5 (Linux 6.10) is the newest whose rights we set; older kernels enforce what they know.
    let abi = ABI::V5;
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(if sandbox.required {
            CompatLevel::SoftRequirement
        } else {
            CompatLevel::BestEffort
        })
        .handle_access(all)?
        .create()?;
    let paths = sandbox
        .read
        .iter()
        .map(|p| (p, read))
        .chain(sandbox.write.iter().map(|p| (p, all)));
    for (path, access) in paths {
        // A folder that does not exist needs no rule: nothing below it can be opened anyway.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = if path.is_file() {
            access & AccessFs::from_file(abi)
        } else {
            access
        };
        rules = rules.add_rule(PathBeneath::new(fd, access))?;
    }
    let status = rules.restrict_self()?;
    if sandbox.required && status.ruleset == RulesetStatus::NotEnforced {
        return Err(ShimError::NoLandlock);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_round_trip() {
        let mut spec = Spec::new("/opt/engine").args(["--port", "0", "--", "-x"]);
        spec.limits = Limits {
            address_bytes: Some(1 << 33),
            cpu_s: Some(9),
            files: Some(64),
            memlock_max: true,
            ..Limits::default()
        };
        spec.connects = true;
        spec.avoids = vec![8000, 8443];
        spec.sandbox = Some(Sandbox {
            required: true,
            ..Sandbox::system().reading("/models/a b").writing("/tmp/x")
        });
        let orders = parse(arguments(&spec, 77).into_iter().skip(1)).unwrap();
        assert_eq!(
            orders,
            Orders {
                parent: 77,
                limits: spec.limits,
                connects: true,
                avoids: vec![8000, 8443],
                sandbox: spec.sandbox,
                program: "/opt/engine".into(),
                args: spec.args,
            }
        );
    }

    #[test]
    fn bad_arguments_are_named() {
        for args in [
            &["--nope"][..],
            &["--parent", "x", "--", "a"],
            &["--parent", "1"],
            &["--"],
            &["--cpu-s"],
        ] {
            let error = parse(args.iter().map(OsString::from)).unwrap_err();
            assert!(matches!(error, ShimError::Argument(_)), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_stranger_is_not_served() {
        let error =
            become_program(["--parent", "1", "--", "/bin/true"].map(OsString::from)).unwrap_err();
        // Undo what the call did to this test process before it noticed.
        set_parent_process_death_signal(None).unwrap();
        assert!(matches!(error, ShimError::Orphan), "{error}");
    }
}
