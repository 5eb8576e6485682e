"""Linear and MLP probes of word labels, and control tasks that show what a probe can memorise.

Hewitt and Liang 2019: a control task gives each word type a label drawn at random, so only
memory can solve it; selectivity is accuracy on the real task minus accuracy on the control.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.probes.activations import WordVectors
from mechprobe.probes.bank import ProbeBank, check_streams, laid_out
from mechprobe.probes.objective import Objective, Params, Side
from mechprobe.tasks.treebank import Sentence

NO_LABEL = -1
"""Label of a word that is not asked about: no loss, and no part of the accuracy."""
UNSEEN = -2
"""Label that training never had: no loss, and always counted as wrong."""


@dataclass(frozen=True)
class WordTask:
    """A label for each word.

    Attributes:
        name: for tables.
        labels: names of the labels.
        label_of: from a sentence the label number of each of its words, int64 [word]; -1 for a word
            that is not asked about, -2 for a label that is not in ``labels``.
    """

    name: str
    labels: tuple[str, ...]
    label_of: Callable[[Sentence], np.ndarray]


def tag_task(sentences: Iterable[Sentence], column: str = "upos") -> WordTask:
    """Part of speech ("upos") or relation to the head ("deprel") of each word.

    Args:
        sentences: the training sentences; their tags are the labels.

    Raises:
        InputError: another column, or fewer than two different tags.
    """
    if column not in ("upos", "deprel"):
        raise InputError(f"column {column!r} has no tags here; expected 'upos' or 'deprel'")
    labels = tuple(sorted({tag for sentence in sentences for tag in getattr(sentence, column)}))
    if len(labels) < 2:
        raise InputError(f"{column} has {len(labels)} different tags here; two or more are needed")
    number = {tag: i for i, tag in enumerate(labels)}

    def label_of(sentence: Sentence) -> np.ndarray:
        return np.array([number.get(tag, UNSEEN) for tag in getattr(sentence, column)])

    return WordTask(column, labels, label_of)


def control_task(task: WordTask, sentences: Iterable[Sentence], *, seed: int = 0) -> WordTask:
    """The task's control: each word type has one label, drawn as often as the task has it.

    Hewitt and Liang 2019, section 2. A type's label depends on its spelling and the seed only, so
    types that training never had have one too.

    Args:
        sentences: the training sentences, whose labels give the empirical distribution.
    """
    counts = Counter(int(i) for s in sentences for i in task.label_of(s) if i >= 0)
    share = np.array([counts[i] for i in range(len(task.labels))], dtype=float)
    cumulative = np.cumsum(share / share.sum())

    @cache
    def of_type(word: str) -> int:
        at = np.random.default_rng([seed, *word.encode()]).random()
        return min(int(np.searchsorted(cumulative, at, side="right")), len(cumulative) - 1)

    def label_of(sentence: Sentence) -> np.ndarray:
        drawn = np.array([of_type(word) for word in sentence.words])
        return np.where(task.label_of(sentence) == NO_LABEL, NO_LABEL, drawn)

    return WordTask(f"{task.name} control", task.labels, label_of)


def linear_objective(task: WordTask) -> Objective:
    """The linear probe: softmax of W h + b, mean cross-entropy over words."""
    n = len(task.labels)

    def start(d: int, generator: torch.Generator) -> Params:
        return {"W": _uniform((d, n), d, generator), "b": _uniform((n,), d, generator)}

    def logits(params: Params, vectors: Tensor) -> Tensor:
        return torch.einsum("sud,sdl->sul", vectors, params["W"]) + params["b"][:, None]

    return _classifier(f"linear {task.name}", task, start, logits)


def mlp_objective(task: WordTask, *, hidden: int | None = None) -> Objective:
    """The MLP probe with one hidden layer of ReLUs (Hewitt and Liang 2019, section 3.2).

    Args:
        hidden: hidden units; None takes the width of the vectors.

    Raises:
        InputError: no hidden unit.
    """
    if hidden is not None and hidden < 1:
        raise InputError(f"{hidden} hidden units leave no MLP; give 1 or more")
    n = len(task.labels)

    def start(d: int, generator: torch.Generator) -> Params:
        width = hidden or d
        return {
            "V": _uniform((d, width), d, generator), "c": _uniform((width,), d, generator),
            "W": _uniform((width, n), width, generator), "b": _uniform((n,), width, generator),
        }  # fmt: skip

    def logits(params: Params, vectors: Tensor) -> Tensor:
        inner = torch.einsum("sud,sdh->suh", vectors, params["V"]) + params["c"][:, None]
        return torch.einsum("suh,shl->sul", inner.relu(), params["W"]) + params["b"][:, None]

    return _classifier(f"MLP {task.name}", task, start, logits)


def label_accuracy(bank: ProbeBank, data: WordVectors) -> Float[np.ndarray, " site"]:
    """Share of the words asked about whose label each probe gets right, float64 [site].

    Raises:
        InputError: a bank of probes without labels, or vectors of other streams.
    """
    right = word_hits(bank, data)
    asked = ~np.isnan(right[0])
    if not asked.any():
        raise InputError("no word of these sentences is asked about; give other sentences")
    return right[:, asked].mean(1)


@torch.no_grad()
def word_hits(bank: ProbeBank, data: WordVectors) -> Float[np.ndarray, "site unit"]:
    """1 where a probe gets a word's label right, 0 where wrong, NaN where it is not asked about.

    Raises:
        InputError: as ``label_accuracy``.
    """
    check_streams(bank, data)
    predict, targets = bank.objective.predict, bank.objective.targets
    if predict is None or targets is None:
        raise InputError(f"a {bank.objective.name} probe gives no labels; accuracy needs some")
    gold = np.concatenate(targets(data))
    out = np.full((len(bank.streams), len(gold)), np.nan)
    device = next(iter(bank.params.values())).device
    for units, vectors, side in laid_out(data, device):
        found = predict(bank.params, vectors, side).cpu().numpy()
        out[:, units] = np.where(gold[units] == NO_LABEL, np.nan, found == gold[units])
    return out


def selectivity(
    bank: ProbeBank, control: ProbeBank, data: WordVectors
) -> Float[np.ndarray, " site"]:
    """Accuracy on the task minus accuracy on its control, float64 [site].

    Raises:
        InputError: as ``label_accuracy``.
    """
    return label_accuracy(bank, data) - label_accuracy(control, data)


def labels_of_units(
    data: WordVectors, label_of: Callable[[Sentence], np.ndarray]
) -> Sequence[Shaped[np.ndarray, " unit"]]:
    """Labels of the words of each sentence.

    Raises:
        InputError: vectors of tokens (``released_masking``).
    """
    if data.released:
        raise InputError("labels are of words; read the vectors without released_masking")
    return [label_of(sentence).astype(np.int64) for sentence in data.sentences]


def _classifier(
    name: str,
    task: WordTask,
    start: Callable[[int, torch.Generator], Params],
    logits: Callable[[Params, Tensor], Tensor],
) -> Objective:
    def losses(params: Params, vectors: Tensor, side: Side, targets: Tensor | None) -> Tensor:
        assert targets is not None
        gold = targets[side.real]
        found = logits(params, vectors).log_softmax(-1)
        picked = found.gather(-1, gold.clamp(min=0).expand(found.shape[:2])[..., None])[..., 0]
        return -(picked * (gold >= 0)).sum(-1)

    def predict(params: Params, vectors: Tensor, side: Side) -> Tensor:
        return logits(params, vectors).argmax(-1)

    def targets(data: WordVectors) -> Sequence[np.ndarray]:
        return labels_of_units(data, task.label_of)

    return Objective(name, start, losses, targets, per="unit", predict=predict)


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    """Weights from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5
    return torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
