"""Vocabularies trained on a text corpus: whole words, or byte-pair encoding."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError

KINDS = ("word", "bpe")
BOS, UNK, PAD = "<s>", "<unk>", "<pad>"


def train_tokenizer(
    texts: Iterable[str], kind: str = "bpe", size: int = 2048
) -> PreTrainedTokenizerFast:
    """A tokenizer with at most ``size`` tokens, begin (also end), unknown and padding included.

    Args:
        texts: lines of the corpus.
        kind: "word": the most frequent words and punctuation marks, other words are unknown;
            "bpe": byte-level byte-pair encoding (Sennrich et al. 2016), which knows every text.

    Raises:
        InputError: an unknown kind, a size that holds nothing, or texts without a word.
    """
    if kind not in KINDS:
        raise InputError(f"unknown vocabulary {kind!r}; expected one of {', '.join(KINDS)}")
    least = 300 if kind == "bpe" else 4
    if size < least:
        raise InputError(f"a {kind} vocabulary of {size} tokens is too small; give {least} or more")
    special = [PAD, BOS, UNK]
    if kind == "word":
        inner = Tokenizer(models.WordLevel(unk_token=UNK))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, special_tokens=special, show_progress=False
        )
    else:
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # pyright: ignore
        inner.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    inner.train_from_iterator(texts, trainer)
    if inner.get_vocab_size() <= len(special):
        raise InputError("the texts have no words to make a vocabulary of; give text")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BOS, eos_token=BOS, pad_token=PAD, unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )
