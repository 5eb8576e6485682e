"""Models of karpathy/llama2.c: its float32 checkpoint (version 0) and its tokenizer.bin.

A checkpoint is seven int32 (d_model, hidden width, layers, heads, key-value heads, vocabulary,
context), then float32 matrices kind by kind, each for all layers. A negative vocabulary says that
an unembedding of its own follows; else it is the embedding. The tables of rotary angles at the end
are read over, as in llama2.c itself, which computes them: adjacent pairs, base 10,000.
"""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.build import empty_decoder, make_config, vocabulary_size
from mechprobe.models.llama2c_tokenizer import read_tokenizer

SUFFIXES = (".bin", ".bin.xz", ".bin.gz")
OPENERS = {".xz": lzma.open, ".gz": gzip.open}
MAGIC = 0x616B3432  # "ak42", with which llama2.c's later versions begin


@dataclass(frozen=True)
class Header:
    """The seven numbers a checkpoint begins with; ``d_vocab`` is negative for an untied one."""

    d_model: int
    d_mlp: int
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_vocab: int
    n_ctx: int

    @property
    def plausible(self) -> bool:
        if any(number < 1 for number in (*astuple(self)[:5], abs(self.d_vocab), self.n_ctx)):
            return False
        split = self.d_model % self.n_heads == 0 and self.d_model // self.n_heads % 2 == 0
        return split and self.n_heads % self.n_key_value_heads == 0

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every array, in the order of the file."""
        layers, wide, hidden = self.n_layers, self.d_model, self.d_mlp
        d_head = wide // self.n_heads
        narrow = d_head * self.n_key_value_heads
        yield "tokens", (abs(self.d_vocab), wide)
        yield "attention norm", (layers, wide)
        yield "query", (layers, wide, wide)
        yield "key", (layers, narrow, wide)
        yield "value", (layers, narrow, wide)
        yield "out", (layers, wide, wide)
        yield "mlp norm", (layers, wide)
        yield "gate", (layers, hidden, wide)
        yield "down", (layers, wide, hidden)
        yield "up", (layers, hidden, wide)
        yield "final norm", (wide,)
        yield "angles", (2, self.n_ctx, d_head // 2)
        if self.d_vocab < 0:
            yield "unembed", (-self.d_vocab, wide)


def load_llama2c(
    path: str | Path, tokenizer: PreTrainedTokenizerBase | str | Path | None = None
) -> HookedTransformer:
    """A llama2.c checkpoint (version 0, float32; .bin, .bin.xz, .bin.gz) as a hooked decoder.

    Args:
        path: the checkpoint.
        tokenizer: a tokenizer, or the path of a llama2.c tokenizer.bin (also packed); when None,
            ``tok<vocabulary size>.bin`` or ``tokenizer.bin`` (also packed) is looked for beside
            the checkpoint and in a folder ``tokenizers`` beside its own.

    Raises:
        InputError: no such file, one that is not a whole version 0 checkpoint, or a tokenizer with
            more tokens than the model.
    """
    path = Path(path).expanduser()
    header, arrays = _read(path)
    if tokenizer is None:
        tokenizer = _beside(path, abs(header.d_vocab))
    if isinstance(tokenizer, str | Path):
        tokenizer = read_tokenizer(unpacked(Path(tokenizer).expanduser()), str(tokenizer))
    if tokenizer is not None and vocabulary_size(tokenizer) > abs(header.d_vocab):
        raise InputError(
            f"the tokenizer has {vocabulary_size(tokenizer)} tokens and {path.name} only "
            f"{abs(header.d_vocab)}; give the tokenizer it was trained with"
        )
    model = empty_decoder(_config(header), tokenizer)
    if tokenizer is not None:
        model.cfg.tokenizer_prepends_bos = len(tokenizer("")["input_ids"]) > 0
    model.load_state_dict(_weights(arrays, model.cfg), strict=False)  # biases stay at 0
    return model


def is_llama2c(path: Path) -> bool:
    """Whether a path, which need not exist, is named like a llama2.c checkpoint and no folder."""
    return path.name.endswith(SUFFIXES) and not path.expanduser().is_dir()


def unpacked(path: Path) -> bytes:
    """A file's content, unpacked when its name ends in .xz or .gz; raises InputError."""
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"no file {path}; give the path of a llama2.c checkpoint") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read ({error}); check that it is whole") from None


def _read(path: Path) -> tuple[Header, dict[str, np.ndarray]]:
    data = unpacked(path)
    if data[:4] == struct.pack("<I", MAGIC):
        raise InputError(
            f"{path} is a llama2.c checkpoint of a later version; export version 0 (float32)"
        )
    header = Header(*struct.unpack("<7i", data[:28])) if len(data) >= 28 else None
    if header is None or not header.plausible:
        raise InputError(
            f"{path} is not a llama2.c checkpoint: it does not begin with the seven sizes of a "
            "model; give a version 0 (float32) export"
        )
    expected = 28 + 4 * sum(math.prod(shape) for _, shape in header.shapes())
    if len(data) != expected:
        raise InputError(
            f"{path} has {len(data)} bytes, but its header ({header.n_layers} layers, d_model "
            f"{header.d_model}, vocabulary {abs(header.d_vocab)}) asks for {expected}; it is cut "
            "off or of another kind: fetch it again"
        )
    arrays, start = {}, 28
    for name, shape in header.shapes():
        count = math.prod(shape)
        arrays[name] = np.frombuffer(data, "<f4", count, start).reshape(shape)
        start += 4 * count
    return header, arrays


def _beside(path: Path, d_vocab: int) -> Path | None:
    for folder in (path.parent, path.absolute().parent.parent / "tokenizers"):
        for name in (f"tok{d_vocab}", "tokenizer"):
            for suffix in SUFFIXES:
                if (found := folder / f"{name}{suffix}").is_file():
                    return found
    return None


def _config(header: Header) -> HookedTransformerConfig:
    grouped = header.n_key_value_heads != header.n_heads
    return make_config(
        n_layers=header.n_layers,
        n_heads=header.n_heads,
        n_key_value_heads=header.n_key_value_heads if grouped else None,
        d_model=header.d_model,
        d_mlp=header.d_mlp,
        d_vocab=abs(header.d_vocab),
        n_ctx=header.n_ctx,
        eps=1e-5,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=True,
        original_architecture="llama2.c",
    )


def _weights(arrays: dict[str, np.ndarray], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    given = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    mark = "_" if cfg.n_key_value_heads else ""
    n_kv = cfg.n_key_value_heads or cfg.n_heads
    found = {
        "embed.W_E": given["tokens"],
        "ln_final.w": given["final norm"],
        "unembed.W_U": given.get("unembed", given["tokens"]).T,
    }
    for layer in range(cfg.n_layers):
        block = f"blocks.{layer}"
        projections = (("query", "W_Q", cfg.n_heads), ("key", "W_K", n_kv), ("value", "W_V", n_kv))
        for name, here, n in projections:
            first = "" if name == "query" else mark
            rows = given[name][layer]
            found[f"{block}.attn.{first}{here}"] = rearrange(rows, "(i h) m -> i m h", i=n)
        out = given["out"][layer]
        found[f"{block}.attn.W_O"] = rearrange(out, "m (i h) -> i h m", i=cfg.n_heads)
        found[f"{block}.ln1.w"] = given["attention norm"][layer]
        found[f"{block}.ln2.w"] = given["mlp norm"][layer]
        for name, here in (("gate", "W_gate"), ("up", "W_in"), ("down", "W_out")):
            found[f"{block}.mlp.{here}"] = given[name][layer].T
    return found
