"""Every checkpoint against every ideal observer: the staircase of the closest one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from mechprobe.runs import Run, progress
from mechprobe.stats import bootstrap_mean, wilson
from mechprobe.studies.hierarchy.models import open_model
from mechprobe.studies.hierarchy.rows import records, where
from mechprobe.studies.hierarchy.sequences import IN, OUT, Scored, scored_sets
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, checkpoint_steps
from mechprobe.training.tree_tasks import tree_log_probs
from mechprobe.trees import agreement, change_points, closest_rung, closest_shares, divergences

FILTERS, BLOCKS = "BP_k", "B_s"


def score_trajectory(settings: Settings, spec: Spec, run: Run) -> dict:
    """Score every checkpoint of a model; tables ``tables/divergence-*`` and ``accuracy-*``."""
    sets = scored_sets(settings, spec)
    rungs: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []
    steps = checkpoint_steps(settings, spec)
    for step in progress(steps, f"score {spec.name}", unit="checkpoint"):
        model = open_model(settings, run, spec, step)
        where = {"model": spec.name, "step": step, "sequences": step * settings.batch}
        for scored in sets:
            log_probs = tree_log_probs(
                model, scored.tokens.to(settings.device),
                None if scored.mask is None else scored.mask.to(settings.device),
            )
            if scored.name in (IN, OUT):
                last = step == steps[-1]
                rungs += divergence_rows(where, scored, log_probs, settings, intervals=last)
            right.append({**where, "drawn": scored.name,
                          **accuracy_row(scored, log_probs)})
    run.write_table(f"tables/divergence-{spec.name}.csv", pd.DataFrame(rungs))
    run.write_table(f"tables/accuracy-{spec.name}.csv", pd.DataFrame(right))
    return {"steps": steps}


def divergence_rows(
    where: dict[str, Any], scored: Scored, log_probs: torch.Tensor, settings: Settings, *,
    intervals: bool,
) -> list[dict[str, Any]]:
    """One row a ladder and rung: mean KL(observer || model), and how surely it is the closest."""
    rows = []
    ladders = {FILTERS: scored.bp} | ({} if scored.blocks is None else {BLOCKS: scored.blocks})
    for ladder, observers in ladders.items():
        values = divergences(observers, log_probs).numpy()
        shares = closest_shares(values, seed=settings.seed)
        for rung, (row, share) in enumerate(zip(values, shares, strict=True)):
            ends = bootstrap_mean(row, seed=settings.seed, n=500) if intervals else None
            rows.append({
                **where, "drawn": scored.name, "ladder": ladder, "rung": rung,
                "kl": float(row.mean()), "low": ends.low if ends else np.nan,
                "high": ends.high if ends else np.nan, "closest_share": float(share),
            })
    return rows


def accuracy_row(scored: Scored, log_probs: torch.Tensor) -> dict[str, float | int]:
    """Accuracy with its interval, the best observer's, and how often their first choice agrees."""
    hits = int((log_probs.argmax(1) == scored.answer).sum())
    ends = wilson(hits, len(log_probs))
    found: dict[str, float | int] = {
        "symbols": log_probs.shape[1], "accuracy": ends.estimate,
        "low": ends.low, "high": ends.high,
        "agreement": float(agreement(scored.bp[0], log_probs).mean()),
    }
    for k, observer in enumerate(scored.bp):
        found[f"BP_{k}"] = float((observer.argmax(1) == scored.answer).double().mean())
    return found


def staircase(divergence: pd.DataFrame, ladder: str = FILTERS, drawn: str = IN) -> pd.DataFrame:
    """One row a checkpoint: closest rung, its KL, the runner-up's ratio, bootstrap share."""
    mine = where(divergence, ladder=ladder, drawn=drawn)
    rows = []
    for step in sorted(set(mine["step"])):
        part = records(mine, by="rung", step=step)
        best = closest_rung([r["kl"] for r in part], [r["rung"] for r in part])
        share = next(r["closest_share"] for r in part if r["rung"] == best.rung)
        rows.append({
            "model": part[0]["model"], "ladder": ladder, "step": step,
            "sequences": int(part[0]["sequences"]), "closest": best.rung,
            "kl": best.divergence, "runner_up_ratio": best.ratio, "share": float(share),
        })
    return pd.DataFrame(rows)


def changes(stairs: pd.DataFrame) -> pd.DataFrame:
    """The change points of a staircase: between which numbers of sequences, from, to, how sure."""
    points, rows = records(stairs), []
    for i, before, after in change_points([p["closest"] for p in points]):
        now, then = points[i], points[i - 1]
        rows.append({
            "model": now["model"], "ladder": now["ladder"], "from": before, "to": after,
            "after_sequences": int(then["sequences"]), "by_sequences": int(now["sequences"]),
            "share": float(now["share"]),
        })
    columns = ["model", "ladder", "from", "to", "after_sequences", "by_sequences", "share"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def samples_to_level(stairs: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Sequences seen until the closest rung is ``level`` or deeper, for each level; NaN: never."""
    points, rows = records(stairs), []
    for level in range(depth, -1, -1):
        there = [p["sequences"] for p in points if p["closest"] <= level and p["step"] > 0]
        rows.append({
            "model": points[0]["model"], "level": level,
            "sequences": float(min(there, default=np.nan)),
        })
    return pd.DataFrame(rows)
