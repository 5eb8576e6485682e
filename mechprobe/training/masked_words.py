"""Masked language modelling: an encoder learns to name the words that are hidden from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.tasks.batches import Batch, Encoded
from mechprobe.training.fit import StateStore
from mechprobe.training.fresh import FreshSettings, fit_fresh

NOT_ASKED = -100
"""Label of a token that the loss leaves out."""


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden (Devlin et al. 2019, section 3.1).

    Args:
        mask_id: the token that hides a word.
        special: ids that are never hidden.
        n_ids: size of the vocabulary; random tokens are drawn from it.
        share: of the real tokens, how many are asked about.

    Raises:
        InputError: a share outside (0, 1), or no id left to draw.
    """

    mask_id: int
    special: frozenset[int]
    n_ids: int
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"{self.share} of the tokens cannot be masked; give a share in (0, 1)")
        if not set(range(self.n_ids)) - self.special:
            raise InputError(f"all {self.n_ids} ids are special; there is no word to hide")


def hide_words(batch: Batch, masking: Masking, seed: int) -> tuple[Batch, Int[Tensor, "batch pos"]]:
    """A batch with some tokens hidden, and what stood there.

    Of the tokens asked about 80 % become the mask, 10 % a random word, 10 % stay. At least one
    token a batch is asked about.

    Returns:
        The batch, and labels that are -100 where nothing is asked.
    """
    rng = np.random.default_rng(seed)
    tokens = batch.tokens.cpu().numpy()
    special = list(masking.special)
    words = batch.attention_mask.cpu().numpy().astype(bool) & ~np.isin(tokens, special)
    asked = words & (rng.random(tokens.shape) < masking.share)
    if not asked.any() and words.any():
        asked.flat[rng.choice(np.flatnonzero(words))] = True
    draw = rng.random(tokens.shape)
    plain = np.setdiff1d(np.arange(masking.n_ids), special)
    shown = np.where(asked & (draw < 0.8), masking.mask_id, tokens)
    shown = np.where(asked & (draw >= 0.9), rng.choice(plain, tokens.shape), shown)
    labels = torch.from_numpy(np.where(asked, tokens, NOT_ASKED)).to(batch.tokens)
    return replace(batch, tokens=torch.from_numpy(shown).to(batch.tokens)), labels


def masked_loss(
    logits: Float[Tensor, "batch pos vocab"], labels: Int[Tensor, "batch pos"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the hidden words."""
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_ASKED
    )


def fit_masked(
    model: HookedModel,
    data: Encoded,
    masking: Masking,
    settings: FreshSettings,
    *,
    batch_size: int = 32,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 500,
) -> None:
    """Train all weights of an encoder in place.

    Which sentences a step has and which of their words are hidden depend on the seed and the step.

    Args:
        model: an encoder with its masked-LM head.
        data: encoded sentences; labels are not read.
        on_step: called with (step, loss) after each step.
        store, save_every: as in ``fit_fresh``.

    Raises:
        InputError: no sentences.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    if not len(data):
        raise InputError("masked language modelling needs sentences; the data are empty")
    size = min(batch_size, len(data))
    per_epoch = len(data) // size
    order: dict[int, list[Batch]] = {}

    def loss_at(model: HookedModel, step: int) -> Tensor:
        epoch, place = divmod(step, per_epoch)
        if epoch not in order:
            order.clear()
            shuffle = 1_000_003 * seed + epoch
            order[epoch] = data.batches(size, shuffle_seed=shuffle, drop_last=True)
        batch = order[epoch][place].to(next(model.parameters()).device)
        hidden, labels = hide_words(batch, masking, (seed + 1) * 10_000_019 + step)
        return masked_loss(forward(model, hidden), labels)

    fit_fresh(model, loss_at, settings, on_step=on_step, store=store, save_every=save_every)


@torch.no_grad()
def masked_accuracy(
    model: HookedModel, data: Encoded, masking: Masking, *, batch_size: int = 64, seed: int = 0
) -> float:
    """Share of hidden words that the model names right, NaN where nothing is hidden."""
    right, asked = 0, 0
    for i, batch in enumerate(data.batches(batch_size)):
        batch = batch.to(next(model.parameters()).device)
        hidden, labels = hide_words(batch, masking, (seed + 1) * 10_000_019 + i)
        here = labels != NOT_ASKED
        right += int((forward(model, hidden).argmax(-1)[here] == labels[here]).sum())
        asked += int(here.sum())
    return right / asked if asked else float("nan")
