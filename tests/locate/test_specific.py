"""Specific scores: two ablations apart, planted effects found, intervals and layers by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.locate.ablate import ablate
from mechprobe.locate.scores import Scores
from mechprobe.locate.specific import SpecificScores, ablate_specific
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.tasks.seq2seq_rows import encode_rows
from mechprobe.tasks.word_ids import word_ids

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(means, n=60, seed=0, sites=("enc 0.0", "enc 1.0", "cross 0.0", "cross 1.0")):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.3, (len(sites), n)) + np.array(means, float)[:, None]
    return Scores("ablate", sites, effects, np.arange(0, n, 2), np.arange(1, n, 2), "m", "mean", 1)


@pytest.fixture
def scores() -> SpecificScores:
    return SpecificScores(planted([2, 2, 0, 1]), planted([2, 0, 0, 0], 40, 1))


def test_a_site_that_both_need_scores_nothing(scores):
    table = scores.table(n=500).set_index("site")
    assert scores.ranking[:2] == ["enc 1.0", "cross 1.0"]
    assert table.loc["enc 1.0", "low"] > 1.5
    assert table.loc["enc 0.0", "low"] < 0 < table.loc["enc 0.0", "high"]
    assert set(table.index[table.p_corrected < 0.05]) == {"enc 1.0", "cross 1.0"}
    assert (table["score"] - (table["drop"] - table["drop_other"])).abs().max() < 1e-12


def test_the_mass_is_concentrated_and_lies_where_it_was_put(scores):
    found = scores.concentration(n=200)
    assert found["half"] == 1
    assert found["gini"] > found["null"]
    assert found["p"] == pytest.approx(1 / 201)
    even = SpecificScores(planted([1, 1, 1, 1]), planted([0, 0, 0, 0], seed=3))
    assert even.concentration(n=200)["p"] > 0.05
    layers = scores.layers().set_index(["stack", "layer"])
    assert layers.loc[("cross", 1), "score"] == pytest.approx(scores.estimate[3])
    centre = layers.loc[("enc", 0), "centre"]
    positive = np.clip(scores.estimate, 0, None)
    assert centre == pytest.approx(positive[1] / (positive[0] + positive[1]))


def test_it_is_two_ablations():
    model = build_encoder_decoder(n_layers=1, n_heads=2, d_model=8, d_vocab=5, seed=0)
    words = word_ids([("a", "b")])
    pairs = [
        SimpleNamespace(source=(("a", "b"), ("b",), ("b", "b")) * 4, name=name,
                        target=((t,), (t, t), ("a",)) * 4)
        for name, t in (("first", "a"), ("second", "b"))
    ]
    one, two = (
        encode_rows(p, words, decoder_only=False).behaviour("log_probability") for p in pairs
    )
    found = ablate_specific(model, one, two, baseline="zero", progress=False)
    alone = [ablate(model, b, baseline="zero", progress=False) for b in (one, two)]
    assert found.sites == alone[0].sites
    np.testing.assert_allclose(found.estimate, alone[0].estimate - alone[1].estimate)
    assert np.abs(found.estimate).max() > 1e-4
    exact = encode_rows(pairs[1], words, decoder_only=False).behaviour("exact_match")
    with pytest.raises(InputError, match="first has metric log_probability, second exact_match"):
        ablate_specific(model, one, exact)


def test_other_sites_are_refused():
    with pytest.raises(InputError, match="different sites"):
        SpecificScores(planted([0, 0], sites=("0.0", "0.1")), planted([0], sites=("0.0",)))
