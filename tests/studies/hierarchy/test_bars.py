"""Bars: values are those of the tables, met where they are, and side by side by grammar."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from mechprobe.runs.tables import write_table
from mechprobe.studies.hierarchy.bars import exact_bars, learned_bars
from mechprobe.studies.hierarchy.results import ModelResults, Results
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.studies.hierarchy.specs import read_spec
from mechprobe.studies.hierarchy.trajectory import FILTERS, changes, samples_to_level, staircase
from mechprobe.studies.hierarchy.verdict_training import control_claim, staircase_claim

LAPTOP = PRESETS["laptop"]
EMPTY = pd.DataFrame()


def bench(repo: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bench_hierarchy", repo / "benchmarks" / "bench_hierarchy.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model(closest: list[int], *, accuracy: float = 0.99, name: str = "root-k0") -> ModelResults:
    """A model whose closest rung at each checkpoint is as given, by a margin of four."""
    spec = read_spec(LAPTOP, name)
    rungs, right = [], []
    for step, best in enumerate(closest):
        where = {"model": name, "step": step, "sequences": 64 * step}
        for k in range(5):
            value = 0.02 if k == best else 0.08 + 0.01 * abs(k - best)
            rungs += [{**where, "drawn": drawn, "ladder": FILTERS, "rung": k, "kl": value,
                       "low": value / 2, "high": 2 * value, "closest_share": float(k == best)}
                      for drawn in ("held out", "uniform")]
        for drawn in ("held out", "uniform", *(f"k={k}" for k in range(5))):
            peak = 0.2 if drawn[-1] in "234" and step == 2 else 0.0
            right.append({**where, "drawn": drawn, "symbols": 4, "accuracy": accuracy + peak,
                          "low": accuracy - 0.01, "high": accuracy + 0.01,
                          "agreement": accuracy, **{f"BP_{k}": 1 - 0.1 * k for k in range(5)}})
    divergence = pd.DataFrame(rungs)
    return ModelResults(
        spec, divergence, pd.DataFrame(right), {FILTERS: staircase(divergence)}, EMPTY, EMPTY,
        EMPTY,
    )


def bars(found: ModelResults) -> dict[str, tuple[float, bool]]:
    return {bar.bar: (bar.value, bar.met) for bar in learned_bars(found)}


def test_a_model_that_climbs_down_meets_its_bars():
    found = bars(model([4, 4, 3, 2, 2, 1, 0]))
    assert found["accuracy"] == (0.99, True)
    assert found["KL(BP_0 || model)"] == (0.02, True)
    assert found["stages of the staircase"] == (5, True)
    assert found["inversions of the staircase"] == (0, True)
    assert found["next best observer, times as far as BP_k"][0] == pytest.approx(4.5)
    assert found["rise then fall, least over k of 2 or more"][0] == pytest.approx(0.2)


def test_a_model_that_does_not_misses_them():
    found = bars(model([4, 3, 4, 3, 4], accuracy=0.6))
    assert found["accuracy"] == (0.6, False)
    assert found["stages of the staircase"] == (2, False)
    assert found["inversions of the staircase"] == (2, False)
    assert not found["next best observer, times as far as BP_k"][1]
    assert not found["KL(BP_0 || model)"][1]
    filtered = bars(model([4, 4, 3], accuracy=0.69, name="root-k3"))
    assert filtered["accuracy minus that of BP_k"][0] == pytest.approx(0.69 - 0.7)
    assert filtered["accuracy minus that of BP_k"][1]
    assert filtered["next best observer, times as far as BP_k"][1]


def test_change_points_and_samples_are_those_of_the_staircase():
    stairs = model([4, 4, 3, 1, 1]).stairs[FILTERS]
    turns = changes(stairs)
    assert turns[["from", "to"]].to_numpy().tolist() == [[4, 3], [3, 1]]
    assert turns[["after_sequences", "by_sequences"]].to_numpy().tolist() == [
        [64, 128], [128, 192]
    ]
    table = samples_to_level(stairs, 4)
    assert table["level"].tolist() == [4, 3, 2, 1, 0]
    np.testing.assert_array_equal(table["sequences"], [64, 128, 192, 192, np.nan])


def test_the_staircase_claim_holds_and_fails_with_its_control_beside():
    def results(*models: ModelResults) -> Results:
        exact = {"enumeration": 1e-15, "sampler": 0.01, "construction": 1e-15}
        return Results({m.spec.name: m for m in models}, exact, EMPTY, EMPTY, EMPTY)

    filtered = model([4, 4, 3, 3], name="root-k3")
    down = staircase_claim(results(model([4, 4, 3, 2, 1, 0]), filtered), "root")
    assert down.verdict == "held"
    assert "4, 3, 2, 1, 0 (5 of 5 stages, 0 inversions)" in down.numbers
    assert "root-k3 ends at 3" in down.numbers
    assert staircase_claim(results(model([4, 4, 3, 3])), "root").verdict == "did not hold"
    assert staircase_claim(results(model([4, 2, 4, 3, 4, 1])), "root").verdict == "did not hold"
    assert staircase_claim(results(filtered), "root").verdict == "not testable here"
    assert staircase_claim(results(filtered), "masked").verdict == "not testable here"


def test_exact_bars_are_judged():
    exact = {"enumeration": 1e-9, "sampler": 0.01, "oracle": 0.02}
    found = list(exact_bars(Results({}, exact, EMPTY, EMPTY, EMPTY)))
    assert [bar.met for bar in found] == [False, True, False]
    assert all(bar.exact for bar in found)


@pytest.mark.parametrize("name", ["root-k0", "masked-k0"])
def test_the_control_asks_for_more_than_independent_leaves_give(name):
    """BP_4 is right in 0.6 of these sequences."""
    exact = {"enumeration": 1e-15, "sampler": 0.01, "construction": 1e-15}
    for accuracy, verdict in ((0.5, "did not hold"), (0.605, "did not hold"), (0.7, "held")):
        found = Results(
            {name: model([4, 3], accuracy=accuracy, name=name)}, exact, EMPTY, EMPTY, EMPTY
        )
        claim = control_claim(found)
        assert claim.verdict == verdict
        assert "against 60.0" in claim.numbers


def test_grammars_stand_side_by_side(repo, tmp_path):
    module = bench(repo)
    for seed, value in ((0, 0.99), (1, 0.9)):
        write_table(tmp_path / str(seed) / "tables" / "bars.csv", pd.DataFrame([
            {"model": "", "bar": "inference", "asked": "1e-10", "value": 1e-15, "met": True,
             "exact": True},
            {"model": "root-k0", "bar": "accuracy", "asked": "0.97 or more", "value": value,
             "met": value > 0.97, "exact": False},
            {"model": "root-k2", "bar": "E_1", "asked": "1.3 or more", "value": 5.0,
             "met": True, "exact": False},
        ][:3 - seed]))  # the second grammar's run lacks a model
    table = module.bars_by_grammar({seed: tmp_path / str(seed) for seed in (0, 1)})
    text = module.markdown(table, [0, 1], "python bench")
    assert "| root-k0 | accuracy | 0.97 or more | 0.99 | **0.9** | 1 of 2 |" in text
    assert "| root-k2 | E_1 | 1.3 or more | 5 | not run | 1 of 1 |" in text
    assert "Exact bars: pass. Learned bars met: 2 of 3." in text
    assert "Not run on grammar 1: root-k2." in text
    assert "Not run on grammar 0" not in text
