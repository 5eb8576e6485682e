"""Labelled sentence pairs, and a task made of several splits of them; plain Python and numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mechprobe.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mechprobe.tasks.prompts import PromptTask
else:  # loading a card's pairs loads no torch
    Tensor: TypeAlias = Any
    PromptTask: TypeAlias = Any


@dataclass(frozen=True)
class PairExamples:
    """Sentence pairs with a label and a sub-case each.

    Attributes:
        first: premise, or first sentence of a paraphrase pair; one string an example.
        second: hypothesis, or second sentence.
        label: int64 [n], index into ``labels``.
        labels: label names of this data set.
        group: sub-case of each example, ``""`` where there is none.
        name: where the rows come from, such as ``nli/overlap:train``.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    label: np.ndarray
    labels: tuple[str, ...]
    group: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        sizes = {len(self.first), len(self.second), len(self.label), len(self.group)}
        if len(sizes) != 1:
            raise InputError(
                f"{self.name}: first, second, label and group have {len(self.first)}, "
                f"{len(self.second)}, {len(self.label)} and {len(self.group)} rows; "
                "give one of each per example"
            )
        label = np.asarray(self.label, dtype=np.int64)
        if len(label) and (label.min() < 0 or label.max() >= len(self.labels)):
            raise InputError(
                f"{self.name}: label indices run from {label.min()} to {label.max()}; expected "
                f"0 to {len(self.labels) - 1} for {', '.join(self.labels)}"
            )
        object.__setattr__(self, "label", label)

    def __len__(self) -> int:
        return len(self.first)

    def take(self, indices: Sequence[int] | np.ndarray) -> PairExamples:
        """The rows at ``indices`` (ints, or a boolean mask of length n), in that order."""
        rows = np.asarray(indices)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(
                    f"{self.name}: a mask of shape {rows.shape} cannot select from "
                    f"{len(self)} examples; give one True or False per example"
                )
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        return PairExamples(
            first=tuple(self.first[i] for i in rows),
            second=tuple(self.second[i] for i in rows),
            label=self.label[rows],
            labels=self.labels,
            group=tuple(self.group[i] for i in rows),
            name=self.name,
        )

    def where_group(self, names: str | Iterable[str]) -> PairExamples:
        """The rows of one or several sub-cases; raises InputError for a sub-case not here."""
        wanted = {names} if isinstance(names, str) else set(names)
        missing = wanted - set(self.group)
        if missing:
            raise InputError(
                f"{self.name}: no sub-case {', '.join(sorted(map(repr, missing)))}; "
                f"here: {', '.join(self.groups())}"
            )
        return self.take([i for i, g in enumerate(self.group) if g in wanted])

    def groups(self) -> list[str]:
        """Names of the sub-cases, in order of first appearance."""
        return list(dict.fromkeys(self.group))

    @staticmethod
    def concat(parts: Sequence[PairExamples], name: str | None = None) -> PairExamples:
        """All rows of ``parts`` one after the other; their label names must agree."""
        if not parts:
            raise InputError("concat got no examples; give at least one set")
        for part in parts[1:]:
            if part.labels != parts[0].labels:
                raise InputError(
                    f"{part.name} has labels {', '.join(part.labels)} and {parts[0].name} has "
                    f"{', '.join(parts[0].labels)}; relabel one of them first"
                )
        return PairExamples(
            first=tuple(s for p in parts for s in p.first),
            second=tuple(s for p in parts for s in p.second),
            label=np.concatenate([p.label for p in parts]),
            labels=parts[0].labels,
            group=tuple(g for p in parts for g in p.group),
            name=parts[0].name if name is None else name,
        )

    def sample(self, n: int, seed: int = 0, per_group: bool = False) -> PairExamples:
        """At most ``n`` rows drawn without replacement, kept in their order.

        With ``per_group`` at most ``n`` of each sub-case.
        """
        if n < 0:
            raise InputError(f"{self.name}: cannot sample {n} examples; give 0 or more")
        rng = np.random.default_rng(seed)
        if not per_group:
            chosen = rng.permutation(len(self))[:n]
            return self.take(np.sort(chosen))
        rows_of: dict[str, list[int]] = {}
        for i, group in enumerate(self.group):
            rows_of.setdefault(group, []).append(i)
        picked = [rng.permutation(rows)[:n] for _, rows in sorted(rows_of.items())]
        return self.take(np.sort(np.concatenate(picked)) if picked else [])


@dataclass(frozen=True)
class Task:
    """A task card with its data.

    Attributes:
        name: the card's name, such as ``nli/overlap``.
        labels: labels a model is trained on.
        splits: ``train``, ``dev`` (held out, in domain), ``ood``, and ``mask`` (rows whose labels
            are not used, for mask search and mean baselines).
        collapse: for a label of the out-of-domain data that is not one of ``labels``, the trained
            labels that count as it.
        card: the resolved card, with the settings in force under ``card["settings"]``.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, PairExamples]
    collapse: Mapping[str, tuple[str, ...]]
    card: Mapping[str, Any]

    def split(self, name: str) -> PairExamples:
        """The examples of one split; raises InputError naming the splits there are."""
        if name not in self.splits:
            raise InputError(
                f"task {self.name} has no split {name!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[name]

    @staticmethod
    def from_pairs(
        clean: Sequence[object] | np.ndarray | Tensor,
        corrupt: Sequence[object] | np.ndarray | Tensor | None = None,
        answers: Sequence[object] | np.ndarray | Tensor | None = None,
        wrong: Sequence[object] | np.ndarray | Tensor | None = None,
        metric: str | Callable[..., Tensor] = "logit_difference",
        name: str = "prompts",
        prepend_bos: bool | None = None,
    ) -> PromptTask:
        """A task for language models from prompts and their counterfactuals.

        Args:
            clean: texts, or token ids int64 [n, pos].
            corrupt: the counterfactual of each, of the same length in tokens; needed for patching
                and the paired baseline.
            answers: what should follow each prompt: single-token texts, ids [n] (scored at the
                last token), or ids [n, pos] (scored wherever they are not -100). Only "kl" and a
                function of your own do without.
            wrong: the answers to compare with, as ``answers``. Without them the logit difference is
                taken to the highest other logit, and named so in tables.
            metric: "logit_difference", "probability", "log_probability", "accuracy",
                "exact_match", "preference", "kl", or a function of logits (and targets) that gives
                one number an example.
            name: for tables and messages.
            prepend_bos: put the beginning-of-sequence token before each text; None: when the
                tokenizer itself does not and has one.

        Raises:
            InputError: another number of counterfactuals or answers, tokens that are no integers
                [n, pos], token pairs of different length, missing answers, an unknown metric.

        >>> task = Task.from_pairs(["the cat"], ["the dog"], answers=[" sat"])
        >>> task.metric
        'logit_difference'
        """
        from mechprobe.tasks import prompts

        return prompts.PromptTask(clean, corrupt, answers, wrong, metric, name, prepend_bos)

    def accept(self, examples: PairExamples) -> np.ndarray:
        """Which predictions count as correct: bool [n, label], label in the order of ``labels``.

        A prediction is the argmax over the trained labels; where the data has coarser labels,
        every trained label that collapses into the right one is accepted (McCoy et al. 2019,
        section 5, scoring a three-way model on HANS).
        """
        table = np.zeros((len(examples.labels), len(self.labels)), dtype=bool)
        for i, label in enumerate(examples.labels):
            counted = (label,) if label in self.labels else self.collapse.get(label, ())
            if not counted:
                raise InputError(
                    f"task {self.name}: label {label!r} of {examples.name} is neither trained on "
                    f"({', '.join(self.labels)}) nor in the card's [collapse]; add it there"
                )
            table[i, [self.labels.index(c) for c in counted]] = True
        return table[examples.label]
