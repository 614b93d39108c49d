//! The processor: what it is called, what it can do, how many cores really are there.

use std::collections::BTreeSet;

use super::tree::{Tree, value_of};

/// A processor as `/proc/cpuinfo` and sysfs describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpu {
    /// The maker's name for the model. `None` when the kernel does not tell.
    pub model: Option<String>,
    /// Instruction sets, by the kernel's names (`avx2`, `avx512_vnni`).
    pub features: BTreeSet<String>,
    /// Hardware threads that are online.
    pub threads: usize,
    /// Physical cores, each counted once however many threads it runs. `None` when sysfs tells no topology.
    pub cores: Option<usize>,
    /// Bytes of the largest cache: what a benchmark's buffers must exceed.
    pub last_level_cache_bytes: Option<u64>,
    /// Whole cores' worth of time a control group allows, when it limits that.
    pub quota_cores: Option<f64>,
}

impl Cpu {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let info = tree.text("/proc/cpuinfo").unwrap_or_default();
        let features = value_of(&info, "flags")
            .or_else(|| value_of(&info, "Features"))
            .unwrap_or_default();
        Self {
            model: value_of(&info, "model name").map(str::to_owned),
            features: features
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
            threads: info
                .lines()
                .filter(|line| {
                    line.split(':')
                        .next()
                        .is_some_and(|k| k.trim() == "processor")
                })
                .count(),
            cores: cores(tree),
            last_level_cache_bytes: last_level_cache(tree),
            quota_cores: tree
                .text("/sys/fs/cgroup/cpu.max")
                .as_deref()
                .and_then(quota),
        }
    }

    /// Whether the processor has an instruction set, by the kernel's name.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }
}

/// Cores are told apart by the list of threads they run.
fn cores(tree: &Tree<'_>) -> Option<usize> {
    let cpus = tree.names("/sys/devices/system/cpu");
    let siblings: BTreeSet<String> = cpus
        .iter()
        .filter(|name| {
            name.strip_prefix("cpu")
                .is_some_and(|n| n.parse::<u32>().is_ok())
        })
        .filter_map(|name| {
            tree.text(&format!(
                "/sys/devices/system/cpu/{name}/topology/thread_siblings_list"
            ))
        })
        .collect();
    (!siblings.is_empty()).then_some(siblings.len())
}

fn last_level_cache(tree: &Tree<'_>) -> Option<u64> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let indexes = tree.names(folder);
    let sizes = indexes
        .iter()
        .filter_map(|index| tree.text(&format!("{folder}/{index}/size")));
    sizes.filter_map(|size| bytes(&size)).max()
}

/// `32768K` or `32M` as bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// `200000 100000` (time allowed, period) as cores; `max` is no limit.
fn quota(text: &str) -> Option<f64> {
    let (allowed, period) = text.split_once(' ')?;
    let (allowed, period) = (allowed.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (period > 0.0).then_some(allowed / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_quotas() {
        assert_eq!(bytes("32768K"), Some(32 << 20));
        assert_eq!(bytes("64M"), Some(64 << 20));
        assert_eq!(bytes("9X"), None);
        assert_eq!(quota("250000 100000"), Some(2.5));
        assert_eq!(quota("max 100000"), None);
        assert_eq!(quota("1 0"), None);
    }
}
