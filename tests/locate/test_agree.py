"""Rank agreement against scipy and a loop; localisers that must agree, and what they cost."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from mechprobe.errors import InputError
from mechprobe.locate.ablate import ablate
from mechprobe.locate.agree import METHODS, RankAgreement, rank_agreement
from mechprobe.locate.attribute import attribute
from mechprobe.locate.scores import Scores, agreement
from mechprobe.stats import resample_counts

pytestmark = pytest.mark.usefixtures("one_thread")


def made(effects, name="made", forwards=1):
    n = effects.shape[1]
    return Scores(
        method=name, sites=tuple(f"0.{i}" for i in range(len(effects))), effects=effects,
        select=np.arange(0, n, 2), report=np.arange(1, n, 2), metric="m", baseline="zero",
        forwards=forwards,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(small_decoder, prompts):
    model = small_decoder(n_heads=3, d_head=4, scale=0.4)
    return rank_agreement(model, prompts(n=24), METHODS, seed=1)


def test_every_localiser_runs_by_name_on_the_same_examples(found, small_decoder, prompts):
    assert list(found.scores) == list(METHODS)
    assert len(found.sites) == 6
    model, behaviour = small_decoder(n_heads=3, d_head=4, scale=0.4), prompts(n=24)
    alone = {
        "ablate": ablate(model, behaviour, baseline="paired", seed=1),
        "integrated": attribute(model, behaviour, method="integrated", seed=1),
    }
    for name, scores in alone.items():
        np.testing.assert_allclose(found.scores[name].effects, scores.effects, atol=1e-12)
        np.testing.assert_array_equal(found.scores[name].report, scores.report)
    np.testing.assert_allclose(
        found.scores["ablate"].effects, found.scores["noising"].effects, atol=1e-9
    )


def test_the_matrix_is_spearmans_and_that_of_scores(found):
    matrix = found.matrix()
    np.testing.assert_allclose(matrix, agreement(list(found.scores.values())), atol=1e-12)
    a, b = (found.scores[name].estimate for name in ("ablate", "first_order"))
    assert matrix.loc["ablate", "first_order"] == pytest.approx(spearmanr(a, b).statistic)
    assert matrix.loc["ablate", "noising"] == pytest.approx(1)
    assert matrix.loc["ablate", "direct"] < 0.999


def test_intervals_are_a_bootstrap_over_the_same_examples(found):
    table = found.table(seed=3, draws=200).set_index(["first", "second"])
    a, b = found.held_out("ablate"), found.held_out("first_order")
    counts = resample_counts(np.zeros(12, int), 200, 3)
    drawn = [spearmanr(a @ row, b @ row).statistic for row in counts]
    low, high = np.percentile(drawn, [2.5, 97.5])
    row = table.loc[("ablate", "first_order")]
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert len(table) == len(METHODS) * (len(METHODS) - 1) // 2
    same = table.loc[("ablate", "noising")]
    assert same["low"] > 0.99
    assert row["high"] - row["low"] > 0.01


def test_costs_are_what_the_localisers_counted(found):
    costs = found.costs().set_index("method")
    heads = 6
    assert costs.loc["ablate", "forwards"] == heads + 1 + 1  # each closed, none, counterfactuals
    assert costs.loc["first_order", "forwards"] == 3
    assert costs.loc["integrated", "forwards"] == 2 * 10 + 1 + 3
    assert costs.loc["direct", "forwards"] == 1
    assert costs.loc["paths", "forwards"] == heads + 1 + 1
    assert (costs["seconds"] > 0).all()
    scores = found.scores["ablate"]
    halves = [scores.effects[:, part].mean(1) for part in (scores.select, scores.report)]
    assert costs.loc["ablate", "split_half"] == pytest.approx(spearmanr(*halves).statistic)


def test_localisers_of_ones_own_with_other_sites_and_examples(small_decoder, prompts):
    model = small_decoder(n_heads=4)
    rng = np.random.default_rng(0)
    effects = np.arange(6)[:, None] + rng.normal(size=(6, 7))

    def mine(model, behaviour):
        assert behaviour.metric_name == "log_probability"
        return made(effects)

    methods = {"mine": mine, "ablated": partial(ablate, baseline="zero")}
    both = rank_agreement(model, prompts(n=20), methods, metric="log_probability")
    assert both.sites == ["0.0", "0.1", "0.2", "0.3"]
    expected = spearmanr(
        effects[:4, 1::2].mean(1), both.scores["ablated"].estimate[:4]
    ).statistic
    assert both.matrix().loc["mine", "ablated"] == pytest.approx(expected)
    (row,) = both.table().to_dict("records")
    assert row["low"] <= row["rho"] <= row["high"]


def test_effects_that_are_all_alike_have_no_rank(tmp_path):
    rng = np.random.default_rng(0)
    one, flat = made(rng.normal(size=(4, 10))), made(np.zeros((4, 10)))
    both = RankAgreement({"one": one, "flat": flat}, {"one": 1.0, "flat": 2.0})
    assert np.isnan(both.matrix().loc["one", "flat"])
    assert both.table()[["rho", "low", "high"]].isna().all(axis=None)
    both.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "one", "flat", "agreement.csv", "costs.csv"
    }
    np.testing.assert_array_equal(Scores.load(tmp_path / "one").effects, one.effects)
    texts = {t.get_text() for axes in both.plot().axes for t in axes.get_xticklabels()}
    assert {"one", "flat"} <= texts


def test_bad_input_is_refused(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    with pytest.raises(InputError, match="no localiser 'ablation'"):
        rank_agreement(model, behaviour, ["ablate", "ablation"])
    with pytest.raises(InputError, match="two or more"):
        rank_agreement(model, behaviour, ["ablate"])
    with pytest.raises(InputError, match="2 sites that all"):
        rank_agreement(model, behaviour, ["ablate", "first_order"], sites=["0.0", "1.1"])
