"""Run any supported model, with functions at hook points of given names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import HookedEncoder, HookedEncoderDecoder, HookedTransformer
from transformer_lens.hook_points import HookPoint

from mechprobe.errors import InputError
from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier
from mechprobe.models.encoder_decoder import encoder_decoder_logits
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.tasks.batches import Batch

HookedModel: TypeAlias = (
    HookedTransformer
    | HookedEncoder
    | HookedClassifier
    | HookedDecoderClassifier
    | HookedFixedLengthEncoder
    | HookedEncoderDecoder
)


class HookDidNotFire(RuntimeError):
    """A hook was installed and the model ran without ever calling it."""


def forward(model: HookedModel, batch: Batch) -> Float[Tensor, "batch ..."]:
    """Run any supported model on a batch, on the model's own device.

    Returns:
        A classifier's logits [batch, label]; a decoder's [batch, pos, vocab]; an encoder's
        masked-LM logits [batch, pos, vocab], or its last hidden states [batch, pos, d_model] when
        it was loaded from weights without a masked-LM head; an encoder-decoder's teacher-forced
        logits [batch, dec_pos, vocab] of a ``Seq2SeqBatch``.
    """
    if isinstance(model, HookedEncoderDecoder):
        return encoder_decoder_logits(model, batch)
    device = next(model.parameters()).device
    tokens, mask = batch.tokens.to(device), batch.attention_mask.to(device)
    if isinstance(model, HookedTransformer):
        return model(tokens, attention_mask=mask)
    return model(tokens, token_type_ids=batch.segments.to(device), one_zero_attention_mask=mask)


def run_with_named_hooks(
    model: HookedModel,
    batch: Batch,
    names: Iterable[str],
    visit: Callable[[str, Tensor], Tensor | None],
) -> Float[Tensor, "batch ..."]:
    """Run with ``visit(name, value)`` at hook points; what it returns (unless None) replaces value.

    Hooks are removed afterwards, also when an exception passes.

    Raises:
        InputError: the model has no hook of that name.
        HookDidNotFire: the model ran without calling one of them.
    """
    fired: set[str] = set()
    handles = []

    def hook_for(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            fired.add(name)
            return visit(name, output)

        return hook

    names = list(names)
    known: dict[str, HookPoint] = model.hook_dict
    try:
        for name in names:
            if name not in known:
                raise InputError(f"no hook {name!r} here; nearest: {_nearest(name, known)}")
            handles.append(known[name].register_forward_hook(hook_for(name)))
        logits = forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if silent := [name for name in names if name not in fired]:
        raise HookDidNotFire(
            f"hook {silent[0]!r} did not fire ({len(silent)} of {len(names)} did not), so an edit "
            f"there changes nothing; nearest hooks: {_nearest(silent[0], known)}"
        )
    return logits


def _nearest(name: str, known: Iterable[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, [n for n in known if n != name], 3, 0.0))
