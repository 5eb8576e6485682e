"""The study's tables, each a function of the results; columns of shares are between 0 and 1."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from mechprobe.stats import wilson
from mechprobe.studies.task_spaces.at_point import related, row_means
from mechprobe.studies.task_spaces.results import Results, by_phenomenon


def accuracy(results: Results) -> pd.DataFrame:
    """Accuracy of every paradigm at every point, with 95 % (Wilson) ends at the last one."""
    table = pd.DataFrame({
        "paradigm": results.pairs.names, "phenomenon": results.pairs.phenomena,
        "field": results.pairs.fields,
    })
    for at in results.points:
        table[at.point.name] = at.accuracy
    task = results.main.arrays["scored_task"]
    right = results.main.arrays["scores"] > 0
    ends = [wilson(int(right[task == t].sum()), int((task == t).sum()))
            for t in range(len(results.pairs))]
    return table.assign(low=[e.low for e in ends], high=[e.high for e in ends])


def tests(results: Results) -> pd.DataFrame:
    """Every Mantel test of every point."""
    return pd.DataFrame([
        {"model": at.point.model, "step": at.point.step, "test": name, "r": test.r, "p": test.p,
         "tasks": test.items}
        for at in results.points for name, test in at.tests.items()
    ])


def groups(results: Results) -> pd.DataFrame:
    """Transfer and gradients within and across phenomena at every point."""
    inside, outside = related(results.pairs.phenomena)
    rows = []
    for at in results.points:
        row: dict[str, object] = {
            "model": at.point.model, "step": at.point.step,
            "overlap_within": at.gradients.within, "overlap_across": at.gradients.across,
            "overlap_p": at.gradients.p,
        }
        for name in ("cosine", "sign_agreement", "shared_cosine"):
            values = at.arrays[name]
            row |= {f"{name}_within": np.nanmean(values[inside]),
                    f"{name}_across": np.nanmean(values[outside])}
        if at.tuning is not None:
            c, (low, high) = at.tuning.contrast, at.tuning.interval
            row |= {
                "transfer_within": c.within, "transfer_across": c.across,
                "difference": c.difference, "difference_low": low, "difference_high": high,
                "transfer_p": c.p,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def parts(results: Results) -> pd.DataFrame:
    """Share of the sum of |g| in each layer's heads and MLP and in the rest, by phenomenon."""
    a = results.main.arrays
    columns: dict[str, np.ndarray] = {"embeddings": a["embeddings"]}
    for layer in range(a["mlps"].shape[1]):
        columns |= {f"heads.{layer}": a["heads"][:, layer].sum(1), f"mlp.{layer}":
                    a["mlps"][:, layer]}
    columns["rest"] = a["rest"]
    kinds, shares = by_phenomenon(results.pairs, np.stack(list(columns.values()), 1))
    return pd.DataFrame({"phenomenon": kinds, **dict(zip(columns, shares.T, strict=True))})


def clusters(results: Results) -> pd.DataFrame:
    """How well clusters of each space fit the phenomena."""
    return pd.DataFrame([
        {"space": name, "adjusted_rand": c.rand, "p_rand": c.p_rand,
         "same_phenomenon_neighbour": c.neighbours, "p_neighbour": c.p_neighbours}
        for name, c in results.clusters.items()
    ])


def tuned(results: Results) -> pd.DataFrame:
    """What tuning on each task did at the last point."""
    space = results.tuning.space
    inside, outside = related(results.pairs.phenomena)
    raw, nats = space.transfer("raw"), space.transfer("log_odds")
    return pd.DataFrame({
        "task": results.pairs.names, "phenomenon": results.pairs.phenomena,
        "accuracy_before": space.eval1, "gain": np.diag(raw),
        "same_phenomenon": row_means(raw, inside), "other_phenomena": row_means(raw, outside),
        "gain_nats": np.diag(nats), "same_phenomenon_nats": row_means(nats, inside),
        "other_phenomena_nats": row_means(nats, outside),
        "perplexity_ratio": space.perplexity_ratio, "weights_changed": space.changed,
    })


def kinds_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over tasks of each method and learning rate; the median of the perplexity ratio."""
    return _failed_gain_nothing(table).groupby(["method", "lr"], sort=False).agg(
        gain=("gain", "mean"), same_phenomenon=("same_phenomenon", "mean"),
        other_phenomena=("other_phenomena", "mean"),
        perplexity_ratio=("perplexity_ratio", "median"), tasks=("task", "count"),
    ).reset_index()


def regime(table: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Where each method works: its largest mean gain while the median perplexity keeps to a budget.

    ``breaks_at``: the smallest learning rate that does not keep to it; NaN where all do.
    """
    rows = []
    for method, part in kinds_summary(table).groupby("method", sort=False):
        fits = part["perplexity_ratio"] <= budget
        best = rows_where(part, fits).nlargest(1, "gain").to_dict("records")
        rows.append({
            "method": method,
            **(best[0] if best else {"lr": np.nan}),
            "breaks_at": rows_where(part, ~fits)["lr"].min(),
        })
    return pd.DataFrame(rows, columns=[
        "method", "lr", "gain", "perplexity_ratio", "same_phenomenon", "other_phenomena",
        "breaks_at",
    ])


def within_budget(table: pd.DataFrame, method: str, budget: float) -> pd.Series:
    """Each task's gain by a method, at the learning rate that the other tasks choose.

    They choose the largest mean gain among the rates whose median perplexity ratio keeps to the
    budget; where none does, the task's gain is that of no tuning, 0.
    """
    mine = _failed_gain_nothing(rows_where(table, table.method == method))
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
    return pd.Series(out, dtype=float)


def cost_of_gain(
    table: pd.DataFrame, method: str, than: str, share: float, most: float = 100.0
) -> pd.DataFrame:
    """Each task's perplexity ratio and gain by a method that gains what another does.

    The other tasks choose the learning rate: the least median perplexity ratio among those whose
    mean gain is at least ``share`` of the best mean gain of the method ``than``.

    Returns:
        ``ratio`` and ``gain`` by task. A ratio above ``most``, a tuning that failed and a gain
        that no learning rate reaches count as ``most``.
    """
    table, out = _failed_gain_nothing(table), {}
    for task in dict.fromkeys(table.task):
        others = rows_where(table, table.task != task).groupby(["method", "lr"]).agg(
            gain=("gain", "mean"), ratio=("perplexity_ratio", "median")
        )
        asked = share * others.loc[than].gain.max()
        fit = others.loc[method]
        fit = fit[fit.gain >= asked]
        if fit.empty:
            out[task] = {"ratio": most, "gain": 0.0}
            continue
        at = (table.task == task) & (table.method == method) & (table.lr == fit.ratio.idxmin())
        row = rows_where(table, at).iloc[0]
        out[task] = {"ratio": min(row.perplexity_ratio, most), "gain": row.gain}
    return pd.DataFrame.from_dict(out, orient="index")


def _failed_gain_nothing(table: pd.DataFrame) -> pd.DataFrame:
    """A tuning that failed has no gain: 0, so that a mean over tasks counts it."""
    return table.fillna({"gain": 0.0})


def rows_where(table: pd.DataFrame, keep: object) -> pd.DataFrame:
    """The rows a boolean mask keeps, as a table."""
    return cast(pd.DataFrame, table.loc[cast(Any, keep)])
