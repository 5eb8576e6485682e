"""What the fine-tuned models show: each condition beside plain fine-tuning and its own null."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.stats import Interval, t_interval
from mechprobe.studies.topology.finetune import PLAIN, null_of

Units = Sequence[dict[str, Any]]
"""One dict a fine-tuned model, as ``tune_unit`` gives it."""


def by_condition(units: Units) -> dict[str, list[dict[str, Any]]]:
    """The models of each condition, by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for unit in sorted(units, key=lambda unit: unit["seed"]):
        found.setdefault(unit["condition"], []).append(unit)
    return found


def mcc_gain(units: Units, condition: str, base: str, level: float = 0.95) -> Interval:
    """Matthews' correlation of one condition minus another's, paired by seed."""
    by = by_condition(units)
    own, other = (np.array([unit["mcc"] for unit in by[name]]) for name in (condition, base))
    return t_interval(own - other, level)


def collapses(units: Units) -> str:
    """How many of the models give one answer only, in words."""
    return f"{sum(unit['collapsed'] for unit in units)} of {len(units)} collapsed"


def pulled_streams(units: Units) -> list[str]:
    """The streams that were pulled towards a tree and, as their null, away from it."""
    by = by_condition(units)
    return [name for name in by if null_of(name) in by]


def fall(units: Units, stream: str) -> float:
    """How many times smaller L_probe of held-out sentences is after the pull at a stream."""
    return float(np.mean([
        unit["probe_loss_before"][stream] / max(unit["probe_loss_after"][stream], 1e-12)
        for unit in by_condition(units)[stream]
    ]))


def model_table(units: Units) -> pd.DataFrame:
    """One row a fine-tuned model."""
    rows = []
    for unit in units:
        row = {k: v for k, v in unit.items() if not isinstance(v, dict | list)}
        for stream, value in unit["probe_loss_after"].items():
            row[f"L_probe before {stream}"] = unit["probe_loss_before"][stream]
            row[f"L_probe after {stream}"] = value
        rows.append(row)
    return pd.DataFrame(rows)


def condition_table(units: Units) -> pd.DataFrame:
    """One row a condition: mean, sd, best, collapses, gains over plain and over its null."""
    by = by_condition(units)
    rows = []
    for name, own in by.items():
        mcc = np.array([unit["mcc"] for unit in own])
        row = {
            "condition": name, "seeds": len(mcc), "mcc": mcc.mean(),
            "sd": mcc.std(ddof=1) if len(mcc) > 1 else np.nan, "best": mcc.max(),
            "accuracy": np.mean([unit["accuracy"] for unit in own]),
            "collapsed": sum(unit["collapsed"] for unit in own),
        }
        for base, title in ((PLAIN, "over plain"), (null_of(name), "over its null")):
            if base in by and base != name:
                gain = mcc_gain(units, name, base)
                row |= {title: gain.estimate, f"{title} low": gain.low, f"{title} high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows)
