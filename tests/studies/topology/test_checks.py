"""What the checks measure is right for right code, and says so when the code is wrong."""

from __future__ import annotations

import pytest
import torch

from mechprobe.studies.topology import checks
from mechprobe.studies.topology.bars import CHECK_BARS, has_bars
from mechprobe.studies.topology.settings import PRESETS
from mechprobe.studies.topology.units import CHECKS, units


def test_labels_pass_and_a_wrong_tie_is_seen(monkeypatch):
    assert checks.label_checks() == {"greedy_wrong": 0, "exact_excess": 0.0, "exact_worse": 0}
    right = checks.pseudo_labels

    def ties_stay(nu, real, how):
        return right(nu - 1e-9, real, how)

    monkeypatch.setattr(checks, "pseudo_labels", ties_stay)
    assert checks.label_checks()["greedy_wrong"] > 10

    def flat(nu, real, how):
        return torch.full_like(nu, 2).long()

    monkeypatch.setattr(checks, "pseudo_labels", flat)
    found = checks.label_checks()
    assert found["exact_excess"] > 1
    assert found["exact_worse"] > 10


def test_planted_trees_are_found_and_the_regulariser_does_what_it_says():
    found = {**checks.planted_checks(), **checks.regulariser_checks()}
    for name, (_, asked, bound) in CHECK_BARS.items():
        if name in found:
            assert found[name] >= bound if asked == ">=" else found[name] <= bound, name
    assert found["gradient_below"] > 1e-6
    assert found["planted_x_sp"] == pytest.approx(0.004, abs=0.004)


def test_only_runs_with_bars_make_the_checks():
    for name, settings in PRESETS.items():
        assert has_bars(settings) == (name == "real")
        assert (CHECKS in [unit.name for unit in units(settings)]) == has_bars(settings)
