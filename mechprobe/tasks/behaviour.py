"""A behaviour: clean inputs, their counterfactuals, and one number per example of the logits.

Every localiser takes one. Text, token arrays and sentence-pair tasks all become one
(``PromptTask.encode``, ``mechprobe.locate.behaviour_of``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.tasks.batches import Batch

FEW = 8
"""Fewer examples than this are too few to select on one half and report on the other."""

Metric: TypeAlias = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""From logits [batch, ...] and the batch's targets to one number an example, [batch]."""


@dataclass(frozen=True, repr=False)
class Behaviour:
    """What a localiser measures.

    Attributes:
        name: for tables and messages.
        inputs: all examples in one batch, padded on the right; ``index`` is 0 .. n-1.
        metric: from logits and targets to one number an example.
        metric_name: for tables.
        targets: tensors with one row an example that the metric needs (answers, positions, ...).
        corrupt: the counterfactual of each example, the same shape and padding as ``inputs``.

    Raises:
        InputError: targets or counterfactuals with another number of rows or another shape.
    """

    name: str
    inputs: Batch
    metric: Metric
    metric_name: str
    targets: Mapping[str, Shaped[Tensor, "n *rest"]] = field(default_factory=dict)
    corrupt: Batch | None = None

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if n == 0:
            raise InputError(f"{self.name}: no examples; give at least one")
        if not torch.equal(self.inputs.index.cpu(), torch.arange(n)):
            raise InputError(f"{self.name}: the index of the inputs must be 0 to {n - 1}, in order")
        for name, value in self.targets.items():
            if len(value) != n:
                raise InputError(
                    f"{self.name}: target {name!r} has {len(value)} rows for {n} examples; "
                    "give one row an example"
                )
        self._check_padding(self.inputs)
        if self.corrupt is not None:
            self._check_corrupt(self.corrupt)

    def __repr__(self) -> str:
        kinds = "" if self.corrupt is None else ", with counterfactuals"
        n, longest = self.inputs.tokens.shape
        return (
            f"Behaviour {self.name!r}: {n} examples of up to {longest} tokens{kinds}; "
            f"metric {self.metric_name}"
        )

    def _check_padding(self, batch: Batch) -> None:
        mask = batch.attention_mask
        if (bad := (mask[:, 1:] > mask[:, :-1]).any(1) | (mask[:, 0] == 0)).any():
            raise InputError(
                f"{self.name}: example {int(bad.nonzero()[0])} is empty or has padding before real "
                "tokens; pad on the right"
            )

    def _check_corrupt(self, corrupt: Batch) -> None:
        if len(corrupt) != len(self):
            raise InputError(
                f"{self.name}: {len(self)} examples, {len(corrupt)} counterfactuals; give one each"
            )
        self._check_padding(corrupt)
        for stack in ("enc", "dec"):
            real, others = self.inputs.real(stack), corrupt.real(stack)
            own, other = real.sum(1), others.sum(1)
            if (bad := own != other).any():
                row = int(bad.nonzero()[0])
                raise InputError(
                    f"{self.name}: example {row} has {int(own[row])} tokens, its counterfactual "
                    f"{int(other[row])} ({int(bad.sum())} such); give pairs of equal length"
                )
            if real.shape != others.shape:
                raise InputError(
                    f"{self.name}: inputs padded to {real.shape[1]} tokens, counterfactuals to "
                    f"{others.shape[1]}; pad both to one width"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def measure(self, logits: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
        """The metric of a batch of these inputs (or of their counterfactuals).

        Raises:
            InputError: a metric that does not give one number an example.
        """
        rows = batch.index.to("cpu")
        device = logits.device
        out = self.metric(logits, {k: v[rows].to(device) for k, v in self.targets.items()})
        if not isinstance(out, Tensor) or out.shape != (len(logits),):
            got = f"shape {list(out.shape)}" if isinstance(out, Tensor) else f"{out!r}"
            raise InputError(
                f"metric {self.metric_name!r} gave {got} for {len(logits)} examples; it must give "
                f"one number an example, [{len(logits)}]"
            )
        return out if out.is_floating_point() else out.to(logits.dtype)

    def batches(self, batch_size: int = 64) -> list[Batch]:
        """All inputs, short ones first, each batch padded to its own longest row."""
        return _batches(self.inputs, self.inputs, batch_size)

    def corrupt_batches(self, batch_size: int = 64) -> list[Batch]:
        """The counterfactuals in the same batches as ``batches``; raises as ``counterfactual``."""
        return _batches(self._counterfactuals(), self.inputs, batch_size)

    def counterfactual(self, batch: Batch) -> Batch:
        """The counterfactual batch of a batch of ``batches``.

        Raises:
            InputError: this behaviour has no counterfactuals.
        """
        part = take_rows(self._counterfactuals(), batch.index.cpu())
        return trimmed(part, batch.tokens.shape[1]).to(batch.tokens.device)

    def _counterfactuals(self) -> Batch:
        if self.corrupt is None:
            raise InputError(
                f"{self.name} has no counterfactual inputs, which patching and the paired baseline "
                "need; give a corrupt input for every clean one"
            )
        return self.corrupt

    def take(self, rows: Int[np.ndarray, " row"]) -> Behaviour:
        """The same behaviour on some of the examples, numbered anew from 0."""
        chosen = torch.as_tensor(rows, dtype=torch.long)
        corrupt = self.corrupt
        return replace(
            self,
            inputs=_renumbered(take_rows(self.inputs, chosen)),
            targets={name: value[chosen] for name, value in self.targets.items()},
            corrupt=None if corrupt is None else _renumbered(take_rows(corrupt, chosen)),
        )

    def swapped(self) -> Behaviour:
        """The counterfactuals as inputs and the inputs as counterfactuals; the same targets."""
        corrupt = _renumbered(self._counterfactuals())
        return replace(self, inputs=corrupt, corrupt=self.inputs)

    def halves(self, seed: int = 0) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
        """Rows to select on and rows to report on, two disjoint random halves, each sorted.

        A single example is both (and gives no test a p below 1). Warns, once for each number of
        examples, of fewer than 8.
        """
        if len(self) < FEW:
            warnings.warn(
                f"{len(self)} examples are too few to hold half of them out: intervals and tests "
                f"say little; give {FEW} or more",
                stacklevel=1,  # one place for every localiser, so that Python tells it once
            )
        if len(self) == 1:
            return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        order = np.random.default_rng([seed, 7]).permutation(len(self))
        middle = (len(self) + 1) // 2
        return np.sort(order[:middle]), np.sort(order[middle:])


def take_rows(batch: Batch, rows: Int[Tensor, " row"]) -> Batch:
    """Some rows of a batch, every field of it."""
    return type(batch)(**{f.name: getattr(batch, f.name)[rows] for f in fields(batch)})


def trimmed(batch: Batch, width: int) -> Batch:
    """The batch cut to its first ``width`` positions."""
    return replace(
        batch,
        tokens=batch.tokens[:, :width],
        segments=batch.segments[:, :width],
        attention_mask=batch.attention_mask[:, :width],
    )


def _renumbered(batch: Batch) -> Batch:
    return replace(batch, index=torch.arange(len(batch), device=batch.index.device))


def _batches(source: Batch, like: Batch, batch_size: int) -> list[Batch]:
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is not possible; give 1 or more")
    lengths = like.attention_mask.sum(1)
    order = torch.argsort(lengths, stable=True)
    return [
        trimmed(take_rows(source, rows), int(lengths[rows].max()))
        for rows in order.split(batch_size)
    ]
