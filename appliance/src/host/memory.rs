//! Main memory. On a machine whose GPU shares it, `available_bytes` is the truth about both.

use super::tree::{Tree, value_of};

/// Memory in bytes, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages.
    pub total_bytes: u64,
    /// What could be taken now without swapping (`MemAvailable`), and not more than the control group allows.
    pub available_bytes: u64,
    /// Swap space.
    pub swap_total_bytes: u64,
    /// The lowest limit of the control groups this process is in.
    pub limit_bytes: Option<u64>,
}

impl Memory {
    pub(super) fn read(tree: &Tree<'_>) -> Option<Self> {
        let info = tree.text("/proc/meminfo")?;
        let bytes = |name| {
            value_of(&info, name)?
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()?
                .checked_mul(1024)
        };
        let group = Group::read(tree);
        let available = bytes("MemAvailable")?;
        Some(Self {
            total_bytes: bytes("MemTotal")?,
            available_bytes: group.map_or(available, |g| available.min(g.free_bytes)),
            swap_total_bytes: bytes("SwapTotal").unwrap_or(0),
            limit_bytes: group.map(|g| g.limit_bytes),
        })
    }
}

/// What the tightest control group allows.
#[derive(Clone, Copy)]
struct Group {
    limit_bytes: u64,
    free_bytes: u64,
}

impl Group {
    /// Walks from this process's group to the root. `None` when nothing limits it.
    fn read(tree: &Tree<'_>) -> Option<Self> {
        let groups = tree.text("/proc/self/cgroup")?;
        let mut path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mut tightest: Option<Self> = None;
        loop {
            let folder = format!("/sys/fs/cgroup{}", path.trim_end_matches('/'));
            // Without a limit the file says `max`, and the root group has no such file.
            if let Some(limit_bytes) = tree.number::<u64>(&format!("{folder}/memory.max")) {
                let used = tree
                    .number::<u64>(&format!("{folder}/memory.current"))
                    .unwrap_or(0);
                let group = Self {
                    limit_bytes,
                    free_bytes: limit_bytes.saturating_sub(used),
                };
                if tightest.is_none_or(|t| group.free_bytes < t.free_bytes) {
                    tightest = Some(group);
                }
            }
            match path.trim_end_matches('/').rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => return tightest,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::unpack;
    use super::*;

    const MEMINFO: &str =
        "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  800 kB\nSwapTotal: 0 kB\n";

    #[test]
    fn the_tightest_group_wins() {
        let folder = unpack(&format!(
            "== /proc/meminfo\n{MEMINFO}== /proc/self/cgroup\n0::/a/b\n== /sys/fs/cgroup/a/memory.max\n512000\n\
             == /sys/fs/cgroup/a/memory.current\n112000\n== /sys/fs/cgroup/a/b/memory.max\nmax\n"
        ));
        let memory = Memory::read(&Tree::new(folder.path())).unwrap();
        assert_eq!(memory.limit_bytes, Some(512_000));
        assert_eq!(memory.available_bytes, 400_000);
        assert_eq!(memory.total_bytes, 1_024_000);
    }

    #[test]
    fn without_meminfo_there_is_no_answer() {
        let folder = unpack("== /proc/other\nx\n");
        assert_eq!(Memory::read(&Tree::new(folder.path())), None);
    }
}
