"""Kinds of baseline side by side: each column is its own ablation, disagreements are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from mechprobe.errors import InputError
from mechprobe.figures import save_figure
from mechprobe.gates.baselines import KINDS, zero_baseline
from mechprobe.locate.ablate import ablate
from mechprobe.locate.compare import BaselineComparison, compare_baselines
from mechprobe.locate.scores import Scores
from mechprobe.sites import SiteGrid
from mechprobe.tasks import PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
GRID = SiteGrid(2, 3)
NAMES = tuple(map(str, GRID.sites))


def made(kind, effects, seed):
    """Scores with given mean effects and a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.1, size=(8, 40))
    return Scores("ablate", NAMES, np.array(effects)[:, None] + noise, np.arange(20),
                  np.arange(20, 40), "m", kind, 3, {}, GRID)  # fmt: skip


ZERO = made("zero", [1, 1, 0, 0, 0, -1, 0, 0.5], 0)
MEAN = made("mean", [1, 0, 0, 0, 0, 1, 0, 0.5], 1)
PAIRED = made("paired", [1, 1, 0, 0, 0, 0, 0, 0.5], 2)


def test_each_column_is_its_own_ablation(tiny_decoder, token_pairs):
    found = compare_baselines(tiny_decoder, token_pairs, "all", **QUIET)
    assert sorted(found.kinds) == sorted(KINDS)
    table = found.table().set_index("site")
    assert list(table.index) == found.scores["zero"].ranking
    for kind in KINDS:
        alone = ablate(tiny_decoder, token_pairs, "all", kind, **QUIET)
        np.testing.assert_allclose(found.scores[kind].effects, alone.effects, atol=1e-12)
        own = alone.table().set_index("site").loc[table.index]
        for column, name in (("effect", kind), ("low", f"{kind}_low"), ("high", f"{kind}_high"),
                             ("p_corrected", f"{kind}_p")):  # fmt: skip
            np.testing.assert_allclose(table[name], own[column], atol=1e-9)


def test_paired_is_left_out_without_counterfactuals(tiny_decoder, token_pairs):
    alone = PromptTask(token_pairs.clean, answers=token_pairs.answers)
    found = compare_baselines(tiny_decoder, alone, how="leave_one_in", **QUIET)
    assert found.kinds == ["zero", "mean", "mean_position", "resample"]
    assert found.scores["mean"].method == "ablate, leave one in"


def test_disagreements_are_sites_sure_under_one_kind_only_or_of_both_signs():
    found = BaselineComparison({"zero": ZERO, "mean": MEAN, "paired": PAIRED})
    table = found.disagreements().set_index("site")
    assert list(table.index) == [NAMES[5], NAMES[1]]  # the widest spread first
    assert table.loc[NAMES[1], "significant"] == "zero, paired"
    assert table.loc[NAMES[1], "not_significant"] == "mean"
    assert not table.loc[NAMES[1], "sign_change"]
    assert table.loc[NAMES[5], "sign_change"]
    assert table.loc[NAMES[5], "not_significant"] == "paired"
    expected = ZERO.estimate[5] - MEAN.estimate[5]
    assert table.loc[NAMES[5], "spread"] == pytest.approx(-expected)
    assert BaselineComparison({"a": ZERO, "b": made("b", [1, 1, 0, 0, 0, -1, 0, 0.5], 3)}
                              ).disagreements().empty  # fmt: skip


def test_rank_correlations_are_spearmans():
    table = BaselineComparison({"zero": ZERO, "mean": MEAN, "paired": PAIRED}).rank_correlations()
    assert (np.diag(table) == 1).all()
    expected = spearmanr(ZERO.estimate, PAIRED.estimate)[0]
    assert table.loc["zero", "paired"] == pytest.approx(expected)
    assert table.loc["paired", "zero"] == pytest.approx(expected)


def test_picture_and_file(tmp_path):
    found = BaselineComparison({"zero": ZERO, "mean": MEAN})
    assert save_figure(found.plot(), tmp_path / "kinds")[1].stat().st_size > 3000
    again = BaselineComparison.load(found.save(tmp_path / "kept"))
    assert again.kinds == ["zero", "mean"]
    assert again.table().equals(found.table())
    with pytest.raises(InputError, match="holds no comparison"):
        BaselineComparison.load(tmp_path)


def test_what_cannot_be_compared_is_refused(tiny_decoder, token_pairs):
    for settings, message in (
        ({"baselines": ["zero"]}, "1 kinds of baseline; a comparison needs two or more"),
        ({"baselines": ["zero", zero_baseline()]}, "baseline 'zero' is named twice"),
        ({"how": "cumulative"}, "how='cumulative'; give 'single' or 'leave_one_in'"),
        ({"baselines": ["zero", "median"]}, "unknown baseline 'median'"),
    ):
        with pytest.raises(InputError, match=message):
            compare_baselines(tiny_decoder, token_pairs, ["0.1"], **settings, **QUIET)
    shorter = Scores("ablate", NAMES, MEAN.effects[:, :30], np.arange(20), np.arange(20, 30), "m",
                     "mean", 3)  # fmt: skip
    with pytest.raises(InputError, match="these scores are of other sites or examples"):
        BaselineComparison({"zero": ZERO, "mean": shorter})
