"""Memorise then abstract: memory of the auxiliary task, and what transfers, over its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.studies.abstraction.procedures import SetRun, target_unit
from mechprobe.studies.abstraction.settings import Settings

MEMORY = 0.9


def point_steps(settings: Settings) -> list[int]:
    """Steps of auxiliary training on a log grid that ends with training; empty without points."""
    if not settings.points:
        return []
    first = max(1, settings.auxiliary_steps // 2 ** (settings.points - 1))
    grid = np.geomspace(first, settings.auxiliary_steps, settings.points)
    return sorted({max(1, round(step)) for step in grid})


def point_unit(at: SetRun, step: int, source: str | None) -> dict:
    """Learn the target task for a fixed, short time from one point of auxiliary training."""
    name = f"point-{at.index}-{step:06d}"
    return target_unit(
        at, "auxiliary", at.settings.adapt[-1], name, source, steps=at.settings.point_steps
    )


def timeline(
    memory: Sequence[Mapping[str, Any]], found: dict[int, dict], threshold: float = MEMORY
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Memory and transfer at each point, and where each changes.

    Args:
        memory: step and exact match on training pairs, in the order of training.
        found: outcome of ``point_unit`` at each step; step 0 is no auxiliary training.

    Returns:
        The table (step, memory, generalisation, in_distribution, delta: generalisation less that at
        step 0), and: memory_step, the first step with memory at the threshold; abstraction_step,
        the first with half of the largest delta; both NaN where not reached; cells, by how many
        points of the grid the second is later; and the change points (the split into two levels
        that fits best, as the first step of the second level).
    """
    start = float(np.mean(found[0]["ood"]))
    rows = [
        {
            "step": int(point["step"]), "memory": point["memory"],
            "generalisation": float(np.mean(found[int(point["step"])]["ood"])),
            "in_distribution": float(np.mean(found[int(point["step"])]["test"])),
        }
        for point in memory
    ]
    table = pd.DataFrame(rows)
    delta = table["generalisation"].to_numpy() - start
    table = table.assign(delta=delta)
    steps = table["step"].to_numpy(float)
    memorised = _first(table["memory"].to_numpy(float) >= threshold)
    abstract = _first(delta >= delta.max() / 2) if delta.max() > 0 else None
    cells = float("nan")
    if memorised is not None and abstract is not None:
        cells = float(abstract - memorised)
    return table, {
        "memory_step": float("nan") if memorised is None else steps[memorised],
        "abstraction_step": float("nan") if abstract is None else steps[abstract],
        "cells": cells,
        "memory_change": float(steps[change_point(table["memory"].to_numpy(float))]),
        "transfer_change": float(steps[change_point(delta)]),
    }


def _first(reached: np.ndarray) -> int | None:
    found = np.flatnonzero(reached)
    return int(found[0]) if len(found) else None


def change_point(values: np.ndarray) -> int:
    """Index where a second level begins, so that two levels fit best by least squares."""
    if len(values) < 2:
        return 0

    def error(split: int) -> float:
        return float(sum(((part - part.mean()) ** 2).sum() for part in np.split(values, [split])))

    return min(range(1, len(values)), key=error)
