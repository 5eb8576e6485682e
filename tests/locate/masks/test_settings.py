"""Rules, schedules and targets of a mask, and the values they refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.locate.masks import (
    MaskSettings,
    check_sparsity,
    published_settings,
    scaled,
    target_at,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_published_settings():
    half = published_settings(0.5)
    assert (half.rule, half.steps, half.accumulation, half.init) == ("published", 9_300, 4, 10.0)
    assert (half.lr, half.lambda_lr, half.lr_warmup_steps) == (0.1, 1.0, 200)
    assert half.weight_decay == 0.01
    assert half.objective == "kl"
    assert half.sparsity_warmup * half.steps == pytest.approx(9_000)
    assert published_settings(0.7).steps == 6_500 + 50 * 70 + 6 * 70
    assert published_settings(0.05).steps == 6_500 + 50 * 5 + 6 * 5
    with pytest.raises(InputError, match="outside"):
        published_settings(1.0)


@pytest.mark.parametrize("shape", ["linear", "logarithmic"])
def test_the_target_rises_and_stays(shape):
    settings = MaskSettings(steps=100, sparsity_warmup=0.6, warmup_shape=shape)
    path = [target_at(step, 0.7, settings) for step in range(100)]
    assert path[:60] == sorted(path[:60])
    assert path[59:] == [pytest.approx(0.7)] * 41
    assert path[29] == pytest.approx(0.35 if shape == "linear" else 1 - math.sqrt(0.3))
    assert path[0] == pytest.approx(0.7 / 60 if shape == "linear" else 1 - 0.3 ** (1 / 60))
    at_once = replace(settings, sparsity_warmup=0.0)
    assert target_at(0, 0.7, at_once) == pytest.approx(0.7)


def test_scaled_settings_keep_their_shape():
    short = scaled(published_settings(0.5), 930)
    assert (short.steps, short.lr_warmup_steps) == (930, 20)
    assert short.sparsity_warmup == published_settings(0.5).sparsity_warmup
    assert scaled(MaskSettings(), 3).lr_warmup_steps == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "l0"}, "unknown rule 'l0'"),
        ({"objective": "accuracy"}, "unknown objective 'accuracy'"),
        ({"warmup_shape": "cosine"}, "unknown warm-up 'cosine'"),
        ({"steps": 0}, "at least one step"),
        ({"accumulation": 0}, "one micro-batch a step"),
        ({"sparsity_warmup": 1.2}, r"share of the steps, 0 to 1; got 1\.2"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        MaskSettings(**change)


@pytest.mark.parametrize("sparsity", [0, 1, -0.1, 1.5, float("nan"), "0.5", True, None])
def test_sparsity_lies_inside_zero_and_one(sparsity):
    with pytest.raises(InputError, match=r"outside \(0, 1\); give the share of sites to close"):
        check_sparsity(sparsity)


@pytest.mark.parametrize("sparsity", [0.5, np.float64(0.5), np.float32(0.5)])
def test_any_number_can_be_a_sparsity(sparsity):
    assert check_sparsity(sparsity) == 0.5
