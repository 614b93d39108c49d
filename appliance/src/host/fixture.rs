//! Fixture machines for tests: one text file a machine, unpacked into a folder.
//!
//! `== /path` starts a file, whose lines follow; `== /path -> target` is a link.

use std::os::unix::fs::symlink;

/// The fixtures, by the name of their file in `tests/fixtures/hosts`.
pub(crate) const STRIX_HALO: &str = include_str!("../../../tests/fixtures/hosts/strix-halo.txt");
pub(crate) const RX_9070_XT: &str = include_str!("../../../tests/fixtures/hosts/rx-9070-xt.txt");
pub(crate) const NVIDIA: &str = include_str!("../../../tests/fixtures/hosts/nvidia.txt");
pub(crate) const BARE_VM: &str = include_str!("../../../tests/fixtures/hosts/bare-vm.txt");

/// Unpacks a fixture; the folder goes with the value.
pub(crate) fn unpack(text: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for part in text
        .split("\n== ")
        .flat_map(|part| part.strip_prefix("== ").or(Some(part)))
    {
        let (head, body) = part.split_once('\n').unwrap_or((part, ""));
        if !head.starts_with('/') {
            continue; // the comment at the top
        }
        let (path, target) = head
            .split_once(" -> ")
            .map_or((head, None), |(path, target)| (path, Some(target)));
        let path = root.path().join(path.trim().trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, path).unwrap(),
            None => std::fs::write(path, format!("{}\n", body.trim_end())).unwrap(),
        }
    }
    root
}
