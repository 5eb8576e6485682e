"""A tiny float64 classifier, three ragged batches, and a short search of three members."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.masks import MaskSettings, Member, train_masks
from mechprobe.models import site_grid

MEMBERS = [Member(3, 0.5), Member(0, 0.7), Member(11, 0.3)]
SHORT = MaskSettings(steps=6, lr_warmup_steps=2, init=0.5, accumulation=2)


@pytest.fixture(scope="package")
def model(tiny_classifier):
    return tiny_classifier(dtype=torch.float64)


@pytest.fixture(scope="package")
def batches(random_batch):
    return [random_batch(7, 4, 6), random_batch(5, 3, seed=1), random_batch(4, 4, seed=2)]


@pytest.fixture(scope="package")
def grid(model):
    return site_grid(model)


@pytest.fixture(scope="package")
def baseline(model, batches, grid):
    return mean_baseline(model, batches, grid)


def trained(
    model, batches, grid, baseline, settings: MaskSettings | Sequence[MaskSettings] = SHORT,
    members=MEMBERS, **more,
):
    return train_masks(model, batches, members, grid, baseline, settings, **more)
