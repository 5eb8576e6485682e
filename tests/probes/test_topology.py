"""X_ssp, X_essp and X_sp against plain sums; what is provable holds, a planted profile is found."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.probes import (
    FlatTopology,
    ProbeSettings,
    bank_losses,
    fit_bank,
    profile_errors,
    score_depths,
    topology_objective,
    topology_scores,
)
from mechprobe.probes.pseudo_labels import pseudo_labels
from mechprobe.tasks.treebank import tree_depths
from mechprobe.tasks.treebank_grammar import generate_treebank

ONE_STEP = ProbeSettings(lr=1e-12, epochs=1)


@pytest.fixture(scope="module")
def data(as_vectors, planted):
    """A site where some B gives depths with root 1, and one of noise."""
    sentences = generate_treebank(980, seed=9)
    rng = np.random.default_rng(1)

    def build(part):
        clean = np.concatenate([planted(part), np.ones((sum(map(len, part)), 1))], axis=1)
        rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(25, 25)))
        return as_vectors(part, clean @ rotation, rng.normal(size=clean.shape))

    return build(sentences[:900]), build(sentences[900:])


def sentence_norms(bank, data, site):
    b = bank.params["B"][site]
    for i, sentence in enumerate(data.sentences):
        low = data.values[site, data.starts[i] : data.starts[i + 1]] @ b
        yield sentence, low.square().sum(-1)


@pytest.mark.parametrize("labels", ["greedy", "exact"])
@pytest.mark.parametrize("metric", ["ssp", "essp", "sp"])
def test_the_metric_is_the_plain_mean_over_words(metric, labels, data):
    _, dev = data
    bank = fit_bank(topology_objective(metric, labels=labels, rank=9), dev, dev, ONE_STEP)
    bank.params["B"].mul_(20)
    for site in range(2):
        errors = []
        for sentence, nu in sentence_norms(bank, dev, site):
            level = pseudo_labels(nu, torch.ones(len(nu), dtype=torch.bool), labels)
            if metric == "sp":
                level = torch.from_numpy(tree_depths(sentence.heads) + 1)
            errors += (nu - (level.flip(0) if metric == "essp" else level)).square().tolist()
        assert bank_losses(bank, dev)[site] == pytest.approx(np.mean(errors))


def test_with_exact_labels_ssp_is_never_above_sp_and_essp_may_be_anything(data):
    _, dev = data
    bank = {
        metric: fit_bank(topology_objective(metric, rank=9), dev, dev, ONE_STEP)
        for metric in ("ssp", "sp")
    }
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1, 3, 8):
        b = scale * torch.randn(2, 25, 9, generator=generator, dtype=torch.float64) / 5
        for own in bank.values():
            own.params["B"].copy_(b)
        assert (bank_losses(bank["ssp"], dev) <= bank_losses(bank["sp"], dev) + 1e-12).all()
    flat = torch.full((1, 8), 2.0)
    every = torch.ones(1, 8, dtype=torch.bool)
    # the paper's upper bound fails: nu = 2 everywhere costs 1/n, and so does any reading of it
    assert profile_errors(flat, every, reverse=True).mean() == pytest.approx(1 / 8)


def test_a_planted_profile_is_found_with_labels_and_without(data):
    train, dev = data
    settings = ProbeSettings(lr=0.05, epochs=40, plateau=0.5)
    supervised = fit_bank(topology_objective("sp", rank=25), train, dev, settings)
    x = bank_losses(supervised, dev)
    assert x[0] <= 0.02
    assert x[1] > 0.5
    assert score_depths(supervised, dev).scores["nspr"][0] >= 0.93
    with warnings.catch_warnings(record=True):
        scores = topology_scores(supervised, dev)
    gold = np.concatenate([tree_depths(s.heads) for s in dev.sentences])
    share = np.bincount(gold) / len(gold)
    found = np.pad(scores.histogram[0], (0, max(0, len(share) - scores.histogram.shape[1])))
    np.testing.assert_allclose(found[: len(share)], share, atol=0.02)
    assert scores.histogram.sum(1) == pytest.approx([1, 1])
    assert scores.table()["X_sp"].tolist() == scores.x.tolist()


def test_flat_labels_are_called_out(data):
    _, dev = data
    bank = fit_bank(topology_objective("ssp", rank=1), dev, dev, ONE_STEP)
    with pytest.warns(FlatTopology, match=r"ssp .exact.: most label profiles .* resid\.0 .100%"):
        scores = topology_scores(bank, dev)  # norms near 0 are nearest to one 1 and all others 2
    assert scores.flat.tolist() == [1, 1]
    levels = [len(dev) / len(dev.words), 1 - len(dev) / len(dev.words)]
    np.testing.assert_allclose(scores.histogram[0], levels)


def test_errors_carry_gradient_to_the_norms_only():
    nu = torch.tensor([[1.2, 2.5, 0.0]], requires_grad=True)
    real = torch.tensor([[True, True, False]])
    profile_errors(nu, real).sum().backward()
    assert nu.grad is not None
    torch.testing.assert_close(nu.grad, torch.tensor([[2 * 0.2, 2 * 0.5, 0.0]]))


def test_unknown_metrics_and_labels_are_refused():
    with pytest.raises(InputError, match="'xsp' is unknown; expected ssp, essp, sp"):
        topology_objective("xsp")
    with pytest.raises(InputError, match="expected greedy or exact"):
        topology_objective("ssp", labels="best")
