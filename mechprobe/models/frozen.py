"""A frozen model as plain weights: what a fast path needs to run it without hooks or modules.

``mechprobe.models.freeze.freeze`` fills these from any supported model. A model is one stack of
stages (two for an encoder-decoder); a stage adds what its parts write to the residual stream, and
a part is an attention or an MLP layer with the norm it reads through. Weights are
[out, into], contiguous, detached; attention's scale is folded into the queries' weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch


class CannotFreeze(Exception):
    """A setting of the model that the fast path does not know; the text names it."""


@dataclass(frozen=True)
class Norm:
    """LayerNorm ("layer") or RMSNorm ("rms"); weight and bias may be missing (folded)."""

    kind: str
    weight: Float[Tensor, " d_model"] | None
    bias: Float[Tensor, " d_model"] | None
    eps: float


@dataclass(frozen=True)
class Attention:
    """Weights of an attention layer.

    Attributes:
        site: the layer-wide head site.
        bias: which of the batch's score biases is added ("" none; see ``Start.biases``).
        turned: "" or the name of the batch's rotary angles.
        memory: keys and values are read from the encoder's output.
    """

    site: Site
    n_heads: int
    n_kv: int
    d_head: int
    w_q: Float[Tensor, "q d_model"]
    b_q: Float[Tensor, " q"]
    w_k: Float[Tensor, "kv d_model"]
    b_k: Float[Tensor, " kv"]
    w_v: Float[Tensor, "kv d_model"]
    b_v: Float[Tensor, " kv"]
    w_o: Float[Tensor, "q d_model"]
    b_o: Float[Tensor, " d_model"]
    bias: str
    turned: str = ""
    memory: bool = False


@dataclass(frozen=True)
class MLP:
    """Weights of an MLP: act(x W_in + b_in) W_out + b_out; gated: (act(x W_gate) (x W_in) + b_in).

    Attributes:
        site: the MLP's site; its neurons' is ``neurons``.
        act: "gelu", "gelu_tanh", "relu" or "silu".
    """

    site: Site
    neurons: Site
    w_in: Float[Tensor, "neuron d_model"]
    b_in: Float[Tensor, " neuron"]
    w_gate: Float[Tensor, "neuron d_model"] | None
    w_out: Float[Tensor, "neuron d_model"]
    b_out: Float[Tensor, " d_model"]
    act: str


@dataclass(frozen=True)
class Part:
    """A layer and the norm it reads the residual stream through (None: as it is)."""

    layer: Attention | MLP
    norm: Norm | None


@dataclass(frozen=True)
class Stage:
    """x -> norm(x + the sum of the parts of x); two parts run side by side."""

    parts: tuple[Part, ...]
    norm: Norm | None


@dataclass(frozen=True)
class Stack:
    """Stages in order, and the norm after the last."""

    stages: tuple[Stage, ...]
    norm: Norm | None


@dataclass(frozen=True)
class Turn:
    """Rotary angles: cosine and sine [batch or 1, 1, pos, rotary_dim]."""

    cos: Float[Tensor, "batch 1 pos rotary"]
    sin: Float[Tensor, "batch 1 pos rotary"]
    adjacent: bool


@dataclass(frozen=True)
class Start:
    """What a batch brings to the stages.

    Attributes:
        streams: the residual stream each stack starts with, [batch, pos, d_model].
        biases: by name, what is added to scores [batch or 1, head or 1, query or 1, key]; None:
            nothing.
        masked_rows: whether some query may look at nothing (its pattern is then 0).
        turns: rotary angles by name.
        read: the one position of each example that the read-out looks at; None: all of them.
    """

    streams: tuple[Tensor, ...]
    biases: dict[str, Tensor | None]
    masked_rows: bool
    turns: dict[str, Turn]
    read: Int[Tensor, " batch"] | None


@dataclass(frozen=True)
class Frozen:
    """A model's weights and how a batch enters and leaves them.

    Attributes:
        stacks: one, or encoder and decoder.
        start: of a batch on the model's device.
        read_out: from the last stream [rows, pos (1 where ``Start.read``), d_model] to logits
            [rows, ...], differentiable.
    """

    stacks: tuple[Stack, ...]
    start: Callable[[Batch], Start]
    read_out: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
