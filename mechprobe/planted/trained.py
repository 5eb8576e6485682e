"""A small model that learned induction: redundant heads emerge, and the truth is by enumeration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int

from mechprobe.errors import InputError
from mechprobe.locate.circuits import find_circuits
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel, forward
from mechprobe.planted.cases import Case
from mechprobe.runs import progress as progress_bar
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.prompts import PromptTask

VOCAB, LENGTH, LAYERS, HEADS, WIDTH = 24, 20, 2, 4, 64


def trained_induction(
    seed: int = 0, *, steps: int = 2_000, batch_size: int = 64, n: int = 128, progress: bool = True
) -> Case:
    """Train a 2-layer attention-only decoder to continue repeats, and name its minimal circuits.

    Each sequence is a random string that starts again at a random offset, so that only attention to
    what followed the earlier occurrence predicts the rest (Olsson et al. 2022). Which heads do so
    differs from seed to seed; the truth is every minimal set of heads that is as accurate as the
    full model under the paired baseline, by enumeration of all subsets.

    Raises:
        InputError: the model did not learn (accuracy below .9): another seed or more steps.
    """
    model = train(seed, steps, batch_size, progress)
    task = PromptTask(*_questions(np.random.default_rng([seed, 99]), n), metric="accuracy",
                      name="trained induction").encode()
    with torch.no_grad():
        reached = float(task.measure(forward(model, task.inputs), task.inputs).mean())
    if reached < 0.9:
        raise InputError(
            f"the induction model reached accuracy {reached:.2f} after {steps} steps, below 0.9; "
            "give another seed or more steps"
        )
    circuits = find_circuits(model, task, baseline="paired", method="exact")
    named = [sorted(map(str, circuit)) for circuit in circuits]
    truth = {"accuracy": reached, "sets": {"main": {"minimal_circuits_paired": named}}}
    return Case("trained induction", "main", model, task, truth)


def train(seed: int, steps: int, batch_size: int, progress: bool = True) -> HookedModel:
    """A decoder trained on fresh repeated strings; its weights depend on the seed alone."""
    model = build_decoder(
        n_layers=LAYERS, n_heads=HEADS, d_model=WIDTH, n_ctx=LENGTH, d_vocab=VOCAB, attn_only=True,
        normalization_type="LN", seed=seed,
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    rng = np.random.default_rng([seed, 1])
    steps_of = range(steps)
    for step in progress_bar(steps_of, "train induction") if progress else steps_of:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100, 2 * (steps - step) / steps)
        tokens, scored = strings(rng, batch_size)
        logits = forward(model, _batch(tokens))[:, :-1]
        target = torch.from_numpy(np.where(scored[:, 1:], tokens[:, 1:], -100))
        F.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return model.requires_grad_(False)


def strings(
    rng: np.random.Generator, n: int
) -> tuple[Int[np.ndarray, "n pos"], np.ndarray]:
    """Random strings of distinct tokens that start again after 6 to 12 tokens; what is predictable.

    The second array marks tokens that the earlier occurrence foretells.
    """
    first = np.argsort(rng.random((n, VOCAB)), axis=1)
    period = rng.integers(6, 13, n)[:, None]
    place = np.arange(LENGTH)[None]
    return np.take_along_axis(first, place % period, 1), place > period


def _questions(
    rng: np.random.Generator, n: int
) -> tuple[Int[np.ndarray, "n pos"], Int[np.ndarray, "n pos"], Int[np.ndarray, "n"]]:
    """Strings, other strings, and the token that comes next in the first."""
    made: Iterator[tuple[np.ndarray, np.ndarray]] = (_ending(rng, n) for _ in range(2))
    (clean, answers), (corrupt, others) = made
    clash = answers == others
    while clash.any():
        fresh, following = _ending(rng, int(clash.sum()))
        corrupt[clash], others[clash] = fresh, following
        clash = answers == others
    return clean, corrupt, answers


def _ending(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Strings cut before their last token, and that token."""
    tokens, _ = strings(rng, n)
    return tokens[:, :-1], tokens[:, -1]


def _batch(tokens: np.ndarray) -> Batch:
    ids = torch.from_numpy(tokens)
    zero = torch.zeros_like(ids)
    return Batch(
        tokens=ids, segments=zero, attention_mask=torch.ones_like(ids), labels=zero[:, 0],
        index=torch.arange(len(ids)),
    )
