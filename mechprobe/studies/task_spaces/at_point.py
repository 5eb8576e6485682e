"""What one point of training gave, read from its finished units, and the tests of its spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mechprobe.runs import Run
from mechprobe.stats.mantel import GroupContrast, MantelTest, mantel, within_across
from mechprobe.stats.resample import central, resample_counts
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import GRADIENTS, HEADS, arrays_file
from mechprobe.tasks.minimal_pairs import MinimalPairs, hypothesis_space, word_overlap
from mechprobe.training.pair_scores import task_means
from mechprobe.training.transfer import TransferSpace


@dataclass(frozen=True)
class Tuning:
    """What tuning on every task gave at a point.

    Attributes:
        space: margins before and after.
        transfer: on the scale that is judged.
        contrast: transfer within against across phenomena, p over shuffled phenomena.
        interval: 95 % interval of within minus across over evaluation pairs.
        closed: fall of the log odds (nats) when a head is closed, [layer head task].
    """

    space: TransferSpace
    transfer: Float[np.ndarray, "task task"]
    contrast: GroupContrast
    interval: tuple[float, float]
    closed: Float[np.ndarray, "layer head task"]


@dataclass(frozen=True)
class AtPoint:
    """A point of training: its arrays, accuracies, its tuning where it was tuned, and tests.

    Attributes:
        arrays: of the unit of its gradients, by name.
        accuracy: of the untuned model on each task; at a tuned point on all evaluation pairs.
        gradients: overlap within against across phenomena.
    """

    point: Point
    arrays: dict[str, np.ndarray]
    accuracy: Float[np.ndarray, " task"]
    gradients: GroupContrast
    tuning: Tuning | None
    tests: dict[str, MantelTest]


def read_point(settings: Settings, pairs: MinimalPairs, point: Point, run: Run) -> AtPoint:
    """Read a point's units and test its spaces; no model runs here."""
    arrays = run.read_arrays(arrays_file(point, GRADIENTS))
    n = settings.n_null
    tuning = read_tuning(settings, pairs, point, arrays, run) if point.whole else None
    spaces = {
        "gradient overlap": arrays["overlap"], "gradient cosine": arrays["cosine"],
        "gradient sign agreement": np.nan_to_num(arrays["sign_agreement"], nan=0.5),
        "gradient cosine in shared weights": np.nan_to_num(arrays["shared_cosine"], nan=0.0),
    }
    if tuning is not None:
        spaces = {
            "transfer": tuning.transfer, "accuracy transfer": tuning.space.transfer("raw"), **spaces
        }
    return AtPoint(
        point, arrays, accuracies(arrays),
        within_across(arrays["overlap"], pairs.phenomena, n=n, seed=settings.seed), tuning,
        space_tests(settings, pairs, spaces),
    )


def accuracies(arrays: dict[str, np.ndarray]) -> Float[np.ndarray, " task"]:
    """Share of each task's pairs that the untuned model gets right."""
    right, task = (arrays["scores"] > 0).astype(float), arrays["scored_task"]
    return task_means(right, task, int(task.max()) + 1)


def read_tuning(
    settings: Settings, pairs: MinimalPairs, point: Point, arrays: dict[str, np.ndarray], run: Run
) -> Tuning:
    """Put the rows of the tuned tasks together."""
    rows = [run.read_arrays(arrays_file(point, task)) for task in range(len(pairs))]
    space = TransferSpace(
        tuple(pairs.names), arrays["task"], arrays["before"],
        np.stack([row["after"] for row in rows]).astype(float), float(arrays["perplexity"]),
        np.array([float(row["perplexity"]) for row in rows]),
        np.array([float(row["changed"]) for row in rows]),
    )
    transfer = space.transfer(settings.scale)
    return Tuning(
        space, transfer,
        within_across(transfer, pairs.phenomena, n=settings.n_null, seed=settings.seed),
        contrast_interval(settings, space, pairs.phenomena),
        run.read_arrays(arrays_file(point, HEADS))["closed"],
    )


def space_tests(
    settings: Settings, pairs: MinimalPairs, spaces: dict[str, np.ndarray]
) -> dict[str, MantelTest]:
    """Every space against theory and vocabulary, each given the other; transfer against gradients.

    Names read "a ~ b" and "a ~ b | given".
    """
    known = {"hypothesis": hypothesis_space(pairs), "vocabulary": word_overlap(pairs)}

    def test(a: np.ndarray, b: np.ndarray, given: np.ndarray | None = None) -> MantelTest:
        if is_constant(a) or is_constant(b):  # no transfer at all agrees with nothing
            return MantelTest(0.0, 1.0, len(pairs), settings.n_null)
        return mantel(a, b, given=given, n=settings.n_null, seed=settings.seed)

    tests = {}
    for name, values in spaces.items():
        for of, given in (("hypothesis", "vocabulary"), ("vocabulary", "hypothesis")):
            tests[f"{name} ~ {of}"] = test(values, known[of])
            tests[f"{name} ~ {of} | {given}"] = test(values, known[of], known[given])
    if "transfer" in spaces:
        tests |= {
            f"transfer ~ {name}": test(spaces["transfer"], values)
            for name, values in spaces.items() if name.startswith("gradient")
        }
    return tests


def is_constant(values: np.ndarray) -> bool:
    """Whether all cells off the diagonal are the same."""
    return bool(np.ptp(values[~np.eye(len(values), dtype=bool)]) == 0)


def contrast_interval(
    settings: Settings, space: TransferSpace, kinds: list[str]
) -> tuple[float, float]:
    """95 % interval of within minus across over evaluation pairs, resampled within each task."""
    change = space.after - space.before
    if settings.scale != "log_odds":
        change = (space.after > 0).astype(float) - (space.before > 0)
    inside, outside = related(kinds)
    counts = resample_counts(space.task, settings.n_boot, settings.seed)
    member = np.eye(len(kinds))[space.task]
    sizes = member.sum(0)
    drawn = []
    for row in counts:
        transfer = change @ (member * row[:, None]) / sizes
        drawn.append(transfer[inside].mean() - transfer[outside].mean())
    low, high = central(np.array(drawn))
    return float(low), float(high)


def related(kinds: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which two tasks are different ones of one phenomenon, and which are of two phenomena."""
    groups = np.array(kinds)
    same = groups[:, None] == groups[None, :]
    return same & ~np.eye(len(kinds), dtype=bool), ~same


def row_means(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Mean of each row over the cells kept; NaN for a row without any."""
    count = keep.sum(1)
    return np.where(count > 0, (values * keep).sum(1) / np.maximum(count, 1), np.nan)
