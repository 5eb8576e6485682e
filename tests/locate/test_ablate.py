"""Ablation by every baseline against hooks written by hand, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import KINDS, zero_baseline
from mechprobe.locate.ablate import ablate
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.cumulative import CumulativeCurve
from mechprobe.locate.scores import Scores
from mechprobe.models import build_classifier, build_decoder, site_grid
from mechprobe.tasks import load_task
from mechprobe.tasks.batches import word_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
PASSES = {"zero": 0, "mean": 1, "mean_position": 1, "resample": 1, "paired": 1}


@pytest.fixture(scope="module", params=["decoder", "classifier"])
def case(request, tiny_decoder, token_pairs, tiny_classifier, label_behaviour):
    """A model with a behaviour: a decoder on prompts, a classifier on ragged pairs."""
    if request.param == "decoder":
        return tiny_decoder, behaviour_of(tiny_decoder, token_pairs)
    model = tiny_classifier(dtype=torch.float64)
    return model, label_behaviour


@pytest.mark.parametrize("kind", KINDS)
def test_single_effects_are_those_of_hooks_by_hand(case, kind, hand):
    model, behaviour = case
    scores = ablate(model, behaviour, "all", kind, **QUIET)
    stands = hand.stand_ins(model, behaviour, kind)
    intact = hand.closed_values(model, behaviour, [], stands)
    assert isinstance(scores, Scores)
    assert scores.sites == tuple(map(str, site_grid(model).sites))
    for site, row in zip(scores.sites, scores.effects, strict=True):
        expected = intact - hand.closed_values(model, behaviour, [site], stands)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
    assert np.abs(scores.effects).max() > 0.01
    assert (scores.method, scores.baseline) == ("ablate", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_leave_one_in_opens_one_of_the_chosen(case, kind, hand):
    model, behaviour = case
    chosen = ["0.1", "1.0", "mlp.0"]
    scores = ablate(model, behaviour, chosen, kind, how="leave_one_in", **QUIET)
    stands = hand.stand_ins(model, behaviour, kind)
    none = hand.closed_values(model, behaviour, chosen, stands)
    for site, row in zip(chosen, scores.effects, strict=True):
        rest = [other for other in chosen if other != site]
        expected = hand.closed_values(model, behaviour, rest, stands) - none
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
    assert scores.method == "ablate, leave one in"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["single", "leave_one_in"])
def test_forwards_are_the_passes_the_model_made(case, kind, how, count_passes):
    model, behaviour = case
    check = 1 + (len(behaviour.batches(32)[0]) < len(behaviour))
    scores, passes = count_passes(
        model, len(behaviour),
        lambda: ablate(model, behaviour, "heads", kind, how=how, **QUIET),
    )  # fmt: skip
    assert check == 1  # behaviour_of looks at one batch of the untouched model
    assert scores.forwards == passes - check == len(scores.sites) + 1 + PASSES[kind]


def test_batches_of_any_size_and_any_baseline_object_give_the_same(case):
    model, behaviour = case
    whole = ablate(model, behaviour, "heads", "zero", **QUIET)
    parts = ablate(model, behaviour, "heads", zero_baseline(), batch_size=3, **QUIET)
    np.testing.assert_allclose(parts.effects, whole.effects, rtol=0, atol=1e-9)
    resampled = ablate(model, behaviour, ["0.0"], "resample", batch_size=len(behaviour) - 1,
                       **QUIET)  # a last batch of one example would have no donor
    assert np.isfinite(resampled.effects).all()


def test_a_mean_is_taken_over_the_reference(case, hand):
    model, behaviour = case
    part = behaviour.take(np.array([0, 2]))
    stands = hand.stand_ins(model, part, "mean")
    wide = {name: value[:1, :1] for name, value in stands.items()}
    intact = hand.closed_values(model, behaviour, [], wide)
    expected = intact - hand.closed_values(model, behaviour, ["1.1"], wide)
    for reference in (part, part.batches(2)):
        scores = ablate(model, behaviour, ["1.1"], "mean", reference=reference, **QUIET)
        np.testing.assert_allclose(scores.effects[0], expected, rtol=0, atol=1e-9)


def test_a_site_that_does_nothing_has_effect_zero(token_pairs):
    model = build_decoder(
        n_layers=2, n_heads=3, d_model=9, d_mlp=6, n_ctx=8, d_vocab=20, init_std=0.5
    )
    with torch.no_grad():
        model.blocks[1].attn.W_O[2] = 0
    scores = ablate(model, token_pairs, "heads", "mean", **QUIET)
    assert (scores.effects[scores.sites.index("1.2")] == 0).all()
    assert scores.table().set_index("site").loc["1.2", "p"] == 1


def test_a_card_by_name_on_a_classifier():
    task = load_task("nli/overlap")
    words = task.split("train")
    tokenizer = word_tokenizer([*words.first, *words.second])
    model = build_classifier(
        task.labels, tokenizer, n_layers=1, n_heads=2, d_model=8, d_mlp=6, n_ctx=40, init_std=0.5
    )
    scores = ablate(model, "nli/overlap", n=40, metric="probability", **QUIET)
    assert scores.sites == ("0.0", "0.1")
    assert scores.effects.shape == (2, 40)
    assert len(scores.select) == len(scores.report) == 20
    assert scores.settings == {"how": "single", "task": "nli/overlap:dev", "n": 40, "seed": 0}
    assert list(scores.table()["site"]) == scores.ranking


def test_what_cannot_work_is_refused(tiny_decoder, token_pairs):
    for settings, message in (
        ({"how": "both"}, "how='both'; give 'single', 'leave_one_in' or 'cumulative'"),
        ({"sites": ["1.3"]}, r"no site '1\.3' here .* nearest: 1\.\d"),
        ({"baseline": "median"}, "unknown baseline 'median'"),
        ({"order": ["0.0"]}, "an order is for how='cumulative', not 'single'"),
    ):
        with pytest.raises(InputError, match=message):
            ablate(tiny_decoder, token_pairs, **settings, **QUIET)


def test_cumulative_gives_a_curve(tiny_decoder, token_pairs):
    curve = ablate(tiny_decoder, token_pairs, how="cumulative", order=["0.1", "1.1"], **QUIET)
    assert isinstance(curve, CumulativeCurve)
    assert curve.order == ("0.1", "1.1")
