"""The vectors a probe reads at each layer: the residual stream and what the submodules write to it.

A stream is written ``resid.3`` or ``attn_out.0``. The residual stream has one point more than
there are blocks: ``resid.0`` is what block 0 reads (Hugging Face's ``hidden_states[0]``),
``resid.L`` what the last of L blocks leaves, in a decoder before its final LayerNorm. In an
encoder with LayerNorm after each sum (BERT) ``resid`` and ``mid`` are taken after the LayerNorm.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, run_with_named_hooks
from mechprobe.tasks.batches import Batch

PARTS: Mapping[str, str] = {
    "resid": "what block l reads; at l = number of blocks, what the last one leaves",
    "mid": "between attention and MLP of block l",
    "z": "attention of block l before W_O, heads side by side",
    "attn_out": "attention of block l, as added to the residual stream",
    "mlp_pre": "MLP neurons of block l before the activation",
    "mlp_post": "MLP neurons of block l after the activation",
    "mlp_out": "MLP of block l, as added to the residual stream",
}
_INNER = {
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_pre": "mlp.hook_pre",
    "mlp_post": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
}
_FORM = re.compile(r"([a-z_]+)\.(\d+)")


@dataclass(frozen=True, order=True)
class Stream:
    """One point of a model that holds a vector a token; written ``part.layer``."""

    part: str
    layer: int

    def __str__(self) -> str:
        return f"{self.part}.{self.layer}"

    @classmethod
    def parse(cls, text: str | Stream) -> Stream:
        """Read ``"resid.3"``.

        Raises:
            InputError: not a stream's name.
        """
        if isinstance(text, Stream):
            return text
        found = _FORM.fullmatch(text.strip())
        if found is None or found[1] not in PARTS:
            raise InputError(
                f"{text!r} is not a stream; write one of {', '.join(PARTS)} and a layer, such as "
                "'resid.3'"
            )
        return cls(found[1], int(found[2]))


def streams(
    model: HookedModel, parts: Iterable[str] = ("resid", "attn_out", "mlp_out")
) -> list[Stream]:
    """Every stream of the given parts that the model has, part by part, from the first layer.

    Raises:
        InputError: an unknown part, or a model that has none of it (an attention-only model and
            its MLPs).
    """
    n_layers, found = model.cfg.n_layers, []
    for part in parts:
        if part not in PARTS:
            raise InputError(f"{part!r} is no part of a model; expected {', '.join(PARTS)}")
        layers = range(n_layers + (part == "resid"))
        found += [Stream(part, layer) for layer in layers]
        stream_hook(model, found[-1])
    return found


def stream_hook(model: HookedModel, stream: Stream | str) -> str:
    """Where a stream lives in this model, as a TransformerLens hook name.

    Raises:
        InputError: the model has no such stream.
    """
    stream = Stream.parse(stream)
    known, layer = model.hook_dict, stream.layer
    normalised = "blocks.0.hook_normalized_resid_post" in known
    match stream.part:
        case "resid" if layer == 0:
            name = "blocks.0.hook_resid_pre"
        case "resid":
            post = "hook_normalized_resid_post" if normalised else "hook_resid_post"
            name = f"blocks.{layer - 1}.{post}"
        case "mid":
            name = f"blocks.{layer}.{'ln1.hook_normalized' if normalised else 'hook_resid_mid'}"
        case part:
            name = f"blocks.{layer}.{_INNER[part]}"
    silent = getattr(model.cfg, "attn_only", False) and stream.part in ("mid", "mlp_out")
    if name not in known or silent:
        near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.0))
        raise InputError(
            f"no stream {str(stream)!r} in this model of {model.cfg.n_layers} blocks; hooks "
            f"nearest to {name}: {near}"
        )
    return name


def run_with_streams(
    model: HookedModel, batch: Batch, wanted: Iterable[Stream | str]
) -> tuple[Float[Tensor, "batch ..."], dict[Stream, Float[Tensor, "batch pos d"]]]:
    """Outputs of the model (as ``forward``) and the vectors at each stream.

    Values are not detached: a loss on them reaches the weights that made them. Run under
    ``torch.no_grad()`` to keep memory small.

    Raises:
        InputError: a stream the model does not have.
        HookDidNotFire: the model ran without passing one of them.
    """
    named = {Stream.parse(one): stream_hook(model, one) for one in wanted}
    values: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        values[name] = value.flatten(2)  # z has heads and their width

    out = run_with_named_hooks(model, batch, dict.fromkeys(named.values()), keep)
    return out, {stream: values[name] for stream, name in named.items()}
