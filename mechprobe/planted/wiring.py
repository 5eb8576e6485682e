"""Transformers written down by hand: heads that look somewhere and copy, MLPs that are gates.

The residual stream is a list of named spaces; every token's identity, position and a constant 1
come in through the embeddings. Nothing is learned, there is no LayerNorm, and attention is so sharp
that a head looks at one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.weights import decoder_from_weights

SHARP = 40.0  # difference of attention scores between the place a head looks at and all others


@dataclass(frozen=True)
class Head:
    """Looks where ``query`` meets ``key``, and writes what it reads there.

    Attributes:
        query, key: (space, matrix [width, m]) that give the two sides of the score.
        value: (space, matrix [width, m]) read at the place looked at.
        write: (space, matrix [n, width]) where it goes.
    """

    query: tuple[str, Float[np.ndarray, "query m"]]
    key: tuple[str, Float[np.ndarray, "key m"]]
    value: tuple[str, Float[np.ndarray, "value n"]]
    write: tuple[str, Float[np.ndarray, "n write"]]


@dataclass(frozen=True)
class Gate:
    """A hidden unit: relu(sum of readings + bias), written with weights.

    Attributes:
        read: (space, index) -> weight.
        bias: added before the relu.
        write: (space, index) -> weight.
    """

    read: Mapping[tuple[str, int], float]
    bias: float
    write: Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class Wiring:
    """A whole model.

    Attributes:
        n_tokens: vocabulary.
        n_ctx: positions.
        spaces: further spaces of the residual stream and their widths.
        heads: (layer, head) -> what it does; slots left out get weights of zero.
        n_layers, n_heads: the grid of slots.
        gates: hidden units of each layer's MLP.
        output: (space, index) -> token -> weight of its logit.
    """

    n_tokens: int
    n_ctx: int
    spaces: Mapping[str, int]
    n_layers: int
    n_heads: int
    heads: Mapping[tuple[int, int], Head]
    output: Mapping[tuple[str, int], Mapping[int, float]]
    gates: Mapping[int, Sequence[Gate]] = field(default_factory=dict)

    def build(self) -> HookedModel:
        """The model, in float32, causal.

        Raises:
            InputError: a head, gate or output names a space, index or slot that does not exist.
        """
        widths = {"token": self.n_tokens, "position": self.n_ctx, "one": 1, **self.spaces}
        ends = np.cumsum(list(widths.values()))
        start = dict(zip(widths, ends - np.array(list(widths.values())), strict=True))
        d_model = int(ends[-1])

        def at(space: str, index: int = 0) -> int:
            if space not in widths or not 0 <= index < widths[space]:
                raise InputError(f"no place {index} in space {space!r}; there are {dict(widths)}")
            return int(start[space]) + index

        def rows(space: str) -> slice:
            return slice(at(space), at(space) + widths[space])

        d_head = max(
            (m.shape[1] for h in self.heads.values() for m in (h.query[1], h.value[1])), default=1
        )
        arrays = self._embeddings(d_model, rows, at)
        for layer in range(self.n_layers):
            name = f"blocks.{layer}.attn"
            shape = (self.n_heads, d_model, d_head)
            q, k, v = (np.zeros(shape) for _ in range(3))
            o = np.zeros((self.n_heads, d_head, d_model))
            for slot in range(self.n_heads):
                head = self.heads.get((layer, slot))
                if head is None:
                    continue
                for weight, (space, matrix) in ((q, head.query), (k, head.key), (v, head.value)):
                    weight[slot, rows(space), : matrix.shape[1]] = matrix
                space, matrix = head.write
                o[slot, : matrix.shape[0], rows(space)] = matrix
            arrays |= {f"{name}.W_{letter}": weight for letter, weight in zip("QKVO", (q, k, v, o),
                                                                              strict=True)}
        d_mlp = max((len(units) for units in self.gates.values()), default=0)
        for layer in range(self.n_layers if d_mlp else 0):
            into, out = np.zeros((d_model, d_mlp)), np.zeros((d_mlp, d_model))
            bias = np.zeros(d_mlp)
            for unit, gate in enumerate(self.gates.get(layer, ())):
                for place, weight in gate.read.items():
                    into[at(*place), unit] = weight
                for place, weight in gate.write.items():
                    out[unit, at(*place)] = weight
                bias[unit] = gate.bias
            name = f"blocks.{layer}.mlp"
            arrays |= {f"{name}.W_in": into, f"{name}.b_in": bias, f"{name}.W_out": out}
        return decoder_from_weights(self._config(d_model, d_head, d_mlp), arrays)

    def _embeddings(self, d_model: int, rows, at) -> dict[str, np.ndarray]:
        tokens = np.zeros((self.n_tokens, d_model))
        tokens[:, rows("token")] = np.eye(self.n_tokens)
        tokens[:, at("one")] = 1
        places = np.zeros((self.n_ctx, d_model))
        places[:, rows("position")] = np.eye(self.n_ctx)
        logits = np.zeros((d_model, self.n_tokens))
        for place, weights in self.output.items():
            for token, weight in weights.items():
                logits[at(*place), token] = weight
        return {"embed.W_E": tokens, "pos_embed.W_pos": places, "unembed.W_U": logits}

    def _config(self, d_model: int, d_head: int, d_mlp: int) -> dict[str, object]:
        config: dict[str, object] = {
            "n_layers": self.n_layers, "n_heads": self.n_heads, "d_model": d_model,
            "d_head": d_head, "n_ctx": self.n_ctx, "d_vocab": self.n_tokens,
            "normalization_type": None, "attn_scale": 1.0, "use_attn_scale": True,
        }
        return config | ({"d_mlp": d_mlp, "act_fn": "relu"} if d_mlp else {"attn_only": True})


def look_at(position: int, n_ctx: int) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    """Query and key of a head that always looks at one position (itself before it)."""
    key = np.zeros((n_ctx, 1))
    key[position] = SHARP
    return ("one", np.ones((1, 1))), ("position", key)


def look_back(n_ctx: int, steps: int = 1) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    """Query and key of a head that looks some positions back (the first ones at themselves)."""
    query = np.zeros((n_ctx, n_ctx))
    for position in range(n_ctx):
        query[position, max(position - steps, 0)] = SHARP
    return ("position", query), ("position", np.eye(n_ctx))


def look_for_match(
    query_space: str, key_space: str, width: int
) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    """Query and key of a head that looks where ``key_space`` equals its own ``query_space``."""
    return (query_space, SHARP * np.eye(width)), (key_space, np.eye(width))
