"""Closed heads against zeroed weights, turns against their size, idle heads against themselves."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.context import constant_values
from mechprobe.locate.tree_heads import _turned, tree_heads
from mechprobe.models.build import build_encoder
from mechprobe.models.edits import run_with_cache, site_grid
from mechprobe.probes import (
    ProbeSettings,
    distance_objective,
    fit_bank,
    score_distances,
    word_vectors,
)
from mechprobe.probes.sentence_scores import tree_sentence_scores
from mechprobe.sites import Site
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.word_pieces import encode_words

SENTENCES = generate_treebank(60, seed=2)
TOKENIZER = word_tokenizer(" ".join(s.words) for s in SENTENCES)
WANTED = ("resid.0", "resid.1", "resid.2")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="module")
def model():
    found = build_encoder(
        n_layers=2, n_heads=2, d_model=16, d_mlp=32, n_ctx=64, tokenizer=TOKENIZER, seed=0,
        init_std=0.5,
    )  # fmt: skip
    with torch.no_grad():
        found.blocks[0].attn.W_O[1] = 0  # head 0.1 writes nothing
    return found.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def bank(model):
    vectors = word_vectors(model, SENTENCES[:40], wanted=WANTED)
    return fit_bank(distance_objective(8), vectors, vectors, ProbeSettings(lr=0.02, epochs=4))


@pytest.fixture(scope="module")
def found(model, bank):
    def score(vectors):
        return tree_sentence_scores(score_distances(bank, vectors), vectors.lengths)["uuas"]

    return tree_heads(
        model, SENTENCES[40:], {"uuas": score}, wanted=WANTED, baseline="zero", turns=2, seed=1
    )["uuas"]


def test_a_closed_head_is_a_head_without_output_weights(model, bank, found):
    own = score_distances(bank, word_vectors(model, SENTENCES[40:], wanted=WANTED)).scores["uuas"]
    np.testing.assert_allclose(found.own.value(), own)
    assert [str(head) for head in found.heads] == ["0.0", "0.1", "1.0", "1.1"]
    for place, head in enumerate(found.heads):
        without = copy.deepcopy(model)
        without.blocks[head.layer].attn.W_O[head.index] = 0
        score = score_distances(bank, word_vectors(without, SENTENCES[40:], wanted=WANTED))
        np.testing.assert_allclose(
            found.closed[place].value(), score.scores["uuas"], atol=1e-9
        )
        expected = score.scores["uuas"] - own
        after = np.arange(3) > head.layer
        np.testing.assert_allclose(found.changes()[place][after], expected[after], atol=1e-9)
        assert np.isnan(found.changes()[place][~after]).all()


def test_a_turn_changes_the_head_as_much_as_closing_does(model):
    encoded = encode_words([s.words for s in SENTENCES[:6]], TOKENIZER, 64).encoded
    (batch,) = encoded.batches(6)
    head, layer = Site("head", 1, 1), Site("head", 1)
    values = constant_values(model, site_grid(model), "zero", None)
    _, own = run_with_cache(model, batch, [layer])
    changes = []
    for turn in range(2):
        with _turned(model, head, values, np.random.default_rng(turn)):
            _, turned = run_with_cache(model, batch, [layer])
        change = turned[layer] - own[layer]
        assert not change[:, :, 0].any()
        torch.testing.assert_close(
            change[:, :, 1].norm(dim=-1), own[layer][:, :, 1].norm(dim=-1), rtol=1e-4, atol=1e-5
        )
        changes.append(change[:, :, 1])
        # the same turn everywhere: inner products between positions stay
        torch.testing.assert_close(
            change[0, :, 1] @ change[0, :, 1].T,
            own[layer][0, :, 1] @ own[layer][0, :, 1].T, rtol=1e-3, atol=1e-3,
        )  # fmt: skip
    assert (changes[0] - changes[1]).norm() > 0.1 * changes[0].norm()


def test_a_head_that_writes_nothing_changes_nothing(found):
    at = dict.fromkeys(found.heads, "resid.2")
    table = found.table(at, n=100).set_index("head")
    idle = table.loc["0.1"]
    assert (idle[["change", "change_low", "change_high", "turned", "excess"]] == 0).all()
    assert idle["p"] == idle["p_corrected"] == 1
    assert (table["p_corrected"] >= table["p"]).all()
    for row in table.itertuples():
        assert row.turned_low <= row.turned <= row.turned_high
        assert row.excess == pytest.approx(row.change - row.turned)
        assert row.change_low <= row.change <= row.change_high


def test_what_cannot_be_closed_is_refused(model, found):
    with pytest.raises(InputError, match=r"resid\.1 is not after head 1\.0"):
        found.table(dict.fromkeys(found.heads, "resid.1"))
    with pytest.raises(InputError, match="0 turns"):
        tree_heads(model, SENTENCES, {}, wanted=WANTED, turns=0)
    with pytest.raises(InputError, match="no head to close"):
        tree_heads(model, SENTENCES, {}, wanted=WANTED, heads=["mlp.0"])
    with pytest.raises(InputError, match="'resample' is not the same for every input"):
        tree_heads(model, SENTENCES, {}, wanted=WANTED, baseline="resample")
