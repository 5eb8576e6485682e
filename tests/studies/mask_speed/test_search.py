"""Time to subnetworks: masks are learned and scored, a published step is timed, and the sum."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.masks import MaskSettings, full_model_logits
from mechprobe.models import site_grid
from mechprobe.studies.mask_speed.laptop import Laptop
from mechprobe.studies.mask_speed.search import learn, published_step, summary

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def laptop(tiny_classifier, random_batch):
    made = Laptop.__new__(Laptop)
    made.model = tiny_classifier().requires_grad_(False)
    made.batches = [random_batch(6, 5, seed=1), random_batch(6, 4, seed=2, first=2)]
    made.grid = site_grid(made.model)
    made.baseline = mean_baseline(made.model, made.batches, made.grid)
    made.full = full_model_logits(made.model, made.batches)
    accept = torch.eye(2, dtype=torch.bool)[torch.cat([b.labels for b in made.batches])]
    made.data = SimpleNamespace(dev=SimpleNamespace(batches=made.batches, accept=accept))
    return made


def test_masks_are_learned_and_scored(laptop):
    found = learn(laptop, MaskSettings(steps=3), range(2), 0.5)
    assert (found["steps"], found["members"]) == (3, 2)
    assert found["seconds"] > 0
    assert all(kl >= 0 for kl in found["kl"])
    assert all(0 <= accuracy <= 1 for accuracy in found["accuracy"])


def test_a_published_step_is_timed_on_the_search_s_own_batches(laptop):
    found = published_step(laptop, 0.5, n=3)
    assert len(found) == 3
    assert min(found) > 0


def test_the_sum_takes_our_shortest_search_of_no_lower_quality():
    published = {"steps": 100, "accumulation": 4, "kl": [0.2, 0.4]}
    ours = [
        {"seconds": 1.0, "kl": [0.5, 0.5]},
        {"seconds": 6.0, "kl": [0.2, 0.3]},
        {"seconds": 9.0, "kl": [0.1, 0.1]},
    ]
    found = summary({"published_step": [0.1, 0.2, 0.3], "published": published, "ours": ours})
    assert found["published_seconds"] == pytest.approx(12 * 100 * 4 * 0.2)
    assert found["ours"]["seconds"] == 6.0
    assert found["ratio"] == pytest.approx(160.0)
    worse = summary({"published_step": [0.1], "published": published, "ours": ours[:1]})
    assert worse["ratio"] is None
    assert np.isfinite(worse["published_kl"])
