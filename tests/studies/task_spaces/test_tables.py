"""Numbers of the study's tables on small cases that can be worked out by hand."""

import numpy as np
import pytest

from mechprobe.studies.task_spaces.at_point import accuracies, related, row_means
from mechprobe.studies.task_spaces.cost import gradient_passes
from mechprobe.studies.task_spaces.growth import task_slopes
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.regime import regime_point
from mechprobe.studies.task_spaces.settings import PRESETS, Settings


def test_slopes_are_those_of_lines_against_log_steps():
    steps = np.log([10.0, 100.0, 1000.0])
    rise = np.array([0.1, -0.2])
    within = [0.3 + rise * step for step in steps]
    spread = [np.exp(0.5 * rise * step) for step in steps]
    each = [
        {"within": w, "across": np.full(2, 0.05) * step, "participation": p}
        for w, p, step in zip(within, spread, steps, strict=True)
    ]
    np.testing.assert_allclose(task_slopes(steps, each, "within"), rise)
    np.testing.assert_allclose(task_slopes(steps, each, "participation"), 0.5 * rise)
    np.testing.assert_allclose(task_slopes(steps, each, "within - across"), rise - 0.05)


def test_a_task_without_a_relative_has_no_slope_within():
    each = [{"within": np.array([0.1, np.nan])}, {"within": np.array([0.3, np.nan])}]
    assert task_slopes(np.array([0.0, 1.0]), each, "within") == pytest.approx([0.2])


def test_related_tasks_are_others_of_the_phenomenon():
    inside, outside = related(["a", "a", "b"])
    assert inside.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert outside.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    values = np.array([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    found = row_means(values, inside)
    assert found[:2].tolist() == [1.0, 3.0]
    assert np.isnan(found[2])
    assert row_means(values, outside).tolist() == [2.0, 4.0, 5.5]


def test_accuracy_is_the_share_of_a_tasks_pairs_above_zero():
    arrays = {"scores": np.array([1.0, -1.0, 0.0, 2.0, 3.0]),
              "scored_task": np.array([0, 0, 0, 1, 1])}
    assert accuracies(arrays).tolist() == pytest.approx([1 / 3, 1.0])


def test_gradients_are_taken_again_for_every_block_that_comes_later():
    assert gradient_passes(5, 5) == 1.0
    assert gradient_passes(5, 2) == pytest.approx((5 + 3 + 1) / 5)


def test_kinds_are_compared_on_the_first_whole_point_of_a_model():
    points = [Point(m, s, "", s > 1) for m in ("a", "b") for s in (1, 2, 3)]
    assert regime_point(Settings(), points).name == "b-step-2"
    assert regime_point(Settings(regime_model="a"), points).name == "a-step-2"
    real = PRESETS["real"]
    assert real.regime_model in real.sizes
