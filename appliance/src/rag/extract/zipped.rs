//! Reads members of a zip container under a size limit; knows nothing of what they mean.

use super::{ExtractError, Limits};
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::result::ZipError;

/// A container that claims more members than any real office file or book.
const MEMBERS_MAX: usize = 20_000;

pub(super) struct Container<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    format: &'static str,
    limit: u64,
    /// Unfolded bytes left for the whole container, so that many small bombs are stopped like a big one.
    left: u64,
}

impl<'a> Container<'a> {
    pub(super) fn open(
        bytes: &'a [u8],
        format: &'static str,
        limits: Limits,
    ) -> Result<Self, ExtractError> {
        let broken = |why: String| ExtractError::Broken { format, why };
        let archive =
            ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(error.to_string()))?;
        if archive.len() > MEMBERS_MAX {
            return Err(broken(format!("it claims {} members", archive.len())));
        }
        Ok(Self {
            archive,
            format,
            limit: limits.member_bytes_max,
            left: limits.member_bytes_max.saturating_mul(2),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(name).is_some()
    }

    /// The member's bytes, or `None` where it does not exist.
    pub(super) fn member(&mut self, name: &str) -> Result<Option<Vec<u8>>, ExtractError> {
        let format = self.format;
        let limit = self.limit.min(self.left);
        let member = match self.archive.by_name(name) {
            Ok(member) => member,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(why)) if why == ZipError::PASSWORD_REQUIRED => {
                return Err(ExtractError::Encrypted);
            }
            Err(error) => {
                return Err(ExtractError::Broken {
                    format,
                    why: error.to_string(),
                });
            }
        };
        let mut bytes = Vec::new();
        // The declared size may lie, so the bytes are counted as they come.
        let read = member
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ExtractError::Broken {
                format,
                why: format!("{name}: {error}"),
            })? as u64;
        if read > limit {
            return Err(ExtractError::TooLarge { limit_bytes: limit });
        }
        self.left -= read;
        Ok(Some(bytes))
    }

    /// As [`Self::member`], for one that the format cannot do without.
    pub(super) fn required(&mut self, name: &str) -> Result<Vec<u8>, ExtractError> {
        let format = self.format;
        self.member(name)?.ok_or_else(|| ExtractError::Broken {
            format,
            why: format!("{name} is missing"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    /// A container with the given members, for the tests of every zipped format.
    pub(in crate::rag::extract) fn container(members: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .expect("memory takes it");
            writer
                .write_all(content.as_bytes())
                .expect("memory takes it");
        }
        writer.finish().expect("memory takes it").into_inner()
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_limit() {
        let bytes = container(&[("big", &"0".repeat(1 << 20))]);
        assert!(bytes.len() < 8 << 10, "the container is small");
        let limits = Limits {
            member_bytes_max: 1 << 16,
            ..Limits::default()
        };
        let mut opened = Container::open(&bytes, "test", limits).expect("a container");
        assert_eq!(
            opened.member("big"),
            Err(ExtractError::TooLarge {
                limit_bytes: 1 << 16
            })
        );
        assert_eq!(opened.member("none"), Ok(None));
    }
}
