"""Memorise, then abstract: thresholds and change points on curves whose truth is plain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechprobe.studies.abstraction.settings import PRESETS
from mechprobe.studies.abstraction.timeline import change_point, point_steps, timeline

STEPS = [60, 125, 250, 500, 1_000]


def curves(memory, transfer, start=0.1):
    points = [{"step": float(s), "memory": m} for s, m in zip(STEPS, memory, strict=True)]
    found = {0: {"ood": [start], "test": [0.9]}} | {
        s: {"ood": [t], "test": [0.9]} for s, t in zip(STEPS, transfer, strict=True)
    }
    return points, found


def test_memory_first_and_transfer_three_cells_later():
    table, points = timeline(*curves([0.1, 0.95, 1, 1, 1], [0.1, 0.1, 0.1, 0.15, 0.7]))
    assert points["memory_step"] == 125
    assert points["abstraction_step"] == 1_000
    assert points["cells"] == 3
    assert points["memory_change"] == 125
    assert points["transfer_change"] == 1_000
    assert table["delta"].tolist() == pytest.approx([0, 0, 0, 0.05, 0.6])


def test_what_is_never_reached_is_nan():
    _, points = timeline(*curves([0.1] * 5, [0.1] * 5))
    assert np.isnan([points["memory_step"], points["abstraction_step"], points["cells"]]).all()


def test_points_are_on_a_log_grid_that_ends_with_training():
    settings = replace(PRESETS["laptop"], auxiliary_steps=1_600, points=5)
    assert point_steps(settings) == [100, 200, 400, 800, 1_600]
    assert point_steps(replace(settings, points=0)) == []
    assert point_steps(replace(settings, auxiliary_steps=2, points=4)) == [1, 2]


def test_the_change_point_is_the_best_of_all_splits():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.normal(size=8)
        errors = [
            ((values[:k] - values[:k].mean()) ** 2).sum()
            + ((values[k:] - values[k:].mean()) ** 2).sum() for k in range(1, 8)
        ]
        assert change_point(values) == 1 + int(np.argmin(errors))
    assert change_point(np.array([1.0])) == 0
