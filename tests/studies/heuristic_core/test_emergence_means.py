"""Subnetworks of different steps compare: the same sparsities, each counted once."""

from __future__ import annotations

import numpy as np
import pytest

from mechprobe.studies.heuristic_core.emergence import PointScores, emergence_table


def _point(step: int, sparsity: list[float], accuracy: list[float]) -> PointScores:
    values = np.array(accuracy)
    return PointScores(step, np.array(sparsity), values, values / 2, 0.9, 0.5)


def test_only_sparsities_of_every_step_count_and_each_once():
    table = emergence_table([
        _point(1, [0.3, 0.5], [0.8, 0.6]),
        _point(2, [0.3, 0.5, 0.5, 0.5, 0.7], [0.8, 0.6, 0.6, 0.6, 0.1]),
    ])
    assert table.in_domain.tolist() == pytest.approx([0.7, 0.7])
    assert table.out_of_domain.tolist() == pytest.approx([0.35, 0.35])


def test_without_a_common_sparsity_each_step_shows_its_own():
    table = emergence_table([_point(1, [0.3], [0.8]), _point(2, [0.5, 0.7], [0.6, 0.2])])
    assert table.in_domain.tolist() == pytest.approx([0.8, 0.4])
