"""From a run's tables to its list of claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.heuristic_core.emergence import (
    Outcomes,
    Point,
    core_overlap,
    emergence_table,
    first_kept,
    size_difference,
)
from mechprobe.studies.heuristic_core.judge import extra_heads, judge_all
from mechprobe.studies.heuristic_core.results import AtSparsity, Results
from mechprobe.studies.heuristic_core.search import Plan
from mechprobe.studies.heuristic_core.settings import PRESETS
from mechprobe.studies.heuristic_core.verdict import FAILED, HELD, UNTESTED

GRID = SiteGrid(4, 8)
HEADS = [s for s in GRID if s.kind == "head"]
CORE = "0.1 0.3 1.0 1.2 1.7 2.4 2.5 3.6"
SPREAD = {
    "subnetworks": 4.0, "full_in_domain": 0.90, "in_domain_low": 0.88, "in_domain_high": 0.91,
    "full_out_of_domain": 0.6, "out_of_domain": 0.3, "out_of_domain_low": 0.1,
    "out_of_domain_high": 0.45, "out_of_domain_sd": 0.11, "range": 0.35, "sampling_sd": 0.01,
    "p_excess": 0.0001, "gap": 0.33, "gap_low": 0.3, "gap_high": 0.36,
}  # fmt: skip
SPARSER = SPREAD | {
    "out_of_domain": 0.02, "out_of_domain_low": 0.0, "out_of_domain_high": 0.04, "range": 0.04,
}  # fmt: skip
SETTINGS = replace(PRESETS["tiny"], sparsities=(0.7, 0.8), checkpoint_sparsities=(0.7,))


def parsed(words):
    return [Site.parse(word) for word in words.split()]


def in_layer(sites, layer):
    return sum(site.layer == layer for site in sites)


@pytest.fixture
def nets(make_net):
    extra = ("0.0 2.0", "3.3 0.2", "1.1 2.2", "3.0 3.1")
    return SubnetworkSet(tuple(make_net(f"{CORE} {e}", GRID, i) for i, e in enumerate(extra)))


def edit(head, change, inside, p, *, kind="remove", core=False):
    return {
        "subnetwork": "best", "head": head, "edit": kind, "in_core": core,
        "in_domain_change": inside, "out_of_domain_change": change, "p": p, "p_corrected": p,
        "in_domain_low": inside, "in_domain_high": inside,
        "out_of_domain_low": change, "out_of_domain_high": change,
    }  # fmt: skip


@pytest.fixture
def at(nets):
    core = nets.core()
    rows = [
        ("full", "all", 1, 0.9, 0.6, None), ("keep", "core", 1, 0.85, 0.1, None),
        ("close", "core", 1, 0.5, 0.2, None),
        ("close", "random, same layers", 20, 0.8, 0.5, 1 / 21),
        ("keep", "random, same layers", 20, 0.6, 0.3, 1 / 21),
    ]  # fmt: skip
    columns = ["test", "heads", "sets", "in_domain", "out_of_domain", "p"]
    necessity = pd.DataFrame(rows, columns=columns).astype({"p": float})
    necessity = necessity.assign(
        in_domain_low=0.7, in_domain_high=0.9, in_domain_ci_low=0.7, in_domain_ci_high=0.9,
        out_of_domain_ci_low=0.0, out_of_domain_ci_high=0.2,
    )  # fmt: skip
    contrasts = pd.DataFrame([
        {"test": test, "against": "random, same layers", "sets": 20, "in_domain_difference": -0.3,
         "in_domain_ci_low": -0.4, "in_domain_ci_high": -0.2}
        for test in ("close", "keep")
    ])  # fmt: skip
    paths = [
        ("core -> further heads", 0.5, 0.4, 0.6, 1, np.nan),
        ("further heads closed", 1.5, 1.4, 1.6, 1, np.nan),
        ("core -> 2.0", 0.3, 0.2, 0.4, 1, np.nan), ("2.0 closed", 0.7, 0.6, 0.8, 1, np.nan),
        ("random -> further heads", 0.1, 0.0, 0.2, 20, 1 / 21),
    ]  # fmt: skip
    dependence = pd.DataFrame(paths, columns=["path", "drop", "low", "high", "sets", "p"])
    attention = pd.DataFrame([
        {"attention": "overlap", "core": 0.4, "rest": 0.1, "difference": 0.3, "p": 0.004},
        {"attention": "first", "core": 0.1, "rest": 0.4, "difference": -0.3, "p": 0.9},
    ]).assign(low=0.2, high=0.4)
    edits = pd.DataFrame([
        edit("0.0", -0.2, -0.01, 1e-5), edit("2.0", 0.05, 0.0, 1e-5),
        edit("0.1", -0.4, -0.3, 1e-9, core=True), edit("3.3", -0.9, 0.0, 1e-9, kind="add"),
    ])  # fmt: skip
    return AtSparsity(
        plan=Plan(0, 120, 0.7, 4), found=nets, core=core, spread=dict(SPREAD),
        overlap=nets.overlap(0, 200), parity=pd.DataFrame(), necessity=necessity,
        core_tests=None, contrasts=contrasts, edits=edits, attention_heads=pd.DataFrame(),
        attention_core=attention, dependence=dependence,
    )  # fmt: skip


@pytest.fixture
def results(at, nets, make_net):
    early = SubnetworkSet((make_net(f"{CORE} 3.2", GRID, 0), make_net(f"{CORE} 1.3", GRID, 1)))
    sets = [(60, early), (120, nets)]
    shares = (0, 0.3, 0.5, 0.6, 0.9)
    right = {share: (np.arange(100) < 100 * share).astype(float) for share in shares}
    inside = Outcomes(np.stack([right[0.9], right[0.5]]), right[0.9])
    outside = Outcomes(np.stack([right[0.3], right[0]]), right[0.6])
    points = [Point(step, np.array([0.7, 0.8]), inside, outside) for step in (60, 120)]
    models = pd.DataFrame([
        {"model": 0, "step": step, "in_domain": value, "in_domain_low": value - 0.02,
         "in_domain_high": value + 0.02, "out_of_domain": 0.6}
        for step, value in ((60, 0.5), (120, 0.9))
    ])  # fmt: skip
    nothing = pd.DataFrame()
    sparser = replace(at, plan=Plan(0, 120, 0.8, 4), spread=dict(SPARSER))
    return Results(
        members=nothing, models=models, groups=nothing, spreads=nothing, final=[at, sparser],
        sparser={"difference": -0.28, "low": -0.3, "high": -0.2, "p": 0.01, "p_smallest": 0.001},
        emergence=emergence_table(points, n=50), sizes=size_difference(points[-1], n=50),
        core_overlap=core_overlap(sets, HEADS, nets),
        first_kept=first_kept(sets, HEADS, at.core), full_groups={}, between_models={},
        majority=0.5,
    )  # fmt: skip


def verdicts(results, settings=SETTINGS):
    return [(c.claim.split(":")[0][:34], c.verdict) for c in judge_all(settings, results)]


def test_every_claim_in_the_papers_order(results):
    assert verdicts(results) == [
        ("Positive control", HELD),
        ("At 70% sparsity one model contains", HELD),
        ("At 80% sparsity one model contains", FAILED),
        ("The subnetworks at 70% sparsity sh", HELD),
        ("The subnetworks at 80% sparsity sh", HELD),
        ("The full model needs the core", HELD),
        ("The core alone does not generalise", HELD),
        ("Core heads compare words", HELD),
        ("Core heads emerge early in trainin", HELD),
        ("Generalisation comes from further ", HELD),
        ("The further heads depend on the co", HELD),
        ("The effective size out of domain i", HELD),
        ("At 80% sparsity subnetworks unifor", HELD),
    ]


def test_the_order_of_the_sparsities_does_not_matter(results):
    last = judge_all(SETTINGS, replace(results, final=results.final[::-1]))[-1]
    assert (last.claim[:34], last.verdict) == ("At 80% sparsity subnetworks unifor", HELD)
    assert "at 80%: 0.0 to 4.0, at 70%: 10.0 to 45.0" in last.numbers


def test_the_control_looks_at_the_end_of_training(results):
    control = judge_all(SETTINGS, results)[0]
    assert "in domain 90.0 [88.0, 92.0] against 50.0" in control.numbers


def test_numbers_come_from_the_tables(results):
    by_claim = {c.claim.split(":")[0]: c.numbers for c in judge_all(SETTINGS, results)}
    shared = by_claim["The subnetworks at 70% sparsity share a set of heads, the core"]
    assert shared.startswith("8 of 32 heads are in all 4")
    early = by_claim["Core heads emerge early in training"]
    assert "at step 60 (the first searched) 2 subnetworks keep 100.0 %" in early
    core, both = parsed(CORE), (parsed(f"{CORE} 3.2"), parsed(f"{CORE} 1.3"))
    expected = np.mean([  # a layer of 8 heads with c of the core and m kept: c m / 8 hits
        sum(in_layer(core, i) * in_layer(kept, i) / 8 for i in range(4)) / len(core)
        for kept in both
    ])  # fmt: skip
    assert f"{100 * expected:.1f} %" in early
    further = by_claim["Generalisation comes from further heads"]
    assert further.startswith("removing 1 of 2 non-core heads")
    assert "largest: 0.0, -20.0 points [-20.0, -20.0] out of domain, -1.0 [" in further
    depends = by_claim["The further heads depend on the core's outputs"]
    assert "the 1 further heads" in depends
    assert "by 0.50 nats [0.40, 0.60]" in depends


def test_without_a_core_nothing_about_it_is_claimed(results, at):
    for core, word in (([], "no head is shared"), (HEADS, "every head is shared")):
        bare = replace(at, core=core, attention_core=None)
        found = dict(verdicts(replace(results, final=[bare])))
        assert found["The full model needs the core, the"] == UNTESTED
        assert len(found) == 8
        texts = [c.numbers for c in judge_all(SETTINGS, replace(results, final=[bare]))]
        assert any(f"{word} by all 4 subnetworks" in text for text in texts)
    no_core = replace(results, final=[replace(at, core=[], attention_core=None)])
    assert dict(verdicts(no_core))["Core heads emerge early in trainin"] == UNTESTED


def test_a_failed_control_leaves_nothing_to_judge(results):
    control, *others = verdicts(replace(results, majority=0.88))
    assert control[1] == FAILED
    assert {found for _, found in others} == {UNTESTED}


def test_without_earlier_checkpoints_nothing_is_early(results):
    late = replace(results, core_overlap=results.core_overlap[results.core_overlap.step == 120])
    assert dict(verdicts(late))["Core heads emerge early in trainin"] == UNTESTED
    none = replace(results, core_overlap=results.core_overlap.iloc[:0])
    assert dict(verdicts(none))["Core heads emerge early in trainin"] == UNTESTED


def test_too_few_draws_test_nothing(results):
    poor = verdicts(results, replace(SETTINGS, n_null=30))
    assert dict(poor)["Core heads compare words"] == UNTESTED


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([edit("0.0", -0.2, -0.01, 1e-5)], HELD),
        ([edit("0.0", -0.2, -0.01, 0.05)], FAILED),
        ([edit("0.0", -0.2, -0.11, 1e-5)], FAILED),
        ([edit("0.0", -0.015, 0.0, 1e-5)], FAILED),
        ([edit("0.0", 0.2, 0.0, 1e-5)], FAILED),
        ([edit("0.1", -0.2, 0.0, 1e-5, core=True)], UNTESTED),
        ([edit("0.0", -0.2, 0.0, 1e-5, kind="add")], UNTESTED),
    ],
)
def test_which_removals_count_as_further_heads(at, rows, expected):
    assert extra_heads(replace(at, edits=pd.DataFrame(rows))).verdict == expected


def test_a_core_site_is_written_as_people_write_it(at):
    assert " ".join(map(str, at.core)) == CORE
    assert Site("head", 3, 6) in at.core
