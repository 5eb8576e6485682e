"""The bilinear probe that picks each word's head, and its control (Hewitt and Liang 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mechprobe.probes.activations import WordVectors
from mechprobe.probes.linear import NO_LABEL, labels_of_units
from mechprobe.probes.objective import Objective, Params, Side
from mechprobe.tasks.treebank import ROOT, Sentence


def head_objective(*, control_seed: int | None = None) -> Objective:
    """Word i's head is the word j of its sentence with the largest h_i^T W h_j.

    Cross-entropy over the words of the sentence (section 3.2). The root is not asked about. Score
    it with ``label_accuracy``.

    Args:
        control_seed: train on the control instead (section 2.2): each word type draws once whether
            its words' head is the word itself, the first or the last word of the sentence.
    """

    def start(d: int, generator: torch.Generator) -> Params:
        w = torch.empty(d, d, dtype=torch.float64)
        return {"W": w.uniform_(-1 / d, 1 / d, generator=generator)}

    def scores(params: Params, vectors: Tensor, side: Side) -> Tensor:
        """[site, unit, word]: -inf where a sentence has no such word."""
        asking = side.pad(torch.einsum("sud,sde->sue", vectors, params["W"]))
        found = torch.einsum("sbie,sbje->sbij", asking, side.pad(vectors))
        found = found.masked_fill(~side.real[:, None, :], -torch.inf)
        return found.flatten(1, 2)[:, side.place]

    def losses(params: Params, vectors: Tensor, side: Side, targets: Tensor | None) -> Tensor:
        assert targets is not None
        gold = targets[side.real]
        asked = gold >= 0
        found = scores(params, vectors, side)[:, asked].log_softmax(-1)
        picked = found.gather(-1, gold[asked].expand(found.shape[:2])[..., None])
        return -picked.sum((1, 2))

    def predict(params: Params, vectors: Tensor, side: Side) -> Tensor:
        return scores(params, vectors, side).argmax(-1)

    @cache
    def rule(word: str) -> int:
        assert control_seed is not None
        return int(np.random.default_rng([control_seed, *word.encode()]).integers(3))

    def label_of(sentence: Sentence) -> np.ndarray:
        heads = np.array(sentence.heads)
        if control_seed is None:
            return np.where(heads == ROOT, NO_LABEL, heads)
        n = len(sentence)
        drawn = [(i, 0, n - 1)[rule(word)] for i, word in enumerate(sentence.words)]
        return np.where(heads == ROOT, NO_LABEL, drawn)

    def targets(data: WordVectors) -> Sequence[np.ndarray]:
        return labels_of_units(data, label_of)

    name = "head" if control_seed is None else "head control"
    return Objective(name, start, losses, targets, per="unit", predict=predict)
