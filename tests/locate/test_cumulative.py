"""Curves of sites closed one after another: values, order, null, and what is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.figures import save_figure
from mechprobe.locate.ablate import ablate
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.cumulative import MOST_STEPS, CumulativeCurve, _steps, cumulative

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
HEADS = ("0.0", "0.1", "0.2", "1.0", "1.1", "1.2")


@pytest.fixture(scope="module")
def behaviour(tiny_decoder, token_pairs):
    return behaviour_of(tiny_decoder, token_pairs)


@pytest.mark.parametrize("kind", ["zero", "paired"])
def test_a_given_order_is_closed_step_by_step_on_all_examples(
    tiny_decoder, behaviour, kind, hand, count_passes
):
    order = ["1.1", "mlp.0", "0.2"]
    curve, passes = count_passes(
        tiny_decoder, 10,
        lambda: cumulative(tiny_decoder, behaviour, order, baseline=kind, n_random=4, **QUIET),
    )  # fmt: skip
    stands = hand.stand_ins(tiny_decoder, behaviour, kind)
    for k, row in zip(curve.closed, curve.values, strict=True):
        expected = hand.closed_values(tiny_decoder, behaviour, order[:k], stands)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
    assert curve.closed.tolist() == [0, 1, 2, 3]
    assert curve.forwards == passes - 1 == 2 + 5 * 2 + (kind == "paired")
    table = curve.table()
    assert list(table["site"]) == ["", "1.1", "mlp.0", "0.2"]
    np.testing.assert_allclose(table["value"], curve.values.mean(1))


def test_random_orders_are_orders_of_the_same_sites(tiny_decoder, behaviour, hand):
    order = ["1.1", "0.2"]
    curve = cumulative(tiny_decoder, behaviour, order, baseline="zero", n_random=12, **QUIET)
    stands = hand.stand_ins(tiny_decoder, behaviour, "zero")
    alone = [hand.closed_values(tiny_decoder, behaviour, [s], stands).mean() for s in order]
    near = np.abs(curve.null[:, 1, None] - np.array(alone)) < 1e-9
    assert near.any(1).all()
    assert near.any(0).all()
    for step in (0, 2):
        np.testing.assert_allclose(curve.null[:, step], curve.values[step].mean(), atol=1e-9)


def test_without_an_order_sites_are_ranked_on_one_half_and_closed_on_the_other(
    tiny_decoder, behaviour, hand, count_passes
):
    curve, passes = count_passes(
        tiny_decoder, 10,
        lambda: cumulative(tiny_decoder, behaviour, baseline="zero", n_random=2, **QUIET),
    )  # fmt: skip
    select, report = behaviour.halves()
    scores = ablate(tiny_decoder, behaviour, "heads", "zero", **QUIET)
    assert list(curve.order) == scores.ranking
    again = cumulative(tiny_decoder, behaviour, scores, baseline="zero", n_random=2, **QUIET)
    np.testing.assert_allclose(again.values, curve.values, rtol=0, atol=1e-12)  # other chunks
    stands = hand.stand_ins(tiny_decoder, behaviour, "zero")
    for k, row in enumerate(curve.values):
        whole = hand.closed_values(tiny_decoder, behaviour, curve.order[:k], stands)
        np.testing.assert_allclose(row, whole[report], rtol=0, atol=1e-9)
    assert curve.forwards == 7 + 2 + 3 * 5
    assert passes - 1 == (7 * len(select) + 17 * len(report)) / 10


def test_paired_baselines_follow_the_part(tiny_decoder, behaviour, hand):
    curve = cumulative(tiny_decoder, behaviour, baseline="paired", n_random=1, **QUIET)
    report = behaviour.halves()[1]
    stands = hand.stand_ins(tiny_decoder, behaviour, "paired")
    for k in (1, 6):
        whole = hand.closed_values(tiny_decoder, behaviour, curve.order[:k], stands)
        np.testing.assert_allclose(curve.values[k], whole[report], rtol=0, atol=1e-9)


def test_the_right_order_beats_random_ones(tiny_decoder, token_pairs):
    """One head of six carries the metric: closing it first is seldom matched by chance."""
    model = copy.deepcopy(tiny_decoder)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_O.mul_(0.01)
        model.blocks[1].attn.W_O[2] = tiny_decoder.blocks[1].attn.W_O[2] * 3

    def strength(logits):
        return logits[:, -1].square().mean(-1)

    order = ["1.2", "0.0", "0.1", "0.2", "1.0", "1.1"]
    first = cumulative(model, token_pairs, order, baseline="zero", metric=strength,
                       n_random=60, **QUIET)
    last = cumulative(model, token_pairs, order[::-1], baseline="zero", metric=strength,
                      n_random=60, **QUIET)
    low, high = sorted([first.area, last.area])
    sides = (first, last) if first.area == low else (last, first)
    assert high - low > 0.01
    assert sides[0].p < 0.35
    assert sides[1].p > 0.65
    steps = first.values.mean(1)
    by_hand = np.mean([(a + b) / 2 for a, b in pairwise(steps)])
    assert first.area == pytest.approx(by_hand)


def test_steps(tiny_decoder, token_pairs):
    assert _steps(None, 5) == [0, 1, 2, 3, 4, 5]
    many = _steps(None, 144)
    assert (many[0], many[-1], len(many)) == (0, 144, MOST_STEPS + 1)
    assert _steps([3, 1], 4) == [0, 1, 3, 4]
    curve = cumulative(tiny_decoder, token_pairs, HEADS, steps=[2], n_random=1, **QUIET)
    assert curve.closed.tolist() == [0, 2, 6]
    with pytest.raises(InputError, match="step 7 closes more sites than the 6 there are"):
        cumulative(tiny_decoder, token_pairs, HEADS, steps=[7], **QUIET)
    with pytest.raises(InputError, match="0 random orders give no null"):
        cumulative(tiny_decoder, token_pairs, HEADS, n_random=0, **QUIET)
    with pytest.raises(InputError, match=r"site '0\.0' is named twice"):
        cumulative(tiny_decoder, token_pairs, ["0.0", "0.0"], **QUIET)


def test_a_file_gives_back_the_same_curve(tiny_decoder, behaviour, tmp_path):
    curve = cumulative(tiny_decoder, behaviour, ["1.1", "0.2"], n_random=3, **QUIET)
    again = CumulativeCurve.load(curve.save(tmp_path))
    for name in ("closed", "values", "null"):
        np.testing.assert_array_equal(getattr(again, name), getattr(curve, name))
    for name in ("order", "metric", "baseline", "forwards", "settings"):
        assert getattr(again, name) == getattr(curve, name)
    with pytest.raises(InputError, match="holds no cumulative"):
        CumulativeCurve.load(tmp_path / "elsewhere")


def test_the_picture_shows_the_curve_and_the_null(tiny_decoder, behaviour, tmp_path):
    curve = cumulative(tiny_decoder, behaviour, HEADS, n_random=3, **QUIET)
    figure = curve.plot()
    (axes,) = figure.axes
    null, line = axes.lines
    np.testing.assert_allclose(np.asarray(line.get_ydata()), curve.values.mean(1))
    np.testing.assert_allclose(np.asarray(null.get_ydata()), curve.null.mean(0))
    assert save_figure(figure, tmp_path / "curve")[1].stat().st_size > 3000


def test_scores_bring_their_own_held_out_rows(tiny_decoder, behaviour):
    scores = ablate(tiny_decoder, behaviour, "heads", "zero", **{**QUIET, "seed": 5})
    curve = cumulative(tiny_decoder, behaviour, scores, baseline="zero", n_random=1, **QUIET)
    assert curve.values.shape[1] == len(scores.report)
    whole = cumulative(
        tiny_decoder, behaviour, scores.ranking, baseline="zero", n_random=1, **QUIET
    )
    np.testing.assert_allclose(curve.values, whole.values[:, scores.report], rtol=0, atol=1e-9)
    some = np.arange(4)
    fewer = replace(scores, effects=scores.effects[:, :8], select=some, report=some + 4)
    with pytest.raises(InputError, match="score the same task with the same n"):
        cumulative(tiny_decoder, behaviour, fewer, baseline="zero", **QUIET)
    every = np.arange(scores.effects.shape[1])
    seen = replace(scores, select=every, report=every)
    with pytest.raises(InputError, match="held no examples out"):
        cumulative(tiny_decoder, behaviour, seen, baseline="zero", **QUIET)
