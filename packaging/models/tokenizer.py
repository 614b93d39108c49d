"""The teacher's byte-pair tokenizer, with the rarest tokens left out.

Merges are learnt in order of use, so the last ids are the rarest words and no earlier token is built from them: leaving
out a tail of the table gives a complete, smaller tokenizer of the same family.  The tail pays for the 44 MiB of the file.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 48_000  # of 49,152: 1,152 rows of 468 bytes and their strings are what the file has to lose; 48,000 = 375 * 128
END_OF_TEXT, TURN_START, TURN_END = 0, 1, 2
SPECIAL = 3  # ggml's token type for control tokens


def tables(meta, vocabulary=VOCABULARY):
    """(tokens, token types, merges) of the first `vocabulary` ids."""
    tokens = meta["tokenizer.ggml.tokens"].value
    kept = tokens[:vocabulary]
    known, dropped = set(kept), set(tokens[vocabulary:])
    merges = [m for m in meta["tokenizer.ggml.merges"].value if m.replace(" ", "", 1) in known]
    for merge in merges:
        if any(part in dropped for part in merge.split(" ")):
            raise ValueError(f"merge {merge!r} needs a token that is left out")
    return kept, meta["tokenizer.ggml.token_type"].value[:vocabulary], merges


def build(meta, vocabulary=VOCABULARY):
    tokens, types, merges = tables(meta, vocabulary)
    bpe = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == SPECIAL])
    if bpe.get_vocab_size() != vocabulary:
        raise ValueError(f"the tokenizer has {bpe.get_vocab_size()} entries, not {vocabulary}")
    return bpe


def turn(role, text):
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"
