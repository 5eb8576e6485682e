"""Circuits against the truth files, and against brute force over every set of heads."""

from itertools import combinations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.circuit_sets import Circuits
from mechprobe.locate.circuits import find_circuits
from mechprobe.locate.measure import baseline_for, measure
from mechprobe.locate.sufficiency import BoundMet, Sufficiency
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import forward, run_with_cache, run_with_edits, site_grid
from mechprobe.planted import load_case
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks.prompts import PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = [
    ("reverse", "main"), ("induction", "main"), ("or_gate", "main"), ("decoy", "main"),
    ("heuristic_core", "main"), ("heuristic_core", "ood"), ("two_task", "main"),
    ("two_task", "task_T"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(data_dir):
    planted = data_dir / "planted"
    if not planted.is_dir():
        pytest.skip(f"no planted cases at {planted}; set MECHPROBE_DATA to a folder with them")
    return planted


def random_task(n=24, n_layers=2, n_heads=3, metric="accuracy", seed=0):
    """A random decoder whose own answers are the right ones, with random counterfactuals."""
    model = build_decoder(
        n_layers=n_layers, n_heads=n_heads, d_model=6, d_head=4, n_ctx=5, d_vocab=7, d_mlp=5,
        seed=seed, init_std=0.9,
    )
    rng = np.random.default_rng(seed)
    clean, corrupt = rng.integers(0, 7, (n, 5)), rng.integers(0, 7, (n, 5))
    with torch.no_grad():
        answers = model(torch.as_tensor(clean))[:, -1].argmax(-1).numpy()
    return model, PromptTask(clean, corrupt, answers, metric=metric)


def brute_force(model, task, level, baseline="paired"):
    """Every set of heads by one edit a closed head, no gates; minimal by looking at all subsets."""
    behaviour = task.encode()
    heads = [site for site in site_grid(model) if site.kind == "head"]
    (batch,) = behaviour.batches(1000)
    with torch.no_grad():
        _, other = run_with_cache(model, behaviour.counterfactual(batch), heads)
        if baseline == "zero":
            other = {site: torch.zeros_like(value) for site, value in other.items()}
        good = set()
        for k in range(len(heads) + 1):
            for kept in combinations(heads, k):
                closed = {
                    site: lambda own, site=site: other[site] for site in heads if site not in kept
                }
                logits = run_with_edits(model, batch, closed)
                if float(behaviour.measure(logits, batch).double().mean()) >= level - 1e-6:
                    good.add(frozenset(kept))
    return {kept for kept in good if not any(smaller < kept for smaller in good)}, good


@pytest.mark.parametrize(("name", "which", "method"), [
    *((*case, "auto") for case in CASES),
    *((*case, "search") for case in [CASES[0], CASES[2], CASES[5]]),
])
def test_the_circuits_of_every_compiled_case(folder, name, which, method):
    case = load_case(folder / name, which)
    found = find_circuits(case.model, case.task, baseline="paired", seed=0, method=method, sweep=0)
    assert frozenset(found) == case.minimal
    assert (found.complete, found.monotone) == (True, True)
    assert found.exact == (method == "auto")
    table = found.table()
    assert (table["value"] == case.truth["sets"][which]["accuracy"]).all()
    assert table["holds"].all()
    assert (table["closed"] < 1).all()


def test_both_circuits_of_the_or_gate_and_what_breaks_them(folder):
    case = load_case(folder / "or_gate")
    found = find_circuits(case.model, case.task)
    assert sorted(str(site) for circuit in found for site in circuit) == ["0.0", "0.1"]
    assert found.core == frozenset()
    assert found.breaking == (frozenset({Site("head", 0, 0), Site("head", 0, 1)}),)
    (pair,) = found.overlap().itertuples()
    assert (pair.shared, pair.jaccard, pair.expected) == (0, 0.0, 0.25)
    assert len(found.plot().axes) >= 1


@pytest.mark.parametrize(("seed", "baseline"), [(0, "paired"), (1, "paired"), (2, "zero")])
def test_exact_is_brute_force_on_models_that_are_not_monotone(seed, baseline):
    model, task = random_task(seed=seed)
    tolerance = 0.3
    expected, good = brute_force(model, task, 1 - tolerance, baseline)
    found = find_circuits(model, task, baseline, tolerance=tolerance, probes=0)
    assert set(found) == expected
    assert (found.method, found.exact) == ("exact", True)
    searched = find_circuits(model, task, baseline, tolerance=tolerance, method="search", sweep=0)
    assert set(searched) <= expected  # every one is truly minimal
    assert len(searched)
    heads = found.candidates
    monotone = all(kept | {site} in good for kept in good for site in heads)
    if monotone:
        assert set(searched) == expected
    if not searched.monotone:
        assert not monotone


def test_a_metric_without_a_highest_value_is_brute_force_too():
    model, task = random_task(n=90, metric="logit_difference", seed=3)
    behaviour = task.encode()
    (batch,) = behaviour.batches(1000)
    full = behaviour.measure(forward(model, batch), batch).mean().item()
    tolerance = 0.6 * abs(full)
    expected, _ = brute_force(model, task, full - tolerance)
    found = find_circuits(model, task, tolerance=tolerance)
    assert set(found) == expected
    assert 0 < len(expected)


def test_answers_and_values_are_those_of_measure():
    model, task = random_task(n=70, seed=1)
    behaviour = task.encode()
    grid = SiteGrid(2, 3, mlps=False)
    paired = baseline_for("paired", model, behaviour, grid)
    rows = np.arange(5, 65)
    holds = Sufficiency(model, behaviour, grid, grid.sites, paired, rows=rows, tolerance=0.25)
    masks = list(range(64))
    gates = np.array([[mask >> i & 1 for i in range(6)] for mask in masks], float)
    expected = measure(model, behaviour, gates, grid, paired)[:, rows]
    assert np.array_equal(holds.values(masks), expected)
    assert holds(masks) == (expected.mean(1) >= 0.75 - 1e-6).tolist()
    before = holds.examples
    assert holds([3, 7, 3]) == [holds.known[3], holds.known[7], holds.known[3]]
    assert holds.examples == before  # remembered
    assert sorted(np.concatenate([batch.index for batch in holds.batches])) == rows.tolist()
    assert min(map(len, holds.batches)) > 1


def test_some_candidates_leave_the_others_open(folder):
    case = load_case(folder / "heuristic_core", "ood")
    found = find_circuits(case.model, case.task, sites=["0.1", "1.0"])
    assert [sorted(map(str, circuit)) for circuit in found] == [["0.1"]]
    with_mlps = find_circuits(case.model, case.task, sites="all")
    (circuit,) = with_mlps
    assert {str(site) for site in circuit} >= {"0.0", "0.1"}
    assert any(site.kind == "mlp" for site in circuit)


def test_halves_are_found_on_one_and_measured_on_the_other(folder):
    case = load_case(folder / "two_task")
    found = find_circuits(case.model, case.task, select="half", seed=2)
    assert frozenset(found) == case.minimal
    assert found.held_out
    assert not set(found.select) & set(found.report)
    assert len(found.select) + len(found.report) == found.values.shape[1] == 256
    (row,) = found.table().itertuples()
    assert (row.selection, row.value, row.holds) == (1.0, 1.0, True)
    grid = found.grid
    paired = baseline_for("paired", case.model, case.task, grid)
    none = measure(case.model, case.task, np.zeros((1, len(grid))), grid, paired)[0]
    assert row.closed == pytest.approx(none[found.report].mean())
    assert np.allclose(found.closed, none)


def test_an_overfitted_circuit_is_reported_as_not_holding():
    found = None
    for seed in range(30):  # few rows decide, so some sets are sufficient on them alone
        model, task = random_task(n=16, seed=seed)
        found = find_circuits(model, task, select="half", seed=seed)
        if not found.table()["holds"].all():
            break
    assert found is not None
    bad = found.table().query("not holds")
    assert len(bad)
    assert (bad["selection"] > bad["value"]).all()


def test_saved_and_loaded_circuits_are_the_same(folder, tmp_path):
    case = load_case(folder / "or_gate")
    found = find_circuits(case.model, case.task)
    again = Circuits.load(found.save(tmp_path / "circuits"))
    for name in ("circuits", "breaking", "candidates", "guarantee", "forwards", "exact", "grid",
                 "complete", "monotone", "method", "metric", "baseline", "tolerance", "settings"):
        assert getattr(again, name) == getattr(found, name), name
    assert again.table().equals(found.table())
    with pytest.raises(InputError, match="holds no circuits"):
        Circuits.load(tmp_path)


def test_bounds_are_met_and_said():
    model, task = random_task(seed=0)
    settings = {"baseline": "zero", "tolerance": 0.3, "probes": 0}
    exact = find_circuits(model, task, **settings)
    assert (exact.complete, exact.exact) == (True, True)
    assert len(exact) == 5
    for method in ("search", "exact"):
        few = find_circuits(model, task, **settings, method=method, sweep=0, max_sets=2)
        assert (len(few), few.complete, few.exact) == (2, False, False)
        assert "others may be missing" in few.guarantee
    assert not find_circuits(model, task, **settings, max_forwards=1).complete
    short = find_circuits(model, task, **settings, max_forwards=3)
    assert (short.complete, short.exact) == (False, False)
    behaviour, grid = task.encode(), SiteGrid(2, 3, mlps=False)
    paired = baseline_for("paired", model, behaviour, grid)
    holds = Sufficiency(
        model, behaviour, grid, grid.sites, paired, rows=np.arange(24), max_forwards=2
    )
    holds(range(32))
    assert holds.forwards >= 2
    with pytest.raises(BoundMet):
        holds(range(32, 63))


def test_a_behaviour_that_needs_no_head_is_said(folder):
    case = load_case(folder / "or_gate")
    with pytest.warns(UserWarning, match="no site here is needed"):
        found = find_circuits(case.model, case.task, sites=["1.0", "1.1"])
    assert list(found) == [frozenset()]
    assert found.core == frozenset()


def test_wrong_settings_are_refused(folder):
    case = load_case(folder / "or_gate")
    for wrong, message in [
        ({"method": "greedy"}, "method='greedy'; give one of auto, exact, search"),
        ({"select": "some"}, "select='some'"),
        ({"tolerance": -1.0}, "tolerance -1.0"),
        ({"sites": ["5.0"]}, "no site '5.0' here"),
        ({"baseline": "nothing"}, "unknown baseline 'nothing'"),
    ]:
        with pytest.raises(InputError, match=message):
            find_circuits(case.model, case.task, **wrong)
    wide = build_decoder(n_layers=5, n_heads=5, d_model=10, n_ctx=7, d_vocab=6, d_mlp=4)
    with pytest.raises(InputError, match=r"25 candidates have 3.4e.07 sets"):
        find_circuits(wide, case.task, method="exact")
