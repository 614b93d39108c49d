//! `.htok` tokenizers: a byte-level BPE vocabulary and its merges by id.

/// A tokenizer file that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HtokError {
    #[error("not an .htok file: it does not start with \"HTOK\"")]
    Magic,
    #[error("the tokenizer ends inside {0}")]
    Truncated(String),
    #[error("{field} counts {count}, but the {left} bytes left cannot hold so many")]
    Count {
        field: &'static str,
        count: u32,
        left: usize,
    },
    #[error("token {0} is not UTF-8")]
    Utf8(u32),
    #[error("{field} is {id}, but there are {tokens} tokens")]
    Id {
        field: String,
        id: u32,
        tokens: usize,
    },
    #[error("merge {0} does not join its two texts into the third")]
    Merge(usize),
    #[error("token {0} is longer than the 65535 bytes that the format can hold")]
    Long(usize),
}

/// A vocabulary. Merges are (left, right, joined) by falling priority.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Htok {
    pub tokens: Vec<String>,
    pub merges: Vec<(u32, u32, u32)>,
    pub bos: u32,
    pub eos: u32,
}

impl Htok {
    /// Reads and checks a whole file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Htok, HtokError> {
        let mut rest = bytes.strip_prefix(b"HTOK").ok_or(HtokError::Magic)?;
        let n_tokens = number(&mut rest, "the vocabulary size")?;
        let n_merges = number(&mut rest, "the number of merges")?;
        let bos = number(&mut rest, "the begin token")?;
        let eos = number(&mut rest, "the end token")?;
        let room = |field, count: u32, least: usize, left: usize| {
            let fits = (count as usize)
                .checked_mul(least)
                .is_some_and(|needed| needed <= left);
            fits.then_some(())
                .ok_or(HtokError::Count { field, count, left })
        };
        room("the vocabulary size", n_tokens, 2, rest.len())?;
        room("the number of merges", n_merges, 12, rest.len())?;

        let mut tokens = Vec::new();
        for id in 0..n_tokens {
            let cut = || HtokError::Truncated(format!("token {id}"));
            let (length, after) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            let (text, after) = after
                .split_at_checked(u16::from_le_bytes(*length) as usize)
                .ok_or_else(cut)?;
            let text = std::str::from_utf8(text).map_err(|_| HtokError::Utf8(id))?;
            tokens.push(text.to_owned());
            rest = after;
        }
        let known = |field: &dyn Fn() -> String, id: u32| {
            let fits = (id as usize) < tokens.len();
            fits.then_some(()).ok_or_else(|| HtokError::Id {
                field: field(),
                id,
                tokens: tokens.len(),
            })
        };
        known(&|| "the begin token".to_owned(), bos)?;
        known(&|| "the end token".to_owned(), eos)?;
        let mut merges = Vec::new();
        for rank in 0..n_merges as usize {
            let mut part = |name: &str| -> Result<u32, HtokError> {
                let id = number(&mut rest, name)?;
                known(&|| format!("{name} of merge {rank}"), id)?;
                Ok(id)
            };
            let merge = (
                part("the left part")?,
                part("the right part")?,
                part("the joined part")?,
            );
            let [left, right, joined] =
                [merge.0, merge.1, merge.2].map(|id| tokens[id as usize].as_str());
            if joined.strip_prefix(left) != Some(right) {
                return Err(HtokError::Merge(rank));
            }
            merges.push(merge);
        }
        Ok(Htok {
            tokens,
            merges,
            bos,
            eos,
        })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HtokError> {
        let mut out = b"HTOK".to_vec();
        for value in [
            self.tokens.len() as u32,
            self.merges.len() as u32,
            self.bos,
            self.eos,
        ] {
            out.extend(value.to_le_bytes());
        }
        for (id, token) in self.tokens.iter().enumerate() {
            let length = u16::try_from(token.len()).map_err(|_| HtokError::Long(id))?;
            out.extend(length.to_le_bytes());
            out.extend(token.as_bytes());
        }
        for (left, right, joined) in &self.merges {
            out.extend(
                [left, right, joined]
                    .into_iter()
                    .flat_map(|id| id.to_le_bytes()),
            );
        }
        Ok(out)
    }

    /// Merges as GGUF writes them: two texts with a space between.
    pub fn merge_texts(&self) -> Vec<String> {
        let text = |id: u32| &self.tokens[id as usize];
        self.merges
            .iter()
            .map(|&(left, right, _)| format!("{} {}", text(left), text(right)))
            .collect()
    }
}

fn number(rest: &mut &[u8], field: &str) -> Result<u32, HtokError> {
    let (number, after) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| HtokError::Truncated(field.to_owned()))?;
    *rest = after;
    Ok(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Htok {
        Htok {
            tokens: ["a", "b", "ab", "Ġ", "<|end|>"].map(str::to_owned).to_vec(),
            merges: vec![(0, 1, 2)],
            bos: 4,
            eos: 4,
        }
    }

    #[test]
    fn files_return() {
        let bytes = small().to_bytes().unwrap();
        assert_eq!(bytes.len(), 20 + 5 * 2 + 13 + 12);
        assert_eq!(Htok::from_bytes(&bytes), Ok(small()));
        assert_eq!(small().merge_texts(), ["a b"]);
    }

    #[test]
    fn damage_is_refused() {
        let bytes = small().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Htok::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let refused = |file: Htok| {
            Htok::from_bytes(&file.to_bytes().unwrap())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(Htok { eos: 5, ..small() }),
            "the end token is 5, but there are 5 tokens"
        );
        assert!(
            refused(Htok {
                merges: vec![(1, 0, 2)],
                ..small()
            })
            .starts_with("merge 0")
        );
        let mut huge = bytes;
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            Htok::from_bytes(&huge)
                .unwrap_err()
                .to_string()
                .contains("cannot hold so many")
        );
    }
}
