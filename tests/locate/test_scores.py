"""Scores: rankings, intervals, corrected p, maps, files and agreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from mechprobe.errors import InputError
from mechprobe.figures import save_figure
from mechprobe.locate.scores import Scores, agreement, spearman
from mechprobe.sites import SiteGrid
from mechprobe.stats import bootstrap_mean, holm, sign_flip_p

GRID = SiteGrid(2, 3)
NAMES = tuple(str(site) for site in GRID.sites)
ROWS = np.random.default_rng(0).permutation(60)


def make(seed=0, true=(), sites=NAMES, grid: SiteGrid | None = GRID, **changes):
    effects = np.random.default_rng(seed).normal(0, 1, size=(len(sites), 60))
    for name, size in true:
        effects[sites.index(name)] += size
    settings = {"seed": seed, "kinds": ["a", "b"]}
    return Scores(
        "ablate", sites, effects, np.sort(ROWS[:30]), np.sort(ROWS[30:]), "probability", "mean",
        12, settings, grid, **changes,
    )


def test_sites_are_ranked_on_other_rows_than_they_are_reported_on():
    scores = make(true=[("1.1", 3)])
    scores.effects[NAMES.index("0.2"), scores.select] += 9
    scores.effects[NAMES.index("0.2"), scores.report] -= 9
    assert scores.ranking[:2] == ["0.2", "1.1"]
    assert scores.top(1) == ["0.2"]
    table = scores.table()
    assert list(table["site"]) == scores.ranking
    first = table.iloc[0]
    assert first["effect"] < -7
    assert first["selection"] > 7


def test_the_table_holds_what_the_statistics_say():
    scores = make(true=[("1.1", 2), ("mlp.0", -1)])
    table = scores.table(seed=4).set_index("site")
    held = scores.effects[:, scores.report]
    p = sign_flip_p(held, seed=4)
    for i, name in enumerate(NAMES):
        row, interval = table.loc[name], bootstrap_mean(held[i], seed=4)
        assert row["effect"] == pytest.approx(held[i].mean())
        assert (row["low"], row["high"]) == (interval.low, interval.high)
        assert row["p"] == p[i]
        assert row["p_corrected"] == pytest.approx(holm(p)[i])
    assert set(scores.significant()) == {"1.1", "mlp.0"}
    assert scores.significant()[0] == "1.1"


def test_no_site_is_significant_where_nothing_is():
    named = sum(bool(make(seed).significant()) for seed in range(40))
    assert named <= 7  # 5 % of 40 families, with room for chance


def test_correction_alone_hides_no_site_among_many():
    grid = SiteGrid(20, 30, mlps=False)
    names = tuple(map(str, grid.sites))
    scores = make(sites=names, grid=grid, true=[("3.4", 4)])
    assert scores.significant() == ["3.4"]


def test_heads_as_a_map():
    scores = make(sites=("1.2", "0.0", "mlp.1"))
    values = scores.head_values()
    assert values.shape == (2, 3)
    assert values[1, 2] == scores.estimate[0]
    assert values[0, 0] == scores.estimate[1]
    assert np.isnan(values).sum() == 4
    for other in (make(sites=("mlp.0", "mlp.1")), make(sites=("resid 0 @ 1",), grid=None)):
        with pytest.raises(InputError, match=r"ablate scored no heads; use .table\(\)"):
            other.head_values()


@pytest.mark.parametrize(
    ("sites", "grid"),
    [
        (NAMES, GRID), (("1.2", "0.0"), GRID), (("mlp.0", "mlp.1"), GRID),
        (("resid 0 @ 1", "pattern 1.1"), None),
        (("enc 0.1", "cross 1.2"), SiteGrid(2, 3, stacks=("enc", "dec", "cross"))),
    ],
)  # fmt: skip
def test_every_kind_of_place_is_drawn(sites, grid, tmp_path):
    figure = make(sites=sites, grid=grid, true=[(sites[0], 3)]).plot()
    shown = " ".join(text.get_text() for axes in figure.axes for text in axes.get_yticklabels())
    if grid != GRID or sites[0].startswith("mlp"):
        assert all(name in shown for name in sites)
    pdf, png = save_figure(figure, tmp_path / "scores")
    assert png.stat().st_size > 3000
    assert pdf.stat().st_size > 3000


def test_residual_positions_are_a_map():
    sites = ("resid 1 @ 2", "resid 0 @ 0", "resid 1 @ 0")
    scores = make(sites=sites, grid=None)
    axes = scores.plot().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "layer")
    cells = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    minus = "\N{MINUS SIGN}"
    shown = {at: float(text.replace(minus, "-")) for at, text in cells.items()}
    expected = {(2, 1): 0, (0, 0): 1, (0, 1): 2}
    assert set(shown) == set(expected)
    for at, row in expected.items():
        assert shown[at] == pytest.approx(scores.estimate[row], abs=0.01)


@pytest.mark.parametrize(
    ("sites", "grid"),
    [
        (NAMES, GRID), (("resid 0 @ 1", "pattern 1.2"), None),
        (("enc 0.1", "cross 1.2"), SiteGrid(2, 3, stacks=("enc", "dec", "cross"))),
    ],
)  # fmt: skip
def test_a_file_gives_back_the_same_scores(sites, grid, tmp_path):
    scores = make(sites=sites, grid=grid)
    assert scores.save(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    again = Scores.load(tmp_path / "a" / "b")
    for name in ("effects", "select", "report"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    for name in ("method", "sites", "metric", "baseline", "forwards", "settings", "grid"):
        assert getattr(again, name) == getattr(scores, name)
    kept = pd.read_csv(tmp_path / "a" / "b" / "scores.csv", dtype={"site": str})
    pd.testing.assert_frame_equal(kept, scores.table(), check_dtype=False)


def test_what_holds_no_scores_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no scores"):
        Scores.load(tmp_path)
    (tmp_path / "scores.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no scores"):
        Scores.load(tmp_path)
    with pytest.raises(InputError, match=r"effects of shape \[8, 60\] for 7 sites"):
        replace(make(), sites=NAMES[:7])


def test_rank_agreement_is_spearmans():
    first, second = make(0), make(1, sites=NAMES[::-1][:5])
    shared = NAMES[3:]
    expected = spearmanr(
        [first.estimate[NAMES.index(s)] for s in shared],
        [second.estimate[NAMES[::-1].index(s)] for s in shared],
    )[0]
    assert spearman(first, second) == pytest.approx(expected)
    table = agreement([first, second])
    assert table.iloc[0, 1] == table.iloc[1, 0] == pytest.approx(expected)
    assert (np.diag(table) == 1).all()
    with pytest.raises(InputError, match="2 sites in common; rank agreement needs three"):
        spearman(first, make(1, sites=("0.0", "1.1", "7.7"), grid=None))


def test_a_site_finds_its_row_of_the_table():
    scores = make(true=[("1.1", 2)])
    row = scores.table().set_index("site").loc["1.1"]
    for name in ("1.1", (1, 1), "L1H1"):
        pd.testing.assert_series_equal(scores[name], row)
    assert {"effect", "low", "high", "p_corrected"} <= set(scores["mlp.0"].index)
    with pytest.raises(InputError, match=r"'1.7' was not scored; nearest: .*1\."):
        scores["1.7"]
