"""Disguises leave the function as it is, say where heads went, and do not fool find_circuits."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.circuits import find_circuits
from mechprobe.locate.measure import baseline_for, measure
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import attention_patterns, forward, run_with_cache, site_grid
from mechprobe.models.weights import decoder_from_weights
from mechprobe.planted import (
    add_copies,
    add_dimensions,
    add_heads,
    add_layers,
    disguise,
    load_case,
    permute_heads,
    rotate_heads,
    rotate_residual,
    unread_directions,
)
from mechprobe.planted.disguised import undisguised
from mechprobe.sites import SiteGrid

pytestmark = pytest.mark.usefixtures("one_thread")

DISGUISES = {
    "permuted": lambda model: permute_heads(model, seed=1),
    "rotated heads": lambda model: rotate_heads(model, seed=2),
    "rotated residual": lambda model: rotate_residual(model, seed=3),
    "wider": lambda model: add_dimensions(model, 3),
    "more heads": lambda model: add_heads(model, 2),
    "zero layers": lambda model: add_layers(model, 2, seed=4),
    "harmless layers": lambda model: add_layers(
        add_dimensions(model, 3), 3, seed=5, harmless=True
    ),
    "copies": lambda model: add_copies(add_heads(add_dimensions(model, 2), 2), seed=6, times=2),
    "all": lambda model: disguise(model, seed=7, n_layers=7, n_heads=4, copies=2),
}


def double(disguised):
    return decoder_from_weights(
        {**disguised.config, "dtype": torch.float64}, disguised.arrays
    )


@torch.no_grad()
def logits(model, case):
    return forward(model, case.task.inputs)


@pytest.mark.parametrize("kind", DISGUISES)
@pytest.mark.parametrize("name", ["two_task", "or_gate"])
def test_the_logits_are_unchanged(folder, kind, name):
    case = load_case(folder / name)
    disguised = DISGUISES[kind](case.model)
    exact = logits(double(undisguised(case.model)), case)
    assert (logits(double(disguised), case) - exact).abs().max() < 1e-9
    assert (logits(disguised.model, case) - exact).abs().max() < 3e-4  # float32, as the cases do


@pytest.mark.parametrize("kind", DISGUISES)
def test_every_head_attends_and_acts_where_it_is_said_to_be(folder, kind):
    case = load_case(folder / "two_task")
    disguised = DISGUISES[kind](case.model)
    assert set(disguised.sites) == set(site_grid(case.model))
    heads = {old: new for old, new in disguised.sites.items() if old.kind == "head"}
    assert len(set(disguised.sites.values())) == len(disguised.sites)
    task = case.task.take(np.arange(40))
    batch = task.inputs
    before = attention_patterns(case.model, batch)
    after = attention_patterns(disguised.model, batch)
    for old, new in heads.items():
        if new in disguised.copies:  # a free slot before, a copy now
            continue
        there = after[new.layer][:, new.index]
        assert torch.allclose(before[old.layer][:, old.index], there, atol=1e-3)
    rows = []
    for model, order in ((case.model, list(heads)), (disguised.model, list(heads.values()))):
        grid = SiteGrid(model.cfg.n_layers, model.cfg.n_heads, mlps=False)
        gates = np.stack([grid.mask([site]) for site in order])
        paired = baseline_for("paired", model, task, grid)
        rows.append(measure(model, task, gates.astype(float), grid, paired).mean(1))
    assert np.array_equal(*rows)  # accuracy with each head closed
    assert rows[0].min() < 0.5


def test_a_permutation_and_a_rotation_do_something(folder):
    case = load_case(folder / "two_task")
    permuted = permute_heads(case.model, seed=1)
    assert any(old != new for old, new in permuted.sites.items())
    for disguised in (rotate_heads(case.model, seed=1), rotate_residual(case.model, seed=1)):
        for part in ("W_Q", "W_V", "W_O"):
            name = f"blocks.0.attn.{part}"
            own = undisguised(case.model).arrays[name]
            assert np.abs(disguised.arrays[name] - own).max() > 0.1
    assert permute_heads(case.model, seed=1).sites == permuted.sites
    assert permute_heads(case.model, seed=2).sites != permuted.sites


def test_copies_attend_and_carry_what_their_heads_do_and_change_nothing(folder):
    case = load_case(folder / "two_task")
    disguised = add_copies(add_heads(case.model, 3), seed=0)
    assert sorted(disguised.copies.values()) == sorted(
        disguised.now(["0.0", "0.1", "0.2"])
    )
    assert all(copy.layer == head.layer for copy, head in disguised.copies.items())
    batch = case.task.inputs
    pattern = attention_patterns(disguised.model, batch)[0]
    _, values = run_with_cache(
        disguised.model, batch, [*disguised.copies, *disguised.copies.values()]
    )
    for copy, head in disguised.copies.items():
        assert torch.equal(pattern[:, copy.index], pattern[:, head.index])
        assert torch.equal(values[copy], values[head])
        own, there = (disguised.arrays["blocks.0.attn.W_O"][s.index] for s in (head, copy))
        size = np.linalg.svd(own, compute_uv=False)[:3]  # there are three free directions
        assert np.allclose(np.linalg.svd(there, compute_uv=False)[:3], size)
        readers = [disguised.arrays[name] for name in ("unembed.W_U", "blocks.2.mlp.W_in")]
        readers += list(disguised.arrays["blocks.1.attn.W_V"])
        assert max(np.abs(there @ reader).max() for reader in readers) < 1e-9
        assert size[0] > 0.1


def test_copies_go_to_later_layers_only_when_their_own_is_full(folder):
    case = load_case(folder / "two_task")  # 3 heads a layer, all of layer 0 in use
    later = add_copies(case.model, seed=0)
    assert {copy.layer for copy in later.copies} == {1}
    assert not add_copies(case.model, seed=0, spread=False).copies


def test_unread_directions_are_orthonormal_and_found_when_added(folder):
    case = load_case(folder / "induction")
    free = unread_directions(case.model)
    wider = unread_directions(rotate_residual(add_dimensions(case.model, 4), seed=0))
    assert wider.shape[1] == free.shape[1] + 4
    assert np.allclose(wider.T @ wider, np.eye(wider.shape[1]))


def test_models_with_normalisation_are_disguised_as_far_as_that_goes():
    model = build_decoder(n_layers=2, n_heads=2, d_model=8, n_ctx=6, d_vocab=9, seed=0)
    disguised = rotate_heads(permute_heads(add_layers(model, 2, seed=1), seed=2), seed=3)
    tokens = torch.arange(6).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(model(tokens), disguised.model(tokens), atol=1e-5)
    for wrong in (lambda: rotate_residual(model, seed=0), lambda: add_copies(model, seed=0)):
        with pytest.raises(InputError, match="without normalisation"):
            wrong()
    with pytest.raises(InputError, match="2 layers x 2 heads"):
        disguise(model, seed=0, n_layers=1)


def found_and_true(folder, name, which, seed, **size):
    case = load_case(folder / name, which)
    disguised = disguise(case.model, seed=seed, **size)
    found = find_circuits(disguised.model, case.task, baseline="paired", seed=0)
    named = frozenset().union(*found)
    assert not named & set(disguised.copies)
    assert disguised.copies
    return frozenset(found), frozenset(disguised.now(circuit) for circuit in case.minimal)


@pytest.mark.parametrize(("name", "which", "seed", "n_layers", "n_heads"), [
    ("heuristic_core", "ood", 1, 2, 4), ("two_task", "task_T", 3, 4, 4),
    ("or_gate", "main", 4, 8, 4),
])
def test_disguises_do_not_fool_find_circuits(folder, name, which, seed, n_layers, n_heads):
    found, true = found_and_true(
        folder, name, which, seed, n_layers=n_layers, n_heads=n_heads
    )
    assert found == true


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_disguise_of_any_case_fools_find_circuits(folder, named_case, seed):
    name, which = named_case
    for size in ({"n_layers": 8, "n_heads": 4, "copies": 1 + seed % 3}, {}):
        found, true = found_and_true(folder, name, which, seed, **size)
        assert found == true
