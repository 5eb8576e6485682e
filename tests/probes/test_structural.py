"""Losses against plain loops; a planted tree is found, noise is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.probes import (
    ProbeSettings,
    bank_losses,
    depth_objective,
    distance_objective,
    fit_bank,
    random_distance_scores,
    score_depths,
    score_distances,
)
from mechprobe.probes.structural import squared_distances
from mechprobe.tasks.treebank import tree_depths, tree_distances
from mechprobe.tasks.treebank_grammar import generate_treebank


@pytest.fixture(scope="module")
def data(as_vectors, planted):
    sentences = generate_treebank(400, seed=8)
    rng = np.random.default_rng(0)

    def build(part):
        clean = planted(part, mixed=True)
        return as_vectors(part, clean, rng.normal(size=clean.shape))

    return build(sentences[:320]), build(sentences[320:])


def test_losses_are_the_papers_sums(data):
    _, dev = data
    start = ProbeSettings(lr=1e-12, epochs=1)
    for objective, gold in (
        (distance_objective(5), tree_distances), (depth_objective(5), tree_depths),
    ):  # fmt: skip
        bank = fit_bank(objective, dev, dev, start, seed=1)
        for site in range(2):
            b, losses = bank.params["B"][site].numpy(), []
            for i, sentence in enumerate(dev.sentences):
                low = dev.values[site, dev.starts[i] : dev.starts[i + 1]].numpy() @ b
                if gold is tree_distances:
                    found = ((low[:, None] - low[None]) ** 2).sum(-1)
                else:
                    found = (low**2).sum(-1)
                losses.append(np.abs(found - gold(sentence.heads)).mean())
            assert bank_losses(bank, dev)[site] == pytest.approx(np.mean(losses))


def test_exactly_planted_distances_and_depths_score_one(treebank, as_vectors, planted):
    data = as_vectors(treebank, planted(treebank))
    bank = fit_bank(distance_objective(), data, data, ProbeSettings(epochs=1))
    eye = torch.eye(24, dtype=torch.float64)[None]
    bank.params["B"].copy_(eye)
    np.testing.assert_allclose(bank_losses(bank, data), 0, atol=1e-12)
    assert score_distances(bank, data).scores["uuas"][0] == 1
    assert score_distances(bank, data).scores["dspr"][0] == pytest.approx(1)
    assert score_depths(bank, data).scores["nspr"][0] == pytest.approx(1)
    assert score_depths(bank, data).scores["root"][0] == 1


def test_a_planted_tree_is_found_and_noise_gives_chance(data):
    train, dev = data
    settings = ProbeSettings(lr=0.02, epochs=25, plateau=0.5)
    bank = fit_bank(distance_objective(), train, dev, settings)
    scores = score_distances(bank, dev)
    assert scores.names == ("resid.0", "resid.1")
    assert scores.scores["uuas"][0] >= 0.99
    assert scores.scores["dspr"][0] >= 0.97
    chance = random_distance_scores(dev.sentences, draws=20).scores["uuas"]
    assert abs(scores.scores["uuas"][1] - chance.mean()) < 0.06
    assert abs(scores.scores["dspr"][1]) < 0.35  # every word is at distance 0 from itself
    depths = score_depths(fit_bank(depth_objective(), train, dev, settings), dev)
    assert depths.scores["nspr"][0] >= 0.93
    assert depths.scores["root"][0] >= 0.95
    assert abs(depths.scores["nspr"][1]) < 0.2


def test_distances_from_inner_products_are_differences_squared():
    points = torch.randn(2, 3, 7, 4, generator=torch.Generator().manual_seed(0))
    found = squared_distances(points)
    expected = (points[..., :, None, :] - points[..., None, :, :]).square().sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not found.diagonal(dim1=-2, dim2=-1).any()
