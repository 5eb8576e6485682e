"""Time to subnetworks: masks are learned and scored, a published step is timed, and the sum."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    full_model_logits,
    published_settings,
    scaled,
    train_masks,
)
from mechprobe.models import site_grid
from mechprobe.studies.mask_speed import published, search
from mechprobe.studies.mask_speed.laptop import Laptop
from mechprobe.studies.mask_speed.published import published_run
from mechprobe.studies.mask_speed.search import (
    compare_searches,
    differences,
    learn,
    published_step,
    ratios,
)
from mechprobe.studies.mask_speed.search_report import search_lines

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def laptop(tiny_classifier, random_batch):
    made: Any = Laptop.__new__(Laptop)
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
    assert found["closed"] == [len(laptop.grid) // 2] * 2
    assert 0 <= found["alike"] <= 1


def test_a_published_step_is_timed_on_the_search_s_own_batches(laptop):
    found = published_step(laptop, 0.5, n=3)
    assert len(found) == 3
    assert min(found) > 0


def test_a_complete_published_run_is_the_engine_s_and_resumes(laptop, tmp_path, monkeypatch):
    """A Hugging Face module under autograd and the engine learn the same masks from one noise."""
    settings = replace(scaled(published_settings(0.5), 6), init=0.5)
    log_alpha = train_masks(
        laptop.model, laptop.batches, [Member(1, 0.5)], laptop.grid, laptop.baseline, settings
    )
    whole = published_run(laptop, 1, 0.5, tmp_path / "whole", settings)
    assert (log_alpha[0] - 0.5).abs().max() > 0.1
    np.testing.assert_allclose(whole["log_alpha"], log_alpha[0], atol=1e-4)
    assert (whole["seed"], whole["steps"], whole["accumulation"]) == (1, 6, 4)
    calls, folder, real = [], tmp_path / "killed", published.published_gradients

    def killed(laptop):
        gradients = real(laptop)

        def run(*args):
            calls.append(1)
            if len(calls) == 14:
                raise KeyboardInterrupt
            return gradients(*args)

        return run

    monkeypatch.setattr(published, "published_gradients", killed)
    with pytest.raises(KeyboardInterrupt):
        published_run(laptop, 1, 0.5, folder, settings, save_every=1)
    assert published_run(laptop, 1, 0.5, folder, settings)["log_alpha"] == whole["log_alpha"]
    assert len(calls) == 14 + 3 * 4  # the first three of six steps were kept
    again = published_run(laptop, 1, 0.5, folder, settings)
    assert len(calls) == 14 + 3 * 4
    assert again["seconds"] > 0


def test_searches_are_compared_and_what_is_done_is_not_done_again(laptop, tmp_path, monkeypatch):
    short = replace(MaskSettings(), steps=2)
    monkeypatch.setattr(search, "searches", lambda _: {"ours": short, "older": short})
    monkeypatch.setattr(search, "N_OURS", 2)
    monkeypatch.setattr(search, "published_step", lambda *_: published_step(laptop, 0.5, n=2))
    monkeypatch.setattr(published, "published_settings", lambda s: scaled(published_settings(s), 3))
    seen = []
    found = compare_searches(
        laptop, tmp_path, n_published=2, repeats=2,
        done=lambda row: seen.append((len(row["ours"]), len(row["published"]))),
    )
    assert seen == [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert len(found["ours"]["ours"]["seconds"]) == 2
    assert found["ours"]["ours"]["kl"] == found["ours"]["older"]["kl"]
    assert compare_searches(laptop, tmp_path, n_published=2, repeats=2) == found
    text = "\n".join(search_lines(found))
    assert "| published, 2 complete runs | 3 x 4 |" in text
    assert "scaled to 12" in text


def test_ratios_and_differences_are_paired():
    published = [{"seed": 0, "seconds": 100.0, "kl": 0.2}, {"seed": 1, "seconds": 80.0, "kl": 0.4}]
    ours = {"seeds": [0, 1, 2], "kl": [0.1, 0.5, 9.0], "seconds": [4.0, 5.0], "members": 12}
    assert differences(ours, published) == pytest.approx([-0.1, 0.1])
    assert ratios(ours, published) == pytest.approx([300, 240, 240, 192])
    assert "not measured" in "\n".join(search_lines(None))
