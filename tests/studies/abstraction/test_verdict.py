"""Verdicts: what holds on made-up outcomes, and what falls with the control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.stats.intervals import Interval
from mechprobe.studies.abstraction.effects import first_table, probes
from mechprobe.studies.abstraction.mutations import kind_of_mutation_table
from mechprobe.studies.abstraction.settings import PRESETS
from mechprobe.studies.abstraction.verdict import (
    capability_claim,
    control_claim,
    heads_claim,
    middle_claim,
    mutation_claim,
    timeline_claim,
)
from mechprobe.studies.abstraction.write import summary
from mechprobe.studies.claims import FAILED, HELD, UNTESTED

HEADS = {
    "top_beyond_random": 0.4, "top_beyond_random_low": 0.2, "top_beyond_random_high": 0.6,
    "concentration_p": 0.01, "concentration_half": 2.0, "concentration_sites": 12.0,
    "concentration_gini": 0.8, "concentration_null": 0.5, "closed": 2.0,
    "full": -0.4, "top_closed": -2.0, "in_distribution_full": -0.1,
    "in_distribution_top_closed": -0.9,
}


def test_capability_needs_both_gains(settings, found):
    full, frozen = probes(settings, found)
    assert capability_claim(settings, full).verdict == FAILED
    claim = capability_claim(settings, frozen)
    assert claim.verdict == HELD
    assert "E1 6" in claim.numbers or "E1 5" in claim.numbers
    assert "too narrow with so few sets" in claim.numbers


def test_a_contrast_that_learnt_nothing_shows_nothing(settings, found):
    for name, unit in found.items():
        if name.startswith("target-contrast"):
            unit["test"] = [False] * len(unit["test"])
    claim = capability_claim(settings, probes(settings, found)[1])
    assert claim.verdict == UNTESTED
    assert "E2 needs a contrast that learns the target task" in claim.numbers
    assert "it reaches 0.0 (asked: 90.0)" in claim.numbers


def test_the_control_asks_for_90_percent(settings, found):
    tried = probes(settings, found)
    assert control_claim(settings, tried, first_table(settings, found)).verdict == HELD
    for i in range(3):
        found[f"auxiliary-{i}"]["dev"] = [True] * 4 + [False]
    assert control_claim(settings, tried, first_table(settings, found)).verdict == FAILED


def test_a_smoke_test_judges_nothing(settings, found):
    short = replace(settings, auxiliary_steps=PRESETS["tiny"].auxiliary_steps)
    tried = probes(settings, found)
    claim = control_claim(short, tried, first_table(settings, found))
    assert claim.verdict == UNTESTED
    assert "smoke test" in claim.numbers
    assert "smoke test" in summary(short, tried)[0]
    assert not any("smoke" in line for line in summary(settings, tried))


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [([2, 2, 0], HELD), ([2, 1, 1], FAILED), ([np.nan, np.nan, 3], UNTESTED), ([-1], FAILED)],
)
def test_memory_must_come_first_in_most_sets(cells, verdict):
    found = [{"cells": float(c), "memory_step": 10.0, "abstraction_step": 20.0} for c in cells]
    assert timeline_claim(found).verdict == verdict


def test_heads_must_be_few_and_matter_in_every_set():
    assert heads_claim([HEADS, HEADS], HELD).verdict == HELD
    assert heads_claim([HEADS, HEADS | {"top_beyond_random_low": -0.1}], HELD).verdict == FAILED
    assert heads_claim([HEADS, HEADS | {"concentration_p": 0.2}], HELD).verdict == FAILED
    assert "(1.60 in all; in distribution 0.80)" in heads_claim([HEADS], HELD).numbers
    assert "did not show the capability" in heads_claim([HEADS], FAILED).numbers
    assert "the capability was not testable here" in heads_claim([HEADS], UNTESTED).numbers


def test_the_middle_is_asked_of_models_that_have_one():
    table = pd.DataFrame({"stack": ["", ""], "layer": [0, 1], "centre": [0.5, 0.5]})
    assert middle_claim([table], 6).verdict == HELD
    assert middle_claim([table.assign(centre=0.9)], 6).verdict == FAILED
    assert middle_claim([table], 3).verdict == UNTESTED


def test_mutations_of_one_kind_alone_decide_nothing(settings, found):
    kinds = kind_of_mutation_table(settings, found)
    some = Interval(0.5, 0.4, 0.6, 10)
    assert mutation_claim(kinds, some).verdict == HELD
    assert mutation_claim(kinds[kinds.kind == "side"], some).verdict == UNTESTED
    assert mutation_claim(kinds.assign(low=-0.01), some).verdict == FAILED
    assert mutation_claim(kinds, Interval(0.1, -0.1, 0.3, 10)).verdict == UNTESTED
