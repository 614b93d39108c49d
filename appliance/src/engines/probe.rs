//! What the programs behind the engines are: asked of themselves, once a process.
//!
//! Owns the questions (`--version`, `--list-devices`) and what their answers mean for lanes. Must not know models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::lanes::{Lane, Memory, Silicon};
use super::llama_server;
use super::programs::{Origin, Programs};
use super::versions::{Shelf, Verdict, Version, judge};
use crate::process::{Launcher, Spec};

/// Printing a version takes milliseconds; a program that loads drivers first may take some seconds.
const STALL: Duration = Duration::from_secs(10);
/// What a version or a list of devices is printed in.
const BYTES_MAX: usize = 64 << 10;

/// What was found, once it has been looked for; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Probed(Arc<OnceLock<Findings>>);

/// Answers of programs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// Programs that must not be used, and why.
    pub bad: BTreeMap<&'static str, String>,
    /// The lanes of llama-server's build on this machine, the fastest first.
    pub llama: Vec<Lane>,
}

impl Probed {
    /// What is wrong with a program; `None` where nothing is, or nothing has been asked yet.
    #[must_use]
    pub fn trouble(&self, program: &str) -> Option<&str> {
        self.0.get()?.bad.get(program).map(String::as_str)
    }

    /// The lanes of llama-server here: before it has been asked, the one that every build has.
    #[must_use]
    pub fn llama(&self) -> &[Lane] {
        match self.0.get() {
            Some(found) if !found.llama.is_empty() => &found.llama,
            _ => std::slice::from_ref(&llama_server::CPU),
        }
    }

    /// Takes what was found; later findings of the same process are not heard.
    pub fn set(&self, findings: Findings) {
        let _ = self.0.set(findings);
    }
}

/// Asks every program whose answer decides about lanes. `integrated` says whether all GPUs of this machine share its
/// memory, for builds that do not tell.
pub async fn probe(
    programs: &Programs,
    engines: &Path,
    launcher: &Launcher,
    integrated: bool,
) -> Findings {
    let mut findings = Findings::default();
    for (name, program) in programs.iter() {
        if !matches!(name, "llama-server" | "flm") {
            continue;
        }
        let version = match program.origin {
            // What we shelved has the name we gave it; a build outside git calls itself 0.
            Origin::Ours => Shelf::new(engines, name)
                .current()
                .as_deref()
                .and_then(Version::find),
            Origin::Bundled | Origin::System => match bundled_version(&program.path) {
                Some(version) => Some(version),
                None => version_of(launcher, &program.path).await,
            },
        };
        let verdict = version
            .as_ref()
            .map(|version| (version, judge(name, version)));
        let bad = match verdict {
            Some((version, Verdict::TooOld { wanted })) => {
                Some(format!("{name} {version} is too old, {wanted} is needed"))
            }
            Some((version, Verdict::KnownBad { why })) => {
                Some(format!("{name} {version} is known to be bad: {why}"))
            }
            Some((_, Verdict::Good)) | None => None,
        };
        if let Some(why) = bad {
            findings.bad.insert(name, why);
        } else if name == "llama-server" {
            match devices(launcher, &program.path).await {
                Ok(said) => findings.llama = lanes(&said, integrated),
                Err(why) => {
                    findings.bad.insert(name, why);
                }
            }
        }
    }
    findings
}

/// The version that was written beside a program when it was built for others; a build outside git calls itself 0.
pub fn bundled_version(program: &Path) -> Option<Version> {
    let note = program.parent()?.join(super::build::VERSION_FILE);
    Version::find(&std::fs::read_to_string(note).ok()?)
}

/// What a program says its version is.
pub async fn version_of(launcher: &Launcher, program: &Path) -> Option<Version> {
    let spec = Spec::new(program).arg("--version");
    let output = launcher.run(spec, BYTES_MAX, STALL).await.ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
        .or_else(|| Version::find(&output.stderr))
}

/// What llama-server says of the devices that its build drives: the list, and its drivers' words.
async fn devices(launcher: &Launcher, program: &Path) -> Result<String, String> {
    let spec = Spec::new(program).arg("--list-devices");
    let output = launcher.run(spec, BYTES_MAX, STALL).await;
    let output = output.map_err(|error| format!("llama-server does not start: {error}"))?;
    if !output.status.success() {
        let last = output.stderr.lines().rfind(|line| !line.trim().is_empty());
        return Err(format!(
            "llama-server does not tell its devices ({}); build a newer one with `onebit engines build llama.cpp`",
            last.unwrap_or("it said nothing").trim()
        ));
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(format!("{list}\n{}", output.stderr))
}

/// The lanes of a build that said this.
fn lanes(said: &str, integrated: bool) -> Vec<Lane> {
    // `  Vulkan0: AMD Radeon Graphics (RADV GFX1151) (120000 MiB, 119000 MiB free)`
    let has = |backend: &str| {
        said.lines().any(|line| {
            let number = line.trim_start().strip_prefix(backend);
            let end = number.and_then(|rest| rest.split_once(": "));
            end.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
        })
    };
    // llama.cpp's Vulkan backend says of each device whether it shares memory, and uses cards before others.
    let shared = match (said.contains("uma: 0"), said.contains("uma: 1")) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => integrated,
    };
    let gpus = [
        ("CUDA", llama_server::CUDA),
        ("ROCm", llama_server::ROCM),
        ("Vulkan", llama_server::VULKAN),
    ];
    let on_gpu = gpus.into_iter().find(|(backend, _)| has(backend));
    let on_gpu = on_gpu.map(|(_, lane)| match shared {
        true => lane,
        false => Lane {
            silicon: Silicon::Dgpu,
            memory: Memory::Vram,
            ..lane
        },
    });
    on_gpu.into_iter().chain([llama_server::CPU]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(said: &str, integrated: bool) -> Vec<(&'static str, Silicon)> {
        let lanes = lanes(said, integrated);
        lanes.iter().map(|l| (l.name, l.silicon)).collect()
    }

    #[test]
    fn a_build_says_what_it_drives() {
        let cpu = ("llama.cpu", Silicon::Cpu);
        assert_eq!(names("Available devices:\n  (none)\n", true), [cpu]);
        let strix = "Available devices:\n  Vulkan0: AMD Radeon Graphics (RADV GFX1151) (1 MiB, 1 MiB free)\n\n\
                     ggml_vulkan: 0 = AMD Radeon Graphics (RADV GFX1151) (radv) | uma: 1 | fp16: 1\n";
        assert_eq!(names(strix, false), [("llama.vulkan", Silicon::Igpu), cpu]);
        let card =
            "Available devices:\n  ROCm0: AMD Radeon RX 9070 XT (16304 MiB, 16240 MiB free)\n";
        assert_eq!(names(card, false), [("llama.rocm", Silicon::Dgpu), cpu]);
        assert_eq!(names(card, true), [("llama.rocm", Silicon::Igpu), cpu]);
        let both = "  Vulkan0: A (1 MiB, 1 MiB free)\n  Vulkan1: B (1 MiB, 1 MiB free)\n | uma: 1 |\n | uma: 0 |\n";
        assert_eq!(names(both, true), [("llama.vulkan", Silicon::Dgpu), cpu]);
        assert_eq!(names("  Vulkan: words\n", true), [cpu]);
    }

    #[test]
    fn before_it_is_asked_a_build_has_the_lane_that_all_have() {
        let probed = Probed::default();
        assert_eq!(probed.llama()[0].name, "llama.cpu");
        assert_eq!(probed.trouble("llama-server"), None);
        probed.set(Findings {
            bad: BTreeMap::from([("flm", "is bad".to_owned())]),
            llama: vec![llama_server::VULKAN],
        });
        assert_eq!(probed.clone().llama()[0].name, "llama.vulkan");
        assert_eq!(probed.trouble("flm"), Some("is bad"));
    }
}
