"""Tokenizers to ask with: GPT-2's own, the small language model's, one token a word."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechprobe.models import load_llama2c


@pytest.fixture(scope="session")
def gpt2_tokenizer(data_dir, tmp_path_factory) -> PreTrainedTokenizerFast:
    packed = data_dir / "tokenizers" / "gpt2_tokenizer.json.xz"
    file = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    file.write_bytes(lzma.decompress(packed.read_bytes()))
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), bos_token=end, eos_token=end)


@pytest.fixture(scope="session")
def stories(data_dir):
    """The real language model of 260 k parameters."""
    return load_llama2c(data_dir / "models" / "stories260K.bin.xz")


@pytest.fixture
def word_tokenizer():
    """Builds a tokenizer that knows the words given, one token each."""

    def build(words: str) -> PreTrainedTokenizerFast:
        known = {word: i for i, word in enumerate(["[UNK]", "[BOS]", *words.split()])}
        inner = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
        return PreTrainedTokenizerFast(
            tokenizer_object=inner, unk_token="[UNK]", bos_token="[BOS]"
        )

    return build


def shown(tokenizer, batch, row: int) -> str:
    """The text of a row, without what stands for its beginning."""
    length = int(batch.attention_mask[row].sum())
    return str(tokenizer.decode(batch.tokens[row, :length], skip_special_tokens=True)).strip()


@pytest.fixture
def text():
    return shown


@pytest.fixture
def card_text(repo) -> Path:
    return repo / "tasks" / "behaviours"
