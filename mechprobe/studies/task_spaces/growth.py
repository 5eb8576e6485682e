"""What changes over training and between sizes: tables of the points side by side."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from mechprobe.stats import bootstrap_mean, sign_flip_p
from mechprobe.stats.mantel import mantel
from mechprobe.studies.task_spaces.at_point import AtPoint, is_constant, related, row_means
from mechprobe.studies.task_spaces.results import Results
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.training.pair_scores import macro_mean


def sizes(results: Results) -> pd.DataFrame:
    """The last point of every model side by side, small first."""
    rows = []
    for at in results.lasts:
        a, kinds = at.arrays, results.pairs.phenomena
        assert at.tuning is not None
        raw = at.tuning.space.transfer("raw")
        inside, outside = related(kinds)
        rows.append({
            "model": at.point.model, "weights": int(a["weights"]),
            "perplexity": float(a["perplexity"]), "accuracy": at.accuracy.mean(),
            "accuracy_by_phenomenon": macro_mean(at.accuracy, kinds),
            "gain": np.diag(raw).mean(), "accuracy_within": raw[inside].mean(),
            "accuracy_across": raw[outside].mean(),
            "transfer_within": at.tuning.contrast.within,
            "transfer_across": at.tuning.contrast.across,
            "overlap_within": at.gradients.within, "overlap_across": at.gradients.across,
            "participation": a["participation"].mean(), "half_mass": a["half_mass"].mean(),
            "r_transfer_hypothesis": at.tests["transfer ~ hypothesis"].r,
            "r_cosine_hypothesis": at.tests["gradient cosine ~ hypothesis"].r,
        })
    return pd.DataFrame(rows)


def development(settings: Settings, results: Results) -> pd.DataFrame:
    """Distributedness and sharing at every point, with 95 % bootstrap intervals over tasks."""
    rows = []
    for at in results.points:
        row: dict[str, object] = {
            "model": at.point.model, "step": at.point.step, "accuracy": at.accuracy.mean(),
        }
        for name, per_task in quantities(results, at).items():
            per_task = per_task[np.isfinite(per_task)]
            ends = bootstrap_mean(per_task, settings.seed, settings.n_boot)
            row |= {name: ends.estimate, f"{name}_low": ends.low, f"{name}_high": ends.high}
        rows.append(row)
    return pd.DataFrame(rows)


def quantities(results: Results, at: AtPoint) -> dict[str, np.ndarray]:
    """What is followed over training, by name; one number a task, NaN where there is none."""
    a = at.arrays
    inside, outside = related(results.pairs.phenomena)
    return {
        "participation": a["participation"], "half_mass": a["half_mass"],
        "within": row_means(a["overlap"], inside), "across": row_means(a["overlap"], outside),
        "ceiling": a["half_overlap"], "floor": row_means(a["swapped_overlap"], outside),
        "head_share": a["heads"].sum((1, 2)), "mlp_share": a["mlps"].sum(1),
        "embedding_share": a["embeddings"],
    }


def slopes(settings: Settings, results: Results) -> pd.DataFrame:
    """Change over training of what is followed, per factor e of the steps, with 95 % intervals.

    A least-squares line a task against log steps; of the participation ratio and the half mass its
    logarithm. p: signs of the tasks' slopes flipped.
    """
    rows = []
    for model in dict.fromkeys(at.point.model for at in results.points):
        mine = [at for at in results.of_model(model) if at.point.step > 0]
        if len(mine) < 3:
            continue
        steps = np.log([at.point.step for at in mine])
        each = [quantities(results, at) for at in mine]
        for name in ("participation", "half_mass", "within", "across", "within - across"):
            slope = task_slopes(steps, each, name)
            ends = bootstrap_mean(slope, settings.seed, settings.n_boot)
            rows.append({
                "model": model, "quantity": name, "slope": ends.estimate, "slope_low": ends.low,
                "slope_high": ends.high, "p": float(sign_flip_p(slope)), "points": len(mine),
            })
    return pd.DataFrame(
        rows, columns=["model", "quantity", "slope", "slope_low", "slope_high", "p", "points"]
    )


def task_slopes(
    steps: np.ndarray, each: list[dict[str, np.ndarray]], name: str
) -> np.ndarray:
    """Slope against log steps of a quantity (or of a difference "a - b") of every task."""
    first, *second = name.split(" - ")
    values = np.stack([q[first] - (q[second[0]] if second else 0.0) for q in each])
    if name in ("participation", "half_mass"):
        values = np.log(np.maximum(values, 1e-300))
    values = values[:, np.isfinite(values).all(0)]
    return np.polyfit(steps, values, 1)[0]


def likeness(settings: Settings, results: Results) -> pd.DataFrame:
    """How alike the spaces of neighbouring checkpoints of a model, and of neighbouring sizes, are.

    Mantel tests of neighbours in training ("checkpoints") and of last points ("sizes").
    """
    rows: list[dict[str, object]] = []
    couples = [("checkpoints", a, b) for a, b in pairwise(results.points)
               if a.point.model == b.point.model]
    couples += [("sizes", a, b) for a, b in pairwise(results.lasts)]
    for kind, a, b in couples:
        spaces = {f"gradient {n}": (a.arrays[n], b.arrays[n]) for n in ("overlap", "cosine")}
        if a.tuning is not None and b.tuning is not None:
            spaces["transfer"] = (a.tuning.transfer, b.tuning.transfer)
        for name, (first, second) in spaces.items():
            if is_constant(first) or is_constant(second):
                continue
            test = mantel(first, second, n=settings.n_null, seed=settings.seed)
            rows.append({"between": kind, "first": a.point.name, "second": b.point.name,
                         "space": name, "r": test.r, "p": test.p})
    return pd.DataFrame(rows, columns=["between", "first", "second", "space", "r", "p"])
