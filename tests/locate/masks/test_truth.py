"""Masks find what is known to matter."""

from __future__ import annotations

import pytest
import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import MaskSettings, Member, train_masks
from mechprobe.sites import SiteGrid

pytestmark = pytest.mark.usefixtures("one_thread")


def with_one_reader(model, head, noise=0.02):
    """Only this head writes more than a whisper, and the classifier listens closely."""
    with torch.no_grad():
        model.classifier.weight.mul_(10)
        for layer, block in enumerate(model.blocks):
            for h in range(block.attn.W_O.shape[0]):
                block.attn.W_O[h] *= 2.0 if (layer, h) == head else noise
            block.mlp.W_out.mul_(noise)
        model.classifier.weight.mul_(30)  # so that its word counts in the KL
    return model


@pytest.mark.parametrize("head", [(0, 2), (1, 0)])
def test_the_mask_finds_the_one_head_that_matters(tiny_classifier, random_batch, head):
    model = with_one_reader(tiny_classifier(seed=4, n_heads=4, d_model=16), head)
    batches = [random_batch(*[8] * 16, seed=s) for s in range(2)]
    grid = SiteGrid(2, 4, mlps=False)
    members = [Member(0, 7 / 8), Member(1, 7 / 8)]
    settings = MaskSettings(steps=100, lr_warmup_steps=5)
    reports = []
    found = train_masks(
        model, batches, members, grid, mean_baseline(model, batches, grid), settings,
        on_step=lambda step, report: reports.append(report),
    )  # fmt: skip
    for row in found:
        kept = grid.select(hard_concrete.close_lowest(row, 7 / 8).numpy())
        assert [(s.layer, s.index) for s in kept] == [head]
    for closed in reports[-1]["closed"]:
        assert closed == pytest.approx(7 / 8, abs=1 / 5)
