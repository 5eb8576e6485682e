"""Settings of pretraining and the sizes of its models; nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SIZES: dict[str, dict[str, int]] = {
    "0.1M": {"n_layers": 2, "n_heads": 4, "d_model": 64},
    "0.3M": {"n_layers": 4, "n_heads": 4, "d_model": 48},
    "1M": {"n_layers": 4, "n_heads": 4, "d_model": 112},
    "4M": {"n_layers": 4, "n_heads": 8, "d_model": 256},
    "10M": {"n_layers": 5, "n_heads": 8, "d_model": 384},
    "27M": {"n_layers": 8, "n_heads": 8, "d_model": 512},
}
"""Layers, heads and width by name; parameters counted with 2,048 tokens (0.1M: without them)."""

VOCABULARIES = ("word", "bpe")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class PretrainSettings:
    """Everything that decides a pretrained model; sizes in tokens, sentences, steps."""

    text: tuple[str, ...] = _option((), "text files, or folders of them (.txt, .txt.xz, .txt.gz)")
    size: str = _option("1M", f"model size: {', '.join(SIZES)}")
    vocabulary: str = _option("bpe", "kind of vocabulary, trained on the text: bpe or word")
    n_vocabulary: int = _option(2_048, "tokens of the vocabulary")
    lower: bool = _option(False, "read the text in lower case")
    split: bool = _option(True, "break lines into sentences")
    file_limit: int = _option(6_000_000, "characters read of each file; 0 = all")
    held_out: float = _option(0.01, "share of the text that is held out")
    n_ctx: int = _option(64, "context of the model in tokens")
    batch: int = _option(32, "rows of a step")
    steps: int = _option(3_000, "optimiser steps")
    lr: float = _option(2e-3, "peak learning rate of Adam; warm-up, then linear decay")
    warmup: int = _option(100, "steps in which the learning rate rises")
    n_checkpoints: int = _option(6, "saved points of training, on a logarithmic grid")
    first_checkpoint: float = _option(0.01, "the first of them, as a share of the training")
    seed: int = _option(0, "of the weights and of the order of the text")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    precision: str = _option("float32", "matrix products in float32 or bfloat16")
