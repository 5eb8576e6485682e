"""Faithfulness curves against a naive loop, against hand integration, and on planted circuits."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.faithfulness import Faithfulness, faithfulness
from mechprobe.locate.scores import Scores
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import run_with_cache, run_with_edits
from mechprobe.planted import load_case
from mechprobe.sites import SiteGrid
from mechprobe.tasks.prompts import PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = SiteGrid(2, 3, mlps=False)
ORDER = ["1.2", "0.0", "1.0", "0.2", "0.1", "1.1"]


@pytest.fixture(scope="module")
def random_pair():
    model = build_decoder(
        n_layers=2, n_heads=3, d_model=6, d_head=4, n_ctx=5, d_vocab=7, d_mlp=5, seed=3,
        init_std=0.9,
    )
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 7, (2, 20, 5))
    task = PromptTask(tokens[0], tokens[1], rng.integers(0, 7, 20), metric="logit_difference")
    return model, task


def naive(model, behaviour, closed):
    """The metric with heads taken from the counterfactual run, by one edit each."""
    (batch,) = behaviour.batches(1000)
    with torch.no_grad():
        _, other = run_with_cache(model, behaviour.counterfactual(batch), GRID.sites)
        edits = {
            site: lambda own, site=site: other[site] for site in GRID.sites if str(site) in closed
        }
        logits = run_with_edits(model, batch, edits)
        return behaviour.measure(logits, batch).double().numpy()


def test_both_curves_are_those_of_a_naive_loop(random_pair):
    model, task = random_pair
    found = faithfulness(model, task, ORDER, n_random=3, progress=False)
    behaviour = task.encode()
    full, none = naive(model, behaviour, []), naive(model, behaviour, ORDER)
    assert found.sizes.tolist() == list(range(7))
    for k in range(7):
        alone, without = (
            naive(model, behaviour, closed) for closed in (ORDER[k:], ORDER[:k])
        )
        assert np.allclose(found.alone[k], alone, atol=1e-5)
        assert np.allclose(found.without[k], without, atol=1e-5)
        span = full.mean() - none.mean()
        assert found.faithfulness[k] == pytest.approx((alone.mean() - none.mean()) / span, abs=1e-4)
        expected = (without.mean() - none.mean()) / span
        assert found.completeness[k] == pytest.approx(expected, abs=1e-4)
    assert found.forwards == 2 + 2 * 5 + 3 * 5 + 1
    assert found.null.shape == (3, 7)
    assert np.allclose(found.null[:, [0, -1]], [none.mean(), full.mean()], atol=1e-5)


def test_areas_are_those_of_a_fine_grid(random_pair):
    found = faithfulness(*random_pair, ORDER, n_random=0, progress=False)
    fine = np.linspace(0, 1, 600_001)
    curve = np.interp(fine, found.shares, found.faithfulness)
    assert found.cpr == pytest.approx(np.trapezoid(curve, fine), abs=1e-6)
    assert found.cmd == pytest.approx(np.trapezoid(np.abs(1 - curve), fine), abs=1e-6)
    assert (1 - found.faithfulness).max() > 0 > (1 - found.faithfulness).min()  # it crosses 1
    areas = found.areas().set_index("area")
    assert areas.loc["CPR", "low"] < found.cpr < areas.loc["CPR", "high"]
    assert areas["p"].isna().all()


def test_the_circuit_first_is_faithful_and_beats_random_rankings(data_dir):
    case = load_case(data_dir / "planted" / "two_task")
    task = case.task.take(np.arange(0, 256, 8))
    heads = [str(site) for site in SiteGrid(3, 3, mlps=False)]
    order = sorted(heads, key=lambda name: name not in ("0.1", "0.2"))
    found = faithfulness(case.model, task, order, n_random=20, seed=1, progress=False)
    assert (found.faithfulness[2:] == 1).all()
    assert found.faithfulness[1] < 1
    areas = found.areas().set_index("area")
    assert areas.loc["CPR", "p"] < 0.1
    assert areas.loc["CMD", "p"] < 0.1
    assert found.cmd == pytest.approx(1 - found.cpr)  # it never passes 1
    last = faithfulness(case.model, task, order[::-1], n_random=0, progress=False)
    assert last.cpr < areas.loc["CPR", "null"] < found.cpr
    nested = faithfulness(
        case.model, task, [{"0.1"}, {"0.2", "0.1"}], n_random=0, progress=False
    )
    assert nested.sizes.tolist() == [0, 1, 2, 9]
    assert np.array_equal(nested.alone, found.alone[[0, 1, 2, 9]])


def test_one_side_of_an_or_gate_is_faithful_and_not_complete(data_dir):
    case = load_case(data_dir / "planted" / "or_gate")
    order = ["0.0", "0.1", "1.0", "1.1"]
    found = faithfulness(case.model, case.task, order, n_random=0, progress=False)
    assert found.faithfulness.tolist() == [0, 1, 1, 1, 1]
    assert found.completeness.tolist() == [1, 1, 0, 0, 0]
    assert (found.cpr, found.cmd) == (0.875, 0.125)


def test_scores_are_measured_on_the_rows_they_did_not_rank_on(random_pair):
    model, task = random_pair
    effects = np.random.default_rng(0).normal(size=(6, 20))
    select, report = np.arange(0, 20, 2), np.arange(1, 20, 2)
    scores = Scores(
        "made up", tuple(map(str, GRID)), effects, select, report, "logit_difference", "paired", 0,
        grid=GRID,
    )
    found = faithfulness(model, task, scores, n_random=0, progress=False)
    assert list(found.order) == scores.ranking
    every = faithfulness(model, task, scores.ranking, n_random=0, progress=False)
    assert np.allclose(found.alone, every.alone[:, report], atol=1e-5)
    with pytest.raises(InputError, match="scores are of 20 examples, the task has 12"):
        faithfulness(model, task, scores, n=12)


def test_many_sites_are_measured_at_the_shares_of_mib():
    model = build_decoder(
        n_layers=7, n_heads=4, d_model=8, d_head=2, n_ctx=4, d_vocab=6, d_mlp=4, init_std=0.8
    )
    rng = np.random.default_rng(0)
    clean, corrupt = rng.integers(0, 6, (2, 8, 4))
    task = PromptTask(clean, corrupt, rng.integers(0, 6, 8), metric="log_probability")
    order = [str(site) for site in SiteGrid(7, 4, mlps=False)]
    found = faithfulness(model, task, order, n_random=2, progress=False)
    assert found.sizes.tolist() == [0, 1, 2, 3, 6, 14, 28]
    assert faithfulness(
        model, task, order, sizes=[5], n_random=0, progress=False
    ).sizes.tolist() == [0, 5, 28]


def test_saved_and_drawn(random_pair, tmp_path):
    found = faithfulness(*random_pair, ORDER, n_random=3, progress=False)
    again = Faithfulness.load(found.save(tmp_path))
    assert again.table().equals(found.table())
    assert again.areas().equals(found.areas())
    lines = found.plot().axes[0].get_lines()
    assert any(np.allclose(line.get_ydata(), found.faithfulness) for line in lines)
    assert any(np.allclose(line.get_ydata(), found.completeness) for line in lines)


def test_what_cannot_be_measured_is_refused(random_pair):
    model, task = random_pair
    for ranking, message in [
        (ORDER[:5], "names 5 sites for 6 candidates"),
        ([*ORDER[:5], "0.0"], "names 6 sites for 6 candidates"),
        ([{"0.1"}, {"0.2"}], "not nested"),
        ([{"7.1"}], "holds 7.1"),
    ]:
        with pytest.raises(InputError, match=message):
            faithfulness(model, task, ranking)
    with pytest.raises(InputError, match="size 9 is not possible with 6 sites"):
        faithfulness(model, task, ORDER, sizes=[9])
    same = PromptTask(task.clean, task.clean, task.answers, metric="logit_difference")
    with (
        pytest.warns(UserWarning, match="equal their counterfactual"),
        pytest.raises(InputError, match="nothing can be normalised"),
    ):
        faithfulness(model, same, ORDER, progress=False)
