"""Hand-made circuits: the stated truth against every subset of heads, and each trap shown."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline, paired_baseline
from mechprobe.gates.evaluate import evaluate
from mechprobe.gates.reference import gated_logits
from mechprobe.models.edits import attention_patterns, forward, site_grid
from mechprobe.planted.handmade import HANDMADE, all_cases
from mechprobe.planted.wiring import Head, Wiring, look_at

CASES = all_cases(0)
IDS = [f"{case.name}, {case.set}" for case in CASES]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


def accuracy(case, gates, baseline):
    batches = case.task.batches(64)
    rows = torch.as_tensor(np.array(gates), dtype=torch.float32)
    return evaluate(
        case.model, batches, rows, site_grid(case.model), baseline, case.task.measure
    ).mean(1)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_truth_by_every_subset_of_heads(case):
    grid = site_grid(case.model)
    heads = [site for site in grid.sites if site.kind == "head"]
    subsets = [set(s) for n in range(len(heads) + 1) for s in combinations(heads, n)]
    gates = [grid.mask(closed=[h for h in heads if h not in s]) for s in subsets]
    found = accuracy(case, gates, paired_baseline(case.task.counterfactual))
    assert found[-1] == 1.0
    enough = [s for s, value in zip(subsets, found, strict=True) if value == 1.0]
    minimal = {frozenset(s) for s in enough if not any(other < s for other in enough)}
    assert minimal == case.minimal


def test_other_seeds_draw_other_examples_of_the_same_model():
    for first, second in zip(CASES, all_cases(1), strict=True):
        assert first.minimal == second.minimal
        assert not torch.equal(first.task.inputs.tokens, second.task.inputs.tokens)
        for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
            assert torch.equal(a, b)
    again = all_cases(0)
    assert all(
        torch.equal(a.task.inputs.tokens, b.task.inputs.tokens)
        for a, b in zip(CASES, again, strict=True)
    )


def closing(case, head, kind):
    grid = site_grid(case.model)
    if kind == "paired":
        baseline = paired_baseline(case.task.counterfactual)
    else:
        baseline = make_baseline(kind, case.model, case.task.batches(64), grid)
    return accuracy(case, [grid.mask(closed=[head])], baseline)[0]


def test_the_traps():
    cases = dict(zip(IDS, CASES, strict=True))
    either = cases["or gate, main"]
    assert closing(either, "0.0", "paired") == closing(either, "0.2", "zero") == 1.0
    constant = cases["constant head, main"]
    assert closing(constant, "1.0", "zero") < 0.2
    assert closing(constant, "1.0", "mean") == closing(constant, "1.0", "paired") == 1.0
    core = cases["core and extra, in domain"]
    assert closing(core, "1.2", "zero") < 0.7
    assert closing(core, "1.2", "mean") == 1.0
    outside = cases["core and extra, out of domain"]
    assert closing(outside, "1.2", "mean") < 1.0
    twins = cases["inert copies, main"]
    patterns = attention_patterns(twins.model, twins.task.inputs)
    for layer in (0, 1):
        assert torch.equal(patterns[layer][:, 0], patterns[layer][:, 1])


def test_heads_look_at_one_place():
    case = CASES[0]
    patterns = attention_patterns(case.model, case.task.inputs)
    previous = patterns[0][:, 0]
    assert previous[:, 1:].diagonal(dim1=1, dim2=2).min() > 0.999
    tokens = case.task.inputs.tokens
    source = (tokens[:, :-1] == tokens[:, -1:]).int().argmax(1)
    at = patterns[1][:, 1, -1].argmax(-1)
    assert torch.equal(at, source + 1)


def test_names():
    assert {case.name for case in CASES} == set(HANDMADE)


def test_a_wiring_names_places_that_exist():
    one = np.ones((1, 1))
    head = Head(*look_at(0, 3), ("nowhere", one), ("one", one))
    with pytest.raises(InputError, match="no place 0 in space 'nowhere'"):
        Wiring(4, 3, {}, 1, 1, {(0, 0): head}, {}).build()


def test_empty_slots_write_nothing():
    case = CASES[0]
    grid = site_grid(case.model)
    zero = make_baseline("zero", case.model, case.task.batches(64), grid)
    gates = torch.as_tensor(grid.mask(closed=["0.1", "1.0"])[None], dtype=torch.float32)
    closed = gated_logits(case.model, case.task.inputs, gates, grid, zero)[0]
    assert torch.equal(closed, forward(case.model, case.task.inputs))
