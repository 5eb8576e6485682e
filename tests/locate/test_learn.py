"""Learned masks on any behaviour: they keep the planted heads, and say how often by chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import paired_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.learn import learn_masks, masked_subnetworks
from mechprobe.models.edits import forward, site_grid
from mechprobe.planted.handmade import decoy, induction

QUICK = {"seeds": range(3), "steps": 60, "n": 64, "progress": False}


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.mark.parametrize("baseline", ["mean", "paired"])
def test_masks_keep_the_planted_heads(baseline):
    (case,) = decoy()
    found = masked_subnetworks(case.model, case.task, baseline=baseline, sparsity=0.75, **QUICK)
    assert [[str(s) for s in member.heads] for member in found] == [["0.1"]] * 3
    assert all(member.settings["baseline"] == baseline for member in found)


def test_scores_are_kept_less_chance():
    (case,) = induction(copies=True)
    scores = learn_masks(case.model, case.task, baseline="paired", sparsity=0.5, **QUICK)
    table = scores.table().set_index("site")
    assert set(scores.top(2)) == {"0.0", "1.1"}
    assert table.loc["0.0", "effect"] == pytest.approx(0.5)
    assert table.loc["0.1", "effect"] == pytest.approx(-0.5)
    assert scores.effects.shape == (4, 3)
    np.testing.assert_allclose(scores.effects.sum(0), 0, atol=1e-12)
    assert (scores.metric, scores.baseline, scores.forwards) == ("kl", "paired", 180)


def test_what_is_kept_is_the_divergence_at_the_scored_position():
    """The loss falls below that of a random mask of the same size, counted apart."""
    (case,) = induction()
    (member,) = masked_subnetworks(
        case.model, case.task, baseline="paired", sparsity=0.5, seeds=[0], steps=60, n=None,
        progress=False,
    )
    grid, task = member.sites, case.task
    assert not grid.mlps
    base = paired_baseline(task.counterfactual)

    def divergence(kept):
        gates = torch.as_tensor(grid.mask(kept=kept)[None], dtype=torch.float32)
        log_p = forward(case.model, task.inputs)[:, -1].log_softmax(-1)
        log_q = gated_logits(case.model, task.inputs, gates, grid, base)[0][:, -1].log_softmax(-1)
        return float((log_p.exp() * (log_p - log_q)).sum(-1).mean().detach())

    assert divergence(member.heads) < 1e-3 < divergence(["0.1", "1.0"])


def test_metrics_without_gradient_are_refused():
    (case,) = decoy()
    with pytest.raises(InputError, match="no gradient"):
        masked_subnetworks(case.model, case.task, metric="accuracy", **QUICK)
    assert len(site_grid(case.model)) == 4
