//! Where the power comes from, and how much the processor has taken.

use super::tree::Tree;

const SUPPLIES: &str = "/sys/class/power_supply";
const COUNTERS: &str = "/sys/class/powercap";

/// A counter of energy that the processor keeps of one of its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Energy {
    /// The part, such as `package-0`.
    pub part: String,
    /// Since some time in the past; it wraps after hours.
    pub joules: f64,
}

/// Whether the machine runs on its battery; `None` when nothing tells, as on desktops.
pub(super) fn on_battery(tree: &Tree<'_>) -> Option<bool> {
    let names = tree.names(SUPPLIES);
    let mut plugs = names.iter().filter_map(|name| {
        let kind = tree.text(&format!("{SUPPLIES}/{name}/type"))?;
        (kind == "Mains" || kind == "USB")
            .then(|| tree.number::<u8>(&format!("{SUPPLIES}/{name}/online")))?
    });
    let first = plugs.next()?;
    Some(first == 0 && plugs.all(|online| online == 0))
}

/// The packages' counters, where this user may read them: most systems keep them for root.
pub(super) fn energy(tree: &Tree<'_>) -> Vec<Energy> {
    let names = tree.names(COUNTERS);
    let one = |name: &String| {
        let part = tree.text(&format!("{COUNTERS}/{name}/name"))?;
        let microjoules: f64 = tree.number(&format!("{COUNTERS}/{name}/energy_uj"))?;
        part.starts_with("package").then_some(Energy {
            part,
            joules: microjoules / 1e6,
        })
    };
    names.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_told_where_it_can_be() {
        let root = super::super::fixture::unpack(
            "== /sys/class/power_supply/AC/type\nMains\n== /sys/class/power_supply/AC/online\n0\n\
             == /sys/class/power_supply/BAT0/type\nBattery\n== /sys/class/powercap/intel-rapl:0/name\npackage-0\n\
             == /sys/class/powercap/intel-rapl:0/energy_uj\n2500000\n== /sys/class/powercap/intel-rapl:0:0/name\ncore\n",
        );
        let tree = Tree::new(root.path());
        assert_eq!(on_battery(&tree), Some(true));
        let package = Energy {
            part: "package-0".into(),
            joules: 2.5,
        };
        assert_eq!(energy(&tree), [package]);
        let desktop = tempfile::tempdir().unwrap();
        assert_eq!(on_battery(&Tree::new(desktop.path())), None);
        assert!(energy(&Tree::new(desktop.path())).is_empty());
    }
}
