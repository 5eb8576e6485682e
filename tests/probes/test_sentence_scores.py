"""Scores by sentence against the scores themselves, and against doing a resample by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.probes import (
    ProbeSettings,
    bank_losses,
    depth_objective,
    distance_objective,
    fit_bank,
    label_accuracy,
    linear_objective,
    score_depths,
    score_distances,
    tag_task,
    topology_objective,
)
from mechprobe.probes.sentence_scores import (
    SentenceScore,
    accuracy_sentence_score,
    difference,
    draws,
    loss_sentence_score,
    tree_sentence_scores,
)
from mechprobe.tasks.treebank_grammar import generate_treebank

SENTENCES = generate_treebank(60, seed=4)
QUICK = ProbeSettings(lr=0.02, epochs=2)


@pytest.fixture(scope="module")
def data(as_vectors, planted):
    clean = planted(SENTENCES)
    noise = np.random.default_rng(0).normal(size=clean.shape)
    return as_vectors(SENTENCES, clean + 0.5 * noise, noise)


def take(as_vectors, data, rows):
    """The data with sentences as often as ``rows`` names them."""
    units = np.concatenate([np.arange(data.starts[r], data.starts[r + 1]) for r in rows])
    return as_vectors([data.sentences[r] for r in rows], *(s[units] for s in data.values))


def test_values_are_the_scores(data):
    lengths = data.lengths
    distance = fit_bank(distance_objective(8), data, data, QUICK)
    trees = score_distances(distance, data)
    depth = fit_bank(depth_objective(8), data, data, QUICK)
    depths = score_depths(depth, data)
    for scores in (trees, depths):
        for name, own in tree_sentence_scores(scores, lengths).items():
            np.testing.assert_allclose(own.value(), scores.scores[name])
    for bank in (depth, fit_bank(topology_objective("ssp", rank=4), data, data, QUICK)):
        np.testing.assert_allclose(
            loss_sentence_score(bank, data).value(), bank_losses(bank, data), rtol=1e-9
        )
    tags = fit_bank(linear_objective(tag_task(SENTENCES)), data, data, QUICK)
    np.testing.assert_allclose(
        accuracy_sentence_score(tags, data).value(), label_accuracy(tags, data)
    )


def test_a_resample_is_the_score_of_the_resampled_sentences(data, as_vectors):
    bank = fit_bank(distance_objective(8), data, data, QUICK)
    own = tree_sentence_scores(score_distances(bank, data), data.lengths)
    counts = draws(len(data), 4, seed=2)
    assert (counts.sum(1) == len(data)).all()
    for draw, count in enumerate(counts):
        again = take(as_vectors, data, np.repeat(np.arange(len(data)), count))
        expected = score_distances(bank, again).scores
        for name in ("uuas", "dspr"):
            found = own[name].resampled(counts)[draw]
            np.testing.assert_allclose(found, expected[name])


def test_differences_are_paired_and_cover_the_truth():
    rng = np.random.default_rng(0)
    group = np.zeros(80, dtype=np.int64)
    covered = 0
    for seed in range(60):
        shared = rng.normal(size=80)
        noisy = (shared + 0.1 * rng.normal(size=80))[None]
        first = SentenceScore(("a",), noisy, np.ones(80), group)
        second = SentenceScore(("a", "b"), np.stack([shared, shared]), np.ones(80), group)
        estimate, low, high = difference(first, second, n=300, seed=seed)["a"]
        assert estimate == pytest.approx(float(first.value()[0] - second.value()[0]))
        assert high - low < 0.1  # unpaired it would be ten times as wide
        covered += low <= 0 <= high
    assert 48 <= covered <= 60


def test_scores_of_other_sentences_are_not_compared():
    one = SentenceScore(("a",), np.ones((1, 3)), np.ones(3), np.zeros(3, dtype=np.int64))
    two = SentenceScore(("a",), np.ones((1, 4)), np.ones(4), np.zeros(4, dtype=np.int64))
    with pytest.raises(InputError, match="3 and 4 sentences"):
        difference(one, two)
    with pytest.raises(InputError, match="no score of 'c' here"):
        one.at("c")
