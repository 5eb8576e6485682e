"""Other shapes: which models are compared, and what the comparison may say."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from mechprobe.studies.hierarchy.results import ModelResults, Results
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.studies.hierarchy.shapes import (
    equally_trained,
    layers_needed,
    layers_needed_claims,
    shape_table,
)
from mechprobe.studies.hierarchy.specs import read_spec
from mechprobe.studies.hierarchy.trajectory import BLOCKS, FILTERS, staircase
from mechprobe.studies.hierarchy.verdict_training import model_label

SETTINGS = replace(PRESETS["laptop"], masked_steps=30, variant_steps=20, depth=2, n_checkpoints=2)
EMPTY = pd.DataFrame()


def model(name: str, kl: float) -> ModelResults:
    """A masked model whose KL to BP_0 ends as given, 0.01 either way."""
    spec = read_spec(SETTINGS, name)
    rungs = [
        {"model": name, "step": step, "sequences": 64 * step, "drawn": "held out",
         "ladder": ladder, "rung": rung, "kl": kl + 0.1 * abs(rung - (ladder == BLOCKS) * 2),
         "low": kl - 0.01, "high": kl + 0.01, "closest_share": 1.0}
        for step in (0, spec.steps) for ladder in (FILTERS, BLOCKS) for rung in range(3)
    ]
    right = [
        {"model": name, "step": step, "sequences": 64 * step, "drawn": "held out",
         "accuracy": 1 - kl, "low": 0.0, "high": 1.0} for step in (0, spec.steps)
    ]
    attention = pd.DataFrame([
        {"model": name, "head": "0.0", "height": height, "enrichment": 1.0 + height,
         "weights": "trained"} for height in (1, 2)
    ])
    table = pd.DataFrame(rungs)
    return ModelResults(
        spec, table, pd.DataFrame(right), {FILTERS: staircase(table)}, EMPTY, EMPTY, attention,
    )


def results(*models: ModelResults) -> Results:
    return Results({m.spec.name: m for m in models}, {}, EMPTY, EMPTY, EMPTY)


NAMES = ("masked-k0", "masked-k0-layers3", "masked-k0-heads1", "masked-k0-layers1",
         "masked-k0-heads4", "masked-k2", "masked-k0-depth3", "root-k0")


def test_models_of_one_length_of_training_are_compared_and_no_others():
    found = results(*(model(name, 0.1) for name in NAMES))
    assert [m.spec.name for m in equally_trained(found, "masked")] == [
        "masked-k0-layers1", "masked-k0-heads1", "masked-k0-heads4", "masked-k0-layers3",
    ]
    table = shape_table(found)
    assert list(zip(table["layers"], table["heads"], strict=True)) == [(1, 1), (2, 1), (2, 4),
                                                                      (3, 1)]
    assert set(table["sequences"]) == {64 * 20}
    assert table["closest_BP"].tolist() == [0] * 4
    assert table["closest_B"].tolist() == [2] * 4
    assert table["E_2"].tolist() == [3.0] * 4
    assert len(shape_table(results(model("masked-k0", 0.1)))) == 0


@pytest.mark.parametrize(("fewer", "own", "more", "verdict"), [
    (0.3, 0.1, 0.1, "held"), (0.11, 0.1, 0.1, "did not hold"), (0.3, 0.1, 0.05, "did not hold"),
    (0.3, 0.1, 0.2, "held"),
])
def test_a_layer_a_level_is_judged_by_intervals(fewer, own, more, verdict):
    found = results(
        model("masked-k0", 0.01), model("masked-k0-layers1", fewer),
        model("masked-k0-heads4", 0.0), model("masked-k0-heads1", own),
        model("masked-k0-layers3", more),
    )
    claim = layers_needed(found, "masked")
    assert claim is not None
    assert claim.verdict == verdict
    assert f"1 layers {fewer:.3g} [" in claim.numbers
    assert f"2 layers {own:.3g} [" in claim.numbers


def test_pictures_name_the_shape():
    assert model_label(model("masked-k0-heads2-layers5", 0.1)) == (
        "masked, k = 0, 2 heads, 5 layers"
    )
    assert model_label(model("masked-k0", 0.1)) == "masked, k = 0"


def test_without_the_three_depths_nothing_is_said():
    (claim,) = layers_needed_claims(results(model("masked-k0", 0.1), model("masked-k2", 0.1)))
    assert claim.verdict == "not testable here"
    assert layers_needed(results(), "root") is None
