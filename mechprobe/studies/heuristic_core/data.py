"""The study's data: in-domain and out-of-domain examples, encoded, with what counts as correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.runs.inputs import card_inputs, digest_of
from mechprobe.studies.heuristic_core.settings import PAIRS, Settings
from mechprobe.tasks import Task
from mechprobe.tasks.batches import Batch, Encoded, encode_pairs, word_tokenizer
from mechprobe.tasks.cards import load_pairs
from mechprobe.tasks.examples import PairExamples
from mechprobe.tasks.metrics import accuracy

EVAL_BATCH = 128


@dataclass(frozen=True)
class Split:
    """Examples to score on: batches and, per example, which predictions count as correct."""

    examples: PairExamples
    batches: tuple[Batch, ...]
    accept: Bool[Tensor, "example label"]
    n_truncated: int = 0

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Row numbers of each sub-case."""
        group = np.array(self.examples.group)
        return {name: np.flatnonzero(group == name) for name in self.examples.groups()}

    def correct(self, logits: Float[Tensor, "batch label"], batch: Batch) -> Tensor:
        """1.0 where the prediction counts as correct; a metric for ``gates.evaluate``."""
        return accuracy(logits, self.accept[batch.index])


@dataclass(frozen=True)
class StudyData:
    """Everything the study reads."""

    task: Task
    tokenizer: PreTrainedTokenizerFast
    train: Encoded
    mask_batches: tuple[Batch, ...]
    dev: Split
    ood: Split
    score_groups: tuple[str, ...]


def open_task(settings: Settings) -> Task:
    """The settings' task card with its data; raises InputError for what is missing or malformed."""
    options: dict[str, object] = {
        "n_train": settings.n_train, "n_dev": settings.n_dev, "n_ood": settings.n_ood,
    }
    if settings.pair == "overlap":
        options["overlap_predicts"] = settings.overlap_predicts
        options["counterexample_groups"] = list(settings.counterexample_groups)
        options["ood_groups"] = list(settings.ood_groups)
    elif settings.pair == "mnli-hans":
        options["hans_train_share"] = settings.hans_train_share
    return load_pairs(
        PAIRS[settings.pair], data_dir=settings.data_dir, seed=settings.seed, **options
    )


def prepare(settings: Settings, task: Task, tokenizer: PreTrainedTokenizerFast | None) -> StudyData:
    """Encode a task; without a tokenizer a word-level one is made of all its text.

    Raises:
        InputError: a sub-case of the out-of-domain score is not in the data, or a split or such a
            sub-case has fewer than two examples.
    """
    train, scored = task.split("train"), task.card["ood_score_groups"]
    check_sizes(task, scored)
    if tokenizer is None:
        everything = [s for part in task.splits.values() for s in (*part.first, *part.second)]
        tokenizer = word_tokenizer(everything)
    shared = train.sample(min(settings.mask_examples, len(train)), seed=settings.seed)
    device, longest = settings.device, settings.max_length
    mask_batches = encode_pairs(shared, tokenizer, longest).batches(settings.mask_batch)
    return StudyData(
        task=task,
        tokenizer=tokenizer,
        train=encode_pairs(train, tokenizer, longest),
        mask_batches=tuple(b.to(device) for b in mask_batches if len(b) > 1),
        dev=make_split(task, task.split("dev"), tokenizer, settings),
        ood=make_split(task, task.split("ood"), tokenizer, settings),
        score_groups=tuple(scored),
    )


def check_sizes(task: Task, score_groups: Iterable[str]) -> None:
    """Raise InputError for a split or a scored sub-case with fewer than two examples."""
    for name in ("train", "dev"):
        if len(task.split(name)) < 2:
            raise InputError(
                f"split {name!r} of {task.name} has {len(task.split(name))} examples; give data "
                "with 2 or more"
            )
    count = Counter(task.split("ood").group)
    for group in score_groups:
        if group not in count:
            raise InputError(
                f"the out-of-domain score needs sub-case {group!r}, which the data lack; they "
                f"have {', '.join(task.split('ood').groups())} (is --ood-groups too narrow?)"
            )
        if count[group] < 2:
            raise InputError(
                f"sub-case {group!r} has 1 example, but one half is for selecting and the other "
                "for reporting; give data with 2 or more"
            )


def inputs(task: Task) -> dict[str, Any]:
    """The task's card, and digests of every split's sentences, labels and sub-cases."""
    return card_inputs(task.card) | {
        name: digest_of(part.first, part.second, part.label.tolist(), part.group)
        for name, part in task.splits.items()
    }


def make_split(
    task: Task, examples: PairExamples, tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> Split:
    """Encode examples for scoring, on the settings' device."""
    encoded = encode_pairs(examples, tokenizer, settings.max_length)
    size = EVAL_BATCH - (len(examples) % EVAL_BATCH == 1)  # no batch of one: resampling needs two
    return Split(
        examples=examples,
        batches=tuple(b.to(settings.device) for b in encoded.batches(size)),
        accept=torch.from_numpy(task.accept(examples)).to(settings.device),
        n_truncated=encoded.n_truncated,
    )


def part_of(data: StudyData, split: Split, rows: Iterable[int], settings: Settings) -> Split:
    """The split restricted to some rows, for evaluations that are run many times."""
    chosen = np.sort(np.fromiter(rows, dtype=np.int64))
    return make_split(data.task, split.examples.take(chosen), data.tokenizer, settings)


def group_means(correct: np.ndarray, split: Split) -> dict[str, np.ndarray]:
    """Accuracy of each sub-case from [k, example] outcomes: name -> [k]."""
    return {name: correct[:, rows].mean(1) for name, rows in split.rows.items()}


def ood_score(correct: np.ndarray, split: Split, groups: Iterable[str]) -> np.ndarray:
    """Mean accuracy over the scored sub-cases, [k] (Bhaskar et al. 2024, section 4)."""
    means = group_means(correct, split)
    return np.mean([means[name] for name in groups], axis=0)


def scored(split: Split, groups: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the scored sub-cases and, beside each, its sub-case: the strata of a bootstrap."""
    names = list(groups)
    rows = np.concatenate([split.rows[name] for name in names])
    return rows, np.repeat(names, [len(split.rows[name]) for name in names])


def halves(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of a split, even in every sub-case: one to select on, one to report."""
    pick = [rows[::2] for rows in split.rows.values()]
    report = [rows[1::2] for rows in split.rows.values()]
    return np.concatenate(pick), np.concatenate(report)
