//! How long a prompt was that an engine found too long, where it says so in a sentence alone.

/// The prompt's length and the context's, of a sentence that names both: the prompt is the longer one.
pub(super) fn lengths(message: &str) -> Option<(usize, usize)> {
    let numbers = message.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.filter_map(|number| number.parse::<usize>().ok());
    let (one, other) = (numbers.next()?, numbers.next()?);
    Some((one.max(other), one.min(other)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::UpstreamError;
    use super::super::openai::error_of;

    #[test]
    fn a_conversation_that_is_too_long_is_known_by_number_and_by_sentence() {
        for error in [
            json!({"n_prompt_tokens": 900, "n_ctx": 512, "message": "m"}),
            json!({"code": "context_length_exceeded", "message": "the prompt has 900 tokens and the context holds 512; shorten it"}),
            json!({"code": "context_length_exceeded", "message": "maximum context length is 512 tokens. However, you requested 900 tokens"}),
        ] {
            let known = error_of(&json!({ "error": error }));
            assert!(
                matches!(
                    known,
                    Some(UpstreamError::TooLong {
                        tokens: 900,
                        context: 512
                    })
                ),
                "{known:?}"
            );
        }
        let other = json!({"error": {"code": "x", "message": "900 of 512"}});
        assert!(matches!(error_of(&other), Some(UpstreamError::Said { .. })));
    }
}
