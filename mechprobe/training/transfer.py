"""Task spaces by similarity probing: tune on each task, look at all tasks.

Source: Weber et al. 2024, arXiv 2406.06441. Transfer(A -> B) is the accuracy on B of the model
tuned on A minus that of the untuned one; the other scales are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures.matrices import task_matrix
from mechprobe.models.edits import HookedModel
from mechprobe.runs.files import atomic_write, read_arrays, read_json, to_json, write_arrays
from mechprobe.tasks.pair_tokens import EncodedPairs, subset
from mechprobe.training.deltas import Delta, ResidentWeights
from mechprobe.training.ftgd import TuneSettings, tune
from mechprobe.training.pair_scores import BATCH_TOKENS, pair_margins, task_means
from mechprobe.training.perplexity import perplexity

UNITS = {
    "raw": "change of accuracy", "headroom": "share of what was left to gain or lose",
    "row": "share of the gain on the tuned task", "log_odds": "change of log odds, nats",
}
SCALES = tuple(UNITS)


@dataclass(frozen=True)
class TransferSpace:
    """What tuning on each task does to every task.

    Attributes:
        names: the tasks, in the order of rows (tuned) and columns (tested).
        task: the task of each evaluation pair.
        before: log P(x+) - log P(x-) of the untuned model, nats.
        after: the same of each tuned one.
        perplexity_before, perplexity_after: on held-out text; NaN where none was given.
        changed: share of the weights that tuning changed.
        phenomena: the phenomenon of each task; empty where it is not known.
    """

    names: tuple[str, ...]
    task: Int[np.ndarray, " pair"]
    before: Float[np.ndarray, " pair"]
    after: Float[np.ndarray, "task pair"]
    perplexity_before: float
    perplexity_after: Float[np.ndarray, " task"]
    changed: Float[np.ndarray, " task"]
    phenomena: tuple[str, ...] = ()

    @property
    def eval1(self) -> Float[np.ndarray, " task"]:
        """Accuracy of the untuned model on each task."""
        return self._means(self.before > 0)

    @property
    def eval2(self) -> Float[np.ndarray, "task task"]:
        """Accuracy of each tuned model (row) on each task (column)."""
        return self._means(self.after > 0)

    @property
    def perplexity_ratio(self) -> Float[np.ndarray, " task"]:
        """Perplexity of each tuned model over that of the untuned one."""
        return self.perplexity_after / self.perplexity_before

    def transfer(self, scale: str = "raw") -> Float[np.ndarray, "task task"]:
        """The transfer from each task (row) to each (column).

        Args:
            scale: "raw": accuracy after minus before; "headroom": a gain over what was left to
                gain, a loss over what there was to lose; "row": over the transfer to the tuned task
                itself; "log_odds": the change of the mean of log P(x+) - log P(x-), in nats.

        Raises:
            InputError: an unknown scale.
        """
        change = self.eval2 - self.eval1
        match scale:
            case "raw":
                return change
            case "headroom":
                room = np.where(change >= 0, 1 - self.eval1, self.eval1)
                return np.divide(change, room, out=np.zeros_like(change), where=room > 0)
            case "row":
                own = np.diag(change)[:, None]
                return np.divide(change, own, out=np.full_like(change, np.nan), where=own > 0)
            case "log_odds":
                return self._means(self.after) - self._means(self.before)
        raise InputError(f"unknown scale {scale!r}; one of {', '.join(SCALES)}")

    def table(self, scale: str = "raw") -> pd.DataFrame:
        """The transfer from each task (row) to each (column)."""
        return pd.DataFrame(self.transfer(scale), index=self.names, columns=self.names)

    def plot(self, scale: str = "raw") -> Figure:
        """The transfer matrix; lines part the phenomena."""
        return task_matrix(
            self.transfer(scale), self.names, self.phenomena or self.names,
            unit=f"transfer ({UNITS[scale]})",
        )

    def save(self, folder: str | Path) -> Path:
        """Keep it in a folder, made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        words = {name: fields.pop(name) for name in ("names", "phenomena")}
        atomic_write(folder / "tasks.json", to_json(words))
        write_arrays(folder / "transfer.safetensors", {
            name: np.asarray(value) for name, value in fields.items()
        })
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> TransferSpace:
        """Read what ``save`` wrote; raises InputError when it is missing or damaged."""
        folder = Path(folder)
        words = read_json(folder / "tasks.json")
        arrays: dict[str, Any] = read_arrays(folder / "transfer.safetensors")
        try:
            arrays["perplexity_before"] = float(arrays["perplexity_before"])
            names, phenomena = (tuple(words[name]) for name in ("names", "phenomena"))
            return cls(names=names, phenomena=phenomena, **arrays)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder} holds no transfer space ({error}); save it again"
            ) from None

    def _means(self, values: np.ndarray) -> np.ndarray:
        return task_means(values.astype(float), self.task, len(self.names))


@dataclass(frozen=True)
class TunedRow:
    """One row of a transfer space: what tuning on one task left.

    Attributes:
        after: log P(x+) - log P(x-) of every evaluation pair, nats.
        perplexity: on held-out text; NaN where none was given.
        delta: the weights that changed.
    """

    after: Float[np.ndarray, " pair"]
    perplexity: float
    delta: Delta


def transfer_row(
    model: HookedModel,
    weights: ResidentWeights,
    tuning: EncodedPairs,
    evaluation: EncodedPairs,
    task: int,
    settings: TuneSettings,
    *,
    text: Int[Tensor, "batch pos"] | None = None,
    validation: EncodedPairs | None = None,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
) -> TunedRow:
    """Tune the resident model on one task, evaluate it on all, and put its weights back.

    Args: as of ``transfer_space``; the task draws with ``seed`` + its index.

    Raises:
        InputError: no tuning pairs of the task.
        FloatingPointError: tuning that leaves the numbers.
    """
    held = None if validation is None else subset(validation, validation.of_task(task))
    mine = subset(tuning, tuning.of_task(task))
    delta = tune(model, weights, mine, settings, seed=seed + task, validation=held).delta
    with weights.applied(delta):
        after = pair_margins(model, evaluation, batch_tokens=batch_tokens)
        seen = float("nan") if text is None else perplexity(model, text)
    return TunedRow(after, seen, delta)


def transfer_space(
    model: HookedModel,
    weights: ResidentWeights,
    tuning: EncodedPairs,
    evaluation: EncodedPairs,
    settings: TuneSettings,
    *,
    text: Int[Tensor, "batch pos"] | None = None,
    validation: EncodedPairs | None = None,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
    on_task: Callable[[int, Delta], None] | None = None,
) -> TransferSpace:
    """Tune the resident model on every task in turn and evaluate each on all tasks at once.

    Args:
        tuning, evaluation: pairs of the same tasks, none of them in both.
        text: rows of held-out text for the perplexity.
        validation: pairs of the same tasks for ``settings.stop``.
        batch_tokens: padded tokens scored at once.
        on_task: called with the task's index and its delta after each.

    Raises:
        InputError: tuning, evaluation and validation pairs of different tasks.
    """
    for other in (evaluation, validation):
        if other is not None and other.names != tuning.names:
            raise InputError("tuning and evaluation need pairs of the same tasks in one order")
    n = len(tuning.names)
    before = pair_margins(model, evaluation, batch_tokens=batch_tokens)
    base = float("nan") if text is None else perplexity(model, text)
    after, ppl, changed = np.empty((n, len(evaluation))), np.full(n, np.nan), np.empty(n)
    for t in range(n):
        row = transfer_row(
            model, weights, tuning, evaluation, t, settings, text=text, validation=validation,
            batch_tokens=batch_tokens, seed=seed,
        )
        after[t], ppl[t], changed[t] = row.after, row.perplexity, row.delta.share
        if on_task is not None:
            on_task(t, row.delta)
    return TransferSpace(
        tuning.names, evaluation.task, before, after, base, ppl, changed
    )
