"""What a run's settings say of its masks is what the masks are trained with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mechprobe.locate.masks import published_settings
from mechprobe.studies.heuristic_core.search import mask_settings
from mechprobe.studies.heuristic_core.settings import PRESETS
from mechprobe.studies.heuristic_core.write import mask_steps


@pytest.mark.parametrize("rule", ["expected", "published"])
def test_every_mask_setting_counts_under_both_rules(rule):
    given = replace(
        PRESETS["tiny"], rule=rule, mask_steps=70, mask_accumulation=3, mask_lr=0.2,
        mask_lambda_lr=0.7,
    )
    own = mask_settings(given, 0.5)
    assert (own.rule, own.steps, own.accumulation, own.lr, own.lambda_lr) == (rule, 70, 3, 0.2, 0.7)


def test_the_paper_preset_is_as_published():
    for sparsity in PRESETS["paper"].sparsities:
        assert mask_settings(PRESETS["paper"], sparsity) == published_settings(sparsity)


def test_the_report_says_how_many_steps_a_mask_took():
    assert mask_steps(replace(PRESETS["tiny"], rule="expected", mask_steps=0)) == "500"
    assert mask_steps(PRESETS["tiny"]) == "40"
    assert mask_steps(PRESETS["paper"]) == "9,300 or 10,420"
