//! How busy the processors are, from the kernel's counters.

use super::tree::Tree;

/// Ticks since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    busy: u64,
    all: u64,
}

impl CpuTimes {
    /// Share of the time since an earlier look that was spent working, 0 to 100. `None` when no time has passed.
    pub fn busy_since(&self, earlier: &CpuTimes) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        let busy = self.busy.saturating_sub(earlier.busy);
        Some(busy as f64 / all as f64 * 100.0)
    }
}

/// Reads the counters. Waiting for disks counts as idle.
pub(super) fn read(tree: &Tree<'_>) -> Option<CpuTimes> {
    let text = tree.text("/proc/stat")?;
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two as well.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    let all: u64 = ticks.iter().sum();
    Some(CpuTimes {
        busy: all.saturating_sub(idle),
        all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_a_share() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        let stat = "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n";
        std::fs::write(folder.path().join("proc/stat"), stat).unwrap();
        let times = read(&Tree::new(folder.path())).unwrap();
        assert_eq!(times.busy_since(&CpuTimes::default()), Some(20.0));
        assert_eq!(times.busy_since(&times), None);
        assert_eq!(read(&Tree::new(&folder.path().join("none"))), None);
    }
}
