"""Level-s parts and rankings of heads on the network whose heads are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.locate.ablate import ablate
from mechprobe.locate.patch import patch
from mechprobe.models import run_with_edits
from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.sites import Site
from mechprobe.studies.hierarchy.levels import level_behaviour, level_part
from mechprobe.studies.hierarchy.ranking import (
    attention_scores,
    mean_rho,
    shuffled_heads_p,
)
from mechprobe.trees import Grammar, block_ladder, divergences, sample

GRAMMAR = Grammar.random(3, 3, seed=1)
N = 120


@pytest.fixture(scope="module")
def planted():
    samples = sample(GRAMMAR, N, 0, 3, ancestors=True)
    places = torch.arange(N) % 8
    return HookedTreeConstruction(GRAMMAR), samples, places


def test_a_part_is_the_gain_in_divergence_between_two_models(planted):
    model, samples, places = planted
    behaviour = level_behaviour(GRAMMAR, samples, places, 2)
    (batch,) = behaviour.batches(N)
    mask = torch.zeros(N, 8, dtype=torch.bool)
    mask[torch.arange(N), places] = True
    ladder = block_ladder(GRAMMAR, samples.leaves, mask, [1, 2])
    parts, gains = [], []
    for edits in ({}, {Site("head", 1, 0): lambda z: torch.full_like(z, 1 / 3)}):
        logits = run_with_edits(model, batch, edits)
        said = logits[torch.arange(N), places].log_softmax(-1)
        kl = divergences(ladder, said)
        gains.append(kl[0] - kl[1])
        parts.append(level_part(logits, behaviour.targets))
    torch.testing.assert_close(
        parts[0] - parts[1], gains[0] - gains[1], atol=1e-4, rtol=1e-4
    )
    assert (parts[0] - parts[1]).mean() > 0.05


def test_counterfactuals_agree_up_to_the_height_below(planted):
    _, samples, places = planted
    for level in (1, 2, 3):
        behaviour = level_behaviour(GRAMMAR, samples, places, level)
        assert behaviour.corrupt is not None
        same = behaviour.corrupt.tokens == behaviour.inputs.tokens
        own = torch.arange(8) // 2 ** (level - 1) == (places // 2 ** (level - 1))[:, None]
        assert same[own].all()
        assert not same[~own].all()


def test_the_layer_of_a_height_carries_its_level(planted):
    """Cutting or exchanging the message of layer s lowers the level-s part."""
    model, samples, places = planted
    for level in (1, 2, 3):
        behaviour = level_behaviour(GRAMMAR, samples, places, level)
        (batch,) = behaviour.batches(N)
        whole = behaviour.measure(run_with_edits(model, batch, {}), batch)
        cut = {Site("head", level - 1, 0): lambda z: torch.full_like(z, 1 / 3)}
        assert (whole - behaviour.measure(run_with_edits(model, batch, cut), batch)).mean() > 0.02
        noising = patch(model, behaviour, "heads", "noising", n=None, progress=False)
        rows = noising.table().set_index("site")
        assert rows.loc[f"{level - 1}.0", "low"] > 0
        assert rows.loc[f"{level - 1}.0", "p_corrected"] < 0.05


def test_attention_names_the_layer_of_the_height(planted):
    model, samples, places = planted
    for level in (1, 2, 3):
        behaviour = level_behaviour(GRAMMAR, samples, places, level)
        scores = attention_scores(model, GRAMMAR, behaviour, level)
        chance = [1 / 8, 2 / 8, 4 / 8][level - 1]
        expected = np.full((3, N), -chance)
        expected[level - 1] = 1 - chance
        np.testing.assert_allclose(scores.effects, expected, atol=1e-12)
        assert scores.top(1) == [f"{level - 1}.0"]


def test_gates_agree_on_the_lowest_level(planted):
    model, samples, places = planted
    behaviour = replace(level_behaviour(GRAMMAR, samples, places, 1), corrupt=None)
    scores = ablate(model, behaviour, "heads", "mean", n=None, progress=False)
    assert scores.top(1) == ["0.0"]
    assert scores.table().set_index("site").loc["0.0", "low"] > 0


def test_agreement_of_rankings_and_its_null():
    rng = np.random.default_rng(0)
    one = rng.normal(size=12)
    assert mean_rho([one, 2 * one, one + 5]) == pytest.approx(1)
    assert mean_rho([one, -one]) == pytest.approx(-1)
    assert mean_rho([one, np.zeros(12)]) == 0
    assert shuffled_heads_p([one, one, one], 200, 0) == pytest.approx(1 / 201)
    p = [shuffled_heads_p([rng.normal(size=12) for _ in range(3)], 39, i) for i in range(40)]
    assert 0.3 < np.mean(p) < 0.7
