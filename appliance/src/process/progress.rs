//! Is a silent child busy or hung? Decided by progress, never by wall clock alone.
//!
//! A sample is what the kernel and the pipes know for free: CPU time, resident bytes, bytes read, lines
//! logged. A child none of whose numbers moves for a while is hung; a child loading 40 GB for ten
//! minutes is not.

use std::path::Path;
use std::time::{Duration, Instant};

/// What a child has done so far. Any growth is progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// User plus system time, in kernel ticks (10 ms).
    pub cpu_ticks: u64,
    /// Resident pages: a load that only faults pages in moves this.
    pub resident_pages: u64,
    /// Bytes read through system calls.
    pub read_bytes: u64,
    /// Lines in its log ring, or bytes of an answer: whatever the caller counts.
    pub output: u64,
}

impl Sample {
    /// Reads `/proc/PID/{stat,io}`. `None` once the process is gone.
    #[must_use]
    pub fn read(pid: u32, output: u64) -> Option<Self> {
        Self::read_from(Path::new("/proc"), pid, output)
    }

    fn read_from(proc: &Path, pid: u32, output: u64) -> Option<Self> {
        let folder = proc.join(pid.to_string());
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // The second field is the program's name in parentheses and may hold anything; count from its end.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Field 3 of the manual page (state) is the first after the name.
        let field = |manual: usize| fields.get(manual - 3)?.parse::<u64>().ok();
        if fields.first() == Some(&"Z") {
            return None;
        }
        // `io` is unreadable for other users' processes; CPU and memory still tell.
        let io = std::fs::read_to_string(folder.join("io")).unwrap_or_default();
        let read = io
            .lines()
            .find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok());
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            resident_pages: field(24)?,
            read_bytes: read.unwrap_or(0),
            output,
        })
    }

    /// Whether something was done since `earlier`. Two ticks of CPU are the floor: an idle server's
    /// timers tick now and then.
    #[must_use]
    pub fn advanced(&self, earlier: &Self) -> bool {
        self.cpu_ticks > earlier.cpu_ticks + 1
            || self.resident_pages != earlier.resident_pages
            || self.read_bytes > earlier.read_bytes + 4096
            || self.output > earlier.output
    }
}

/// Remembers when a child last did something.
#[derive(Debug, Clone)]
pub struct Watch {
    last: Option<Sample>,
    since: Instant,
}

impl Watch {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            last: None,
            since: now,
        }
    }

    /// Takes a sample and tells how long nothing has moved. The reference sample only changes when
    /// something moved, so a trickle of single ticks adds up to progress instead of being rounded away.
    pub fn idle(&mut self, sample: Sample, now: Instant) -> Duration {
        if self.last.is_none_or(|last| sample.advanced(&last)) {
            self.last = Some(sample);
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_numbers_are_readable() {
        let me = Sample::read(std::process::id(), 3).unwrap();
        assert!(me.resident_pages > 0 && me.read_bytes > 0 && me.output == 3);
        assert_eq!(Sample::read(u32::MAX, 0), None);
    }

    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_no_trouble() {
        let root = std::env::temp_dir().join(format!("onebit-progress-{}", std::process::id()));
        std::fs::create_dir_all(root.join("7")).unwrap();
        let tail = "S 1 7 7 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 4 0 5 6 77 18446744073709551615";
        std::fs::write(root.join("7/stat"), format!("7 (a) b (c) {tail}")).unwrap();
        let sample = Sample::read_from(&root, 7, 0).unwrap();
        assert_eq!((sample.cpu_ticks, sample.resident_pages), (33, 77));
        std::fs::write(
            root.join("7/stat"),
            format!("7 (x) {}", tail.replacen('S', "Z", 1)),
        )
        .unwrap();
        assert_eq!(Sample::read_from(&root, 7, 0), None, "a zombie is gone");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn idleness_is_measured_from_the_last_movement() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let busy = |cpu_ticks| Sample {
            cpu_ticks,
            ..Sample::default()
        };
        let mut watch = Watch::new(start);
        assert_eq!(watch.idle(busy(0), at(0)), Duration::ZERO);
        assert_eq!(
            watch.idle(busy(1), at(5)),
            Duration::from_secs(5),
            "one tick is noise"
        );
        assert_eq!(
            watch.idle(busy(2), at(6)),
            Duration::ZERO,
            "two ticks since the reference are work"
        );
        assert_eq!(watch.idle(busy(2), at(16)), Duration::from_secs(10));
        let logged = Sample {
            output: 1,
            ..busy(2)
        };
        assert_eq!(watch.idle(logged, at(17)), Duration::ZERO);
    }
}
