"""The tables and numbers of a run, gathered from its finished units; no model runs here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mechprobe.runs import Run
from mechprobe.stats.intervals import Interval, bootstrap_mean
from mechprobe.stats.mantel import GroupContrast, MantelTest, mantel, within_across
from mechprobe.stats.ordination import (
    Clustering,
    cluster_items,
    row_distance,
    similarity_distance,
)
from mechprobe.stats.resample import central, resample_counts
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import arrays_file
from mechprobe.tasks.minimal_pairs import MinimalPairs, hypothesis_space, word_overlap
from mechprobe.training.transfer import TransferSpace


@dataclass(frozen=True)
class AtPoint:
    """A point of training: its arrays, its transfer space where it has one, and their tests."""

    point: Point
    arrays: dict[str, np.ndarray]
    accuracy: np.ndarray
    gradients: GroupContrast
    space: TransferSpace | None
    transfer: np.ndarray | None
    contrast: GroupContrast | None
    interval: tuple[float, float] | None
    tests: dict[str, MantelTest]


@dataclass(frozen=True)
class Results:
    """Everything the report shows."""

    pairs: MinimalPairs
    points: list[AtPoint]
    vocabulary: np.ndarray
    tests: pd.DataFrame
    accuracy: pd.DataFrame
    development: pd.DataFrame
    neighbours: pd.DataFrame
    heads: pd.DataFrame
    kinds: pd.DataFrame
    clusters: dict[str, Clustering]
    head_agreement: Interval

    @property
    def main(self) -> AtPoint:
        """The last point of the last model."""
        return self.points[-1]

    def whole(self, model: str | None = None) -> list[AtPoint]:
        """Points with a transfer space, of one model or of all."""
        return [p for p in self.points
                if p.transfer is not None and model in (None, p.point.model)]


def gather(settings: Settings, pairs: MinimalPairs, points: list[Point], run: Run) -> Results:
    """Read every finished unit and derive the tables."""
    vocabulary, expected = word_overlap(pairs), hypothesis_space(pairs)
    found = [at_point(settings, pairs, p, run, vocabulary, expected) for p in points]
    main = found[-1]
    assert main.transfer is not None
    n, seed = settings.n_null, settings.seed
    clusters = {
        "transfer": cluster_items(row_distance(main.transfer), pairs.phenomena, n=n, seed=seed),
        "gradient overlap": cluster_items(
            similarity_distance(main.arrays["overlap"]), pairs.phenomena, n=n, seed=seed
        ),
        "vocabulary": cluster_items(
            similarity_distance(vocabulary), pairs.phenomena, n=n, seed=seed
        ),
    }
    heads, agreement = head_table(pairs, main, settings)
    return Results(
        pairs=pairs, points=found, vocabulary=vocabulary, tests=test_table(found),
        accuracy=accuracy_table(pairs, found), development=development(settings, pairs, found),
        neighbours=neighbours(settings, found), heads=heads, kinds=read_kinds(points, run),
        clusters=clusters, head_agreement=agreement,
    )


def at_point(
    settings: Settings, pairs: MinimalPairs, point: Point, run: Run, vocabulary: np.ndarray,
    expected: np.ndarray,
) -> AtPoint:
    """Read a point and test its spaces."""
    arrays = run.read_arrays(arrays_file(point))
    kinds, n, seed = pairs.phenomena, settings.n_null, settings.seed
    gradients = within_across(arrays["overlap"], kinds, n=n, seed=seed)
    size = len(pairs)
    task = arrays["task"]
    if "after" not in arrays:
        right = np.array([(arrays["before"][task == t] > 0).mean() for t in range(size)])
        return AtPoint(point, arrays, right, gradients, None, None, None, None, {})
    space = TransferSpace(
        tuple(pairs.names), task, arrays["before"], arrays["after"].astype(float),
        float(arrays["perplexity_before"]), arrays["perplexity_after"], arrays["changed"],
    )
    transfer = space.transfer(settings.scale)

    def test(a: np.ndarray, b: np.ndarray, given: np.ndarray | None = None) -> MantelTest:
        if is_constant(a) or is_constant(b):  # no transfer at all agrees with nothing
            return MantelTest(0.0, 1.0, size, n)
        return mantel(a, b, given=given, n=n, seed=seed)

    tests = {
        "transfer ~ hypothesis": test(transfer, expected),
        "transfer ~ hypothesis | vocabulary": test(transfer, expected, vocabulary),
        "transfer ~ vocabulary": test(transfer, vocabulary),
        "transfer ~ vocabulary | hypothesis": test(transfer, vocabulary, expected),
        "accuracy transfer ~ hypothesis": test(space.transfer("raw"), expected),
        "transfer ~ gradient overlap": test(transfer, arrays["overlap"]),
        "transfer ~ gradient cosine": test(transfer, arrays["cosine"]),
        "gradient overlap ~ hypothesis": test(arrays["overlap"], expected),
        "gradient overlap ~ hypothesis | vocabulary": test(
            arrays["overlap"], expected, vocabulary
        ),
        "gradient overlap ~ vocabulary": test(arrays["overlap"], vocabulary),
        "gradient cosine ~ hypothesis": test(arrays["cosine"], expected),
    }
    return AtPoint(
        point, arrays, space.eval1, gradients, space, transfer,
        within_across(transfer, kinds, n=n, seed=seed),
        contrast_interval(settings, space, kinds), tests,
    )


def rows_where(table: pd.DataFrame, keep: object) -> pd.DataFrame:
    """The rows a boolean mask keeps, as a table."""
    return cast(pd.DataFrame, table.loc[cast(Any, keep)])


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
    same = np.array(kinds)[:, None] == np.array(kinds)[None, :]
    inside = same & ~np.eye(len(kinds), dtype=bool)
    counts = resample_counts(space.task, settings.n_boot, settings.seed)
    member = np.eye(len(kinds))[space.task]
    sizes = member.sum(0)
    drawn = []
    for row in counts:
        transfer = change @ (member * row[:, None]) / sizes
        drawn.append(transfer[inside].mean() - transfer[~same].mean())
    low, high = central(np.array(drawn))
    return float(low), float(high)


def test_table(points: list[AtPoint]) -> pd.DataFrame:
    """Every Mantel test of every point with a transfer space."""
    return pd.DataFrame([
        {"model": at.point.model, "step": at.point.step, "test": name, "r": test.r, "p": test.p,
         "tasks": test.items}
        for at in points for name, test in at.tests.items()
    ])


def accuracy_table(pairs: MinimalPairs, points: list[AtPoint]) -> pd.DataFrame:
    """Accuracy of every paradigm at every point of training."""
    table = pd.DataFrame({
        "paradigm": pairs.names, "phenomenon": pairs.phenomena, "field": pairs.fields,
    })
    for at in points:
        table[at.point.name] = at.accuracy
    return table


def development(
    settings: Settings, pairs: MinimalPairs, points: list[AtPoint]
) -> pd.DataFrame:
    """Distributedness and sharing at every point, with 95 % bootstrap intervals over tasks."""
    kinds = np.array(pairs.phenomena)
    same = (kinds[:, None] == kinds[None, :]) & ~np.eye(len(kinds), dtype=bool)
    across = kinds[:, None] != kinds[None, :]
    rows = []
    for at in points:
        a = at.arrays
        row: dict[str, object] = {
            "model": at.point.model, "step": at.point.step, "accuracy": at.accuracy.mean(),
        }
        values = {
            "participation": a["participation"], "half_mass": a["half_mass"],
            "within": _rows(a["overlap"], same), "across": _rows(a["overlap"], across),
            "ceiling": np.diag(a["overlap_halves"]),
            "floor": _rows(a["overlap_swapped"], across),
            "mlp_share": a["mlps"].sum(1), "head_share": a["heads"].sum((1, 2)),
            "embedding_share": a["embeddings"],
        }
        for name, per_task in values.items():
            per_task = per_task[np.isfinite(per_task)]
            ends = bootstrap_mean(per_task, settings.seed, settings.n_boot)
            row |= {name: ends.estimate, f"{name}_low": ends.low, f"{name}_high": ends.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _rows(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Mean of each row over the cells kept; NaN for a row without any."""
    count = keep.sum(1)
    return np.where(count > 0, (values * keep).sum(1) / np.maximum(count, 1), np.nan)


def neighbours(settings: Settings, points: list[AtPoint]) -> pd.DataFrame:
    """How alike the spaces of neighbouring checkpoints of one model are."""
    rows = []
    for a, b in pairwise(points):
        if a.point.model != b.point.model:
            continue
        for name in ("overlap", "cosine"):
            test = mantel(
                a.arrays[name], b.arrays[name], n=settings.n_null, seed=settings.seed
            )
            rows.append({"model": a.point.model, "from": a.point.step, "to": b.point.step,
                         "space": f"gradient {name}", "r": test.r, "p": test.p})
        if a.transfer is None or b.transfer is None:
            continue
        if not (is_constant(a.transfer) or is_constant(b.transfer)):
            test = mantel(a.transfer, b.transfer, n=settings.n_null, seed=settings.seed)
            rows.append({"model": a.point.model, "from": a.point.step, "to": b.point.step,
                         "space": "transfer", "r": test.r, "p": test.p})
    return pd.DataFrame(rows, columns=["model", "from", "to", "space", "r", "p"])


def head_table(
    pairs: MinimalPairs, at: AtPoint, settings: Settings
) -> tuple[pd.DataFrame, Interval]:
    """Per phenomenon and head: share of |g|, fall when closed; and how well the two agree.

    Agreement: Spearman correlation over heads of share and fall, each relative to its head's mean
    over phenomena, so that heads that matter for everything do not count; mean over phenomena.
    """
    share, drop = at.arrays["heads"], np.moveaxis(at.arrays["closed"], 2, 0)
    kinds = list(dict.fromkeys(pairs.phenomena))
    member = np.array([[p == k for p in pairs.phenomena] for k in kinds], dtype=float)
    member /= member.sum(1, keepdims=True)
    by_share = np.einsum("kt,tlh->klh", member, share)
    by_drop = np.einsum("kt,tlh->klh", member, drop)
    rows = [
        {"phenomenon": kind, "head": f"{layer}.{head}", "gradient_share": by_share[k, layer, head],
         "drop_when_closed": by_drop[k, layer, head]}
        for k, kind in enumerate(kinds)
        for layer in range(share.shape[1]) for head in range(share.shape[2])
    ]
    a = (by_share / by_share.mean(0)).reshape(len(kinds), -1)
    b = (by_drop - by_drop.mean(0)).reshape(len(kinds), -1)
    r = [
        float(found) for x, y in zip(a, b, strict=True)
        if np.ptp(x) > 0 and np.ptp(y) > 0
        and np.isfinite(found := spearmanr(x, y).statistic)  # pyright: ignore
    ]
    ends = bootstrap_mean(np.array(r or [0.0]), settings.seed, settings.n_boot)
    return pd.DataFrame(rows), ends


def read_kinds(points: list[Point], run: Run) -> pd.DataFrame:
    """The comparison of kinds of tuning, empty when the run has none."""
    for point in points:
        rel = f"tables/kinds-of-tuning-{point.name}.csv"
        if run.path(rel).exists():
            return run.read_table(rel)
    return pd.DataFrame()


def kinds_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over tasks of each method and learning rate; the median of the perplexity ratio."""
    return table.groupby(["method", "lr"], sort=False).agg(
        gain=("gain", "mean"), same_phenomenon=("same_phenomenon", "mean"),
        other_phenomena=("other_phenomena", "mean"),
        perplexity_ratio=("perplexity_ratio", "median"), tasks=("task", "count"),
    ).reset_index()


def within_budget(table: pd.DataFrame, method: str, budget: float) -> pd.Series:
    """Each task's gain by a method, at the learning rate that the other tasks choose.

    They choose the largest mean gain among the rates whose median perplexity ratio keeps to the
    budget; where none does, the task's gain is that of no tuning, 0.
    """
    mine = rows_where(table, table.method == method)
    out = {}
    for task in dict.fromkeys(mine.task):
        others = rows_where(mine, mine.task != task).groupby("lr").agg(
            gain=("gain", "mean"), ratio=("perplexity_ratio", "median")
        )
        fit = rows_where(others, others["ratio"] <= budget)
        if fit.empty:
            out[task] = 0.0
            continue
        lr = fit["gain"].idxmax()
        out[task] = float(rows_where(mine, (mine.task == task) & (mine.lr == lr))["gain"].iloc[0])
    return pd.Series(out, dtype=float).fillna(0.0)
