"""The tokenizer.bin of karpathy/llama2.c as a Hugging Face tokenizer.

The file holds the length of the longest token (int32), then of each token its score (float32), its
length in bytes (int32) and its bytes; a space stands for SentencePiece's mark. Ids 0, 1 and 2 are
unknown, begin and end of a text; <0x00> ... <0xFF> are the bytes of characters without a token.
Text becomes a leading space and characters, of which the neighbouring two whose joint token has the
highest score are joined until none can be (byte-pair encoding, Sennrich et al. 2016).
"""

from __future__ import annotations

import struct

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError

MARK = "\u2581"  # what a space is called inside
SPECIAL = ("<unk>", "<s>", "</s>")


def read_tokenizer(data: bytes, name: str = "tokenizer.bin") -> PreTrainedTokenizerFast:
    """A tokenizer from the content of a tokenizer.bin: BOS first, bytes for unknown characters.

    The unknown token, which never occurs, serves as padding.

    Args:
        data: content of the file, unpacked.
        name: what messages call it.

    Raises:
        InputError: not a whole tokenizer.bin.
    """
    pieces = _pieces(data, name)
    tokens = [*SPECIAL, *(text.replace(" ", MARK) for text, _ in pieces[3:])]
    ids = {token: i for i, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise InputError(f"{name} holds a token twice, so it is no llama2.c tokenizer")
    scores = {token: score for token, (_, score) in zip(tokens, pieces, strict=True)}
    inner = Tokenizer(
        models.BPE(ids, _merges(ids, scores), unk_token=SPECIAL[0], byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    inner.decoder = decoders.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 1)]
    )
    inner.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<unk>", clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _pieces(data: bytes, name: str) -> list[tuple[str, float]]:
    """Text and score of each token."""
    pieces, place = [], 4
    try:
        while place < len(data):
            score, length = struct.unpack_from("<fi", data, place)
            place += 8 + length
            if length < 0 or place > len(data):
                raise ValueError("a token runs past its end")
            pieces.append((data[place - length : place].decode(), score))
    except (struct.error, ValueError) as error:
        raise InputError(
            f"{name} is not a whole llama2.c tokenizer ({error}); give the tokenizer.bin that "
            "belongs to the model"
        ) from None
    if len(pieces) < 3 or [text.strip() for text, _ in pieces[1:3]] != ["<s>", "</s>"]:
        raise InputError(
            f"{name} is not a llama2.c tokenizer: its tokens 1 and 2 are not <s> and </s>; give "
            "the tokenizer.bin that belongs to the model"
        )
    return pieces


def _merges(ids: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every two tokens that join to a third, the third with the highest score first."""
    pairs = [
        (token[:cut], token[cut:])
        for token in ids
        if token not in SPECIAL
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    return sorted(pairs, key=lambda pair: -scores[pair[0] + pair[1]])
