//! Small readers of `/proc` and `/sys` below a root folder. An unreadable file is an absent fact.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A machine's files, or a fixture of them.
pub(super) struct Tree<'a> {
    root: &'a Path,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Where an absolute path of the machine lies.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the newline at its end.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// A file that holds one decimal number.
    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.trim().parse().ok()
    }

    /// A file that holds one number as `0x1f`.
    pub(super) fn hex(&self, path: &str) -> Option<u32> {
        u32::from_str_radix(self.text(path)?.trim().strip_prefix("0x")?, 16).ok()
    }

    /// The names in a folder, sorted; none when there is no such folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The last part of where a link points.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        Some(
            std::fs::read_link(self.path(path))
                .ok()?
                .file_name()?
                .to_str()?
                .to_owned(),
        )
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

/// Splits `name value` or `name: value` lines.
pub(super) fn value_of<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let rest = rest
            .strip_prefix(':')
            .or_else(|| (rest.len() < line.len() - name.len()).then_some(rest))?;
        Some(rest.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_whole_names() {
        let text =
            "MemTotal:  100 kB\nMemTotalX: 5\nsimd_count 80\nsimd_count_max 90\nmodel name\t: Zen";
        assert_eq!(value_of(text, "MemTotal"), Some("100 kB"));
        assert_eq!(value_of(text, "simd_count"), Some("80"));
        assert_eq!(value_of(text, "model name"), Some("Zen"));
        assert_eq!(value_of(text, "Mem"), None);
    }
}
