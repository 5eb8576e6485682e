"""Claims about the inside of models: what makes each hold, and what makes it fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechprobe.studies.hierarchy import verdict_inside as inside
from mechprobe.studies.hierarchy.results import ModelResults, Results
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.studies.hierarchy.specs import read_spec
from mechprobe.studies.hierarchy.trajectory import BLOCKS, FILTERS

EMPTY = pd.DataFrame()


def model(name: str, **tables: Any) -> ModelResults:
    """A model of depth 4 that is known by the given tables only."""
    blank = ModelResults(
        read_spec(PRESETS["laptop"], name), EMPTY, EMPTY, {}, EMPTY, EMPTY, EMPTY
    )
    return replace(blank, **tables)


def results(found: ModelResults, **more: Any) -> Results:
    return replace(Results({found.spec.name: found}, {}, EMPTY, EMPTY, EMPTY), **more)


def strongest(values: list[float], p: list[float]) -> pd.DataFrame:
    return pd.DataFrame([
        {"weights": weights, "height": height, "enrichment": value if weights == "trained" else 1.0,
         "low": value - 0.1, "high": value + 0.1, "p": one}
        for weights in ("trained", "untrained")
        for height, (value, one) in enumerate(zip(values, p, strict=True), start=1)
    ])


@pytest.mark.parametrize(("name", "values", "p", "held"), [
    ("root-k0", [5, 2, 1.0, 0.5], [0.001, 0.01, 0.9, 0.9], True),
    ("root-k0", [5, 1.2, 1.0, 0.5], [0.001, 0.01, 0.9, 0.9], False),
    ("root-k0", [5, 2, 3.0, 3.0], [0.001, 0.2, 0.9, 0.9], False),
    ("root-k3", [5, 1.0, 1.0, 1.05], [0.001, 0.9, 0.9, 0.9], True),
    ("root-k3", [5, 1.0, 1.2, 1.0], [0.001, 0.9, 0.9, 0.9], False),
    ("root-k4", [1.4, 1.0, 1.2, 1.0], [0.9, 0.9, 0.9, 0.9], True),
    ("root-k4", [1.6, 1.0, 1.0, 1.0], [0.9, 0.9, 0.9, 0.9], False),
])
def test_attention_is_asked_for_where_correlations_are_and_nowhere_else(name, values, p, held):
    found = results(model(name, strongest=strongest(values, p)))
    claim = inside.attention_claim(found, "root")
    assert claim.verdict == ("held" if held else "did not hold")
    assert f"{values[0]:.2f} [{values[0] - 0.1:.2f}" in claim.numbers
    assert inside.attention_claim(found, "masked").verdict == "not testable here"


@pytest.mark.parametrize(("heights", "verdict"), [
    ([1.0, 1.5, 2.0, 0.5], "held"), ([1.0, 2.0, 1.9, 3.0], "did not hold"),
])
def test_the_first_three_layers_must_climb(heights, verdict):
    rows = [
        {"queries": queries, "weights": weights, "layer": layer, "mean_height": height}
        for queries in ("all", "masked") for weights in ("trained", "untrained")
        for layer, height in enumerate(heights, start=1)
    ]
    found = results(model("masked-k0", layers=pd.DataFrame(rows)))
    assert inside.layers_claim(found).verdict == verdict
    shallow = results(model("masked-k0-layers2", layers=pd.DataFrame(rows)))
    assert inside.layers_claim(shallow).verdict == "not testable here"


def probes(trained: float, untrained: float, selectivity: float) -> pd.DataFrame:
    return pd.DataFrame([
        {"weights": weights, "layer": layer, "height": height, "mlp": value,
         "mlp_low": value - 0.02, "mlp_high": value + 0.02, "ceiling": 1.0,
         "control": value - selectivity, "linear": value - 0.1, "selectivity": selectivity}
        for weights, value in (("trained", trained), ("untrained", untrained))
        for layer in range(5) for height in range(1, 5)
    ])


@pytest.mark.parametrize(("trained", "untrained", "selectivity", "verdict"), [
    (0.96, 0.5, 0.2, "held"), (0.94, 0.5, 0.2, "did not hold"), (0.96, 0.93, 0.2, "did not hold"),
    (0.96, 0.5, -0.1, "did not hold"),
])
def test_probes_must_beat_their_bar_the_untrained_model_and_the_control(
    trained, untrained, selectivity, verdict
):
    claim = inside.probe_claim(model("root-k0", probes=probes(trained, untrained, selectivity)))
    assert claim.verdict == verdict
    assert claim.numbers.count("layer") == 3
    ternary = model("root-k0", probes=probes(trained, untrained, selectivity), arity=3)
    assert "ceiling of a block of 27 leaves" in inside.probe_claim(ternary).numbers


@pytest.mark.parametrize(("path", "verdict"), [
    ([0, 1, 1, 2], "held"), ([0, 2, 1, 2], "did not hold"), ([1, 1, 1, 1], "did not hold"),
])
def test_reach_must_grow_and_never_shrink(path, verdict):
    rows = [
        {"layer": layer, "height": 1, "reach": reach, "kl": 0.1, "closest": reach == best}
        for layer, best in enumerate(path) for reach in range(3)
    ]
    claim = inside.reach_claim(model("root-k0", reach=pd.DataFrame(rows)))
    assert claim.verdict == verdict
    assert "log2 of the closest" in claim.numbers
    assert "log3" in inside.reach_claim(
        model("root-k0", reach=pd.DataFrame(rows), arity=3)
    ).numbers


@pytest.mark.parametrize(("closest", "share", "verdict"), [
    ([0, 1, 2, 3, 4], 1.0, "held"), ([0, 1, 2, 2, 4], 1.0, "did not hold"),
    ([0, 1, 2, 3, 4], 0.9, "did not hold"), ([0, 1, 2, 3, 3], 1.0, "held"),
])
def test_limited_attention_must_name_every_block_below_the_whole(closest, share, verdict):
    rows = [
        {"allowed": allowed, "s": s, "rung": rung, "kl": 0.1, "low": 0.09, "high": 0.11,
         "closest": rung == (closest[s] if allowed == "own block" else 0), "share": share}
        for allowed in ("own block", "random leaves") for s in range(5) for rung in range(5)
    ]
    claim = inside.blocks_claim(results(model("masked-k0", blocks=pd.DataFrame(rows))))
    assert claim.verdict == verdict
    assert "own block of 2^s leaves" in claim.claim
    ternary = model("masked-k0", blocks=pd.DataFrame(rows), arity=3)
    assert "own block of 3^s leaves" in inside.blocks_claim(results(ternary)).claim


def ranked(learnt: int, p: list[float], low: list[float]) -> ModelResults:
    """A model that has learnt levels up to one, with p of agreement and of sets at each."""
    levels = range(1, len(p) + 1)
    agreement = [
        {"level": level, "first": first, "second": second, "rho": 0.5, "low": 0.1, "high": 0.8,
         "p": p[level - 1]}
        for level in levels for first, second in (("attention", "gates"), ("all", "all"))
    ]
    sets = [
        {"level": level, "set": "0.0 0.1", "p": p[level - 1], "observed": 0.2,
         "low": low[level - 1], "high": 0.3, "expected": 0.0, "null_low": -0.1, "null_high": 0.1}
        for level in levels
    ]
    stairs = pd.DataFrame([{"step": step, "closest": rung} for step, rung in ((0, 0), (9, learnt))])
    return model(
        "masked-k0-heads4", agreement=pd.DataFrame(agreement), sets=pd.DataFrame(sets),
        stairs={FILTERS: stairs, BLOCKS: stairs},
    )


@pytest.mark.parametrize(("learnt", "p", "low", "verdicts"), [
    (2, [0.01, 0.01, 0.9], [0.1, 0.1, -1], ("held", "held")),
    (3, [0.01, 0.01, 0.9], [0.1, 0.1, -1], ("did not hold", "did not hold")),
    (1, [0.01, 0.9, 0.9], [-0.1, 0.1, 0.1], ("held", "did not hold")),
    (0, [0.01, 0.01, 0.01], [0.1, 0.1, 0.1], ("not testable here",) * 2),
])
def test_rankings_are_judged_on_the_levels_that_are_learnt(learnt, p, low, verdicts):
    found = inside.ranking_claims(results(ranked(learnt, p, low)))
    assert tuple(claim.verdict for claim in found) == verdicts
    assert np.all([f"level {level}: " in claim.numbers for claim in found for level in (1, 2, 3)])


def test_the_construction_must_be_exact_and_every_measure_true():
    planted = pd.DataFrame([
        {"measure": "height attended to", "layer": 1, "truth": 1.0, "found": 1.0, "agrees": True},
        {"measure": "height attended to", "layer": 2, "truth": 2.0, "found": 1.0, "agrees": False},
    ])
    found = results(model("root-k0"), exact={"construction": 1e-12}, planted=planted.iloc[:1])
    assert inside.construction_claim(found).verdict == "held"
    wrong = replace(found, planted=planted)
    assert inside.construction_claim(wrong).verdict == "did not hold"
    assert "layer 2: 1.00, true 2.00" in inside.construction_claim(wrong).numbers
    off = replace(found, exact={"construction": 1e-6})
    assert inside.construction_claim(off).verdict == "did not hold"
    ternary = replace(found, exact={}, planted=EMPTY)
    assert inside.construction_claim(ternary).verdict == "not testable here"
