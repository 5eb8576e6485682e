"""Head analyses of an untrained model: held-out halves, intervals, pairs that are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.locate.cumulative import CumulativeCurve
from mechprobe.locate.specific import ablate_specific
from mechprobe.runs import Run
from mechprobe.studies.abstraction.data import prepare
from mechprobe.studies.abstraction.heads import (
    SMOOTH,
    behaviour,
    beyond_random,
    closing,
    masks,
    patching,
)
from mechprobe.studies.abstraction.models import fresh_model
from mechprobe.studies.abstraction.procedures import SetRun
from mechprobe.studies.abstraction.settings import PRESETS
from mechprobe.tasks.abstraction import SequencePairs
from mechprobe.training.seq2seq import answer_log_probability

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = replace(
    PRESETS["tiny"], n_train=80, n_test=20, n_ood=20, n_heads_eval=16, n_random=3, n_boot=100,
    mask_steps=8, mask_seeds=3,
)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    with Run.open(tmp_path_factory.mktemp("heads") / "run", {"study": "abstraction"}) as run:
        yield SetRun(TINY, run, 0, _data=prepare(TINY, 0))


@pytest.fixture(scope="module")
def model(at):
    return fresh_model(TINY, at.data, 1).requires_grad_(False)


def test_closing_is_measured_on_pairs_that_did_not_rank(at, model):
    wanted, other = behaviour(at, "ood", SMOOTH), behaviour(at, "test", SMOOTH)
    scores = ablate_specific(model, wanted, other, baseline="mean", n=None, seed=TINY.seed,
                             reference=other, progress=False)
    found = closing(at, model, wanted, other, scores)
    for split, name, part in (("ood", "full", scores.wanted),
                              ("test", "in_distribution_full", scores.other)):
        assert not set(part.select) & set(part.report)
        rows = at.data.target[split].take(part.report)
        assert found[name] == pytest.approx(answer_log_probability(model, rows).mean(), abs=1e-5)


def test_the_interval_is_over_examples_and_random_orders():
    rng = np.random.default_rng(0)
    values = np.stack([np.zeros(50), rng.normal(-2, 1, 50), np.full(50, -3.0)])
    null = np.stack([np.zeros(20), rng.normal(-1, 0.5, 20), np.full(20, -3.0)], axis=1)
    curve = CumulativeCurve(("0.0", "0.1"), np.arange(3), values, null, "m", "mean", 1)
    ends = beyond_random(curve, 1, 0, 2_000)
    assert ends.estimate == pytest.approx(null[:, 1].mean() - values[1].mean())
    naive = [rng.choice(null[:, 1], 20).mean() - rng.choice(values[1], 50).mean()
             for _ in range(4_000)]
    assert (ends.low, ends.high) == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.04)
    sure = beyond_random(replace(curve, null=np.full_like(null, -1.0)), 1, 0, 2_000)
    assert sure.high - sure.low < 0.9 * (ends.high - ends.low)


def test_pairs_without_two_nouns_are_left_out_of_patching(at, model):
    ood = at.data.tasks.target["ood"]
    one = SequencePairs(
        (("Form", "one:", "The", "girl", "slept", "."),),
        (("SLEEP", "(", "GIRL", ",", "NONE", ",", "NONE", ")"),), ("plain",), ood.name,
    )
    tasks = at.data.tasks
    whole = patching(at, model)
    assert set(whole) == {"patch, noising", "patch, denoising"}
    more = SequencePairs.concat([ood.take(range(15)), one])
    mixed, alone = (
        SetRun(TINY, at.run, 0, _data=replace(
            at.data, tasks=replace(tasks, target={**tasks.target, "ood": pairs})
        )) for pairs in (more, one)
    )
    assert patching(mixed, model) == patching(
        SetRun(replace(TINY, n_heads_eval=15), at.run, 0, _data=at.data), model
    )
    assert patching(alone, model) == {}


def test_masks_rank_by_how_often_they_keep_then_by_log_alpha(at, model):
    order = masks(at, model, behaviour(at, "ood", SMOOTH))
    table = pd.read_csv(at.run.folder / "tables" / "heads-masks-set-1.csv", dtype={"site": str})
    assert order == list(table.site)
    assert sorted(order) == [f"{layer}.{head}" for layer in (0, 1) for head in range(4)]
    assert table.kept.is_monotonic_decreasing
    assert table.kept.mean() == pytest.approx(0.5)  # each mask keeps half
    ties = table.groupby("kept")["log_alpha"]
    assert all(values.is_monotonic_decreasing for _, values in ties)
    assert any(len(values) > 1 for _, values in ties)
