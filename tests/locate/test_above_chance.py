"""Whether a behaviour is there at all: known shares, intervals, chance, and the refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.above_chance import check_behaviour, require_behaviour
from mechprobe.models import build_classifier, build_decoder
from mechprobe.planted.handmade import induction
from mechprobe.stats import wilson
from mechprobe.tasks import PromptTask, load_task

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def planted():
    return induction()[0]


@pytest.fixture(scope="module")
def untrained():
    return build_decoder(n_layers=2, n_heads=2, d_model=16, n_ctx=8, d_vocab=12, seed=3)


def repeats(n: int = 100, **settings):
    return load_task("behaviours/induction", n=n, period=5, again=3, **settings)


def test_a_model_that_shows_it_is_above_chance(planted):
    check = check_behaviour(planted.model, repeats())
    assert (check.name, check.metric) == ("behaviours/induction:dev", "accuracy")
    assert check.right == wilson(100, 100)
    assert check.chance == pytest.approx(0.2)
    assert check.corrupt.estimate < 0.2
    assert check.gain.estimate == pytest.approx(1 - check.corrupt.estimate)
    assert check.above
    row = check.table().iloc[0]
    assert (row["n"], row["right"], bool(row["above"])) == (100, 1.0, True)
    assert require_behaviour(planted.model, repeats()) == check
    assert "right on 100.0% [96.3%, 100.0%] of 100 examples (accuracy), chance 20.0%" in str(check)


def test_a_model_that_does_not_is_refused_with_what_was_measured(untrained):
    with pytest.raises(InputError, match=r"right on \d+\.\d% \[.*\] of 100 examples .accuracy., "
                       r"chance 20.0%; counterfactual prompts: .* not above chance, so there is"):
        require_behaviour(untrained, repeats())


def test_a_model_that_is_right_without_being_told_is_refused(untrained):
    """It always says 7, and 7 is always right: above any chance, and no thanks to the prompts."""
    with torch.no_grad():
        untrained.unembed.b_U[7] += 1e4
    clean, corrupt = (np.random.default_rng(s).integers(0, 12, (60, 6)) for s in (0, 1))
    task = PromptTask(clean, corrupt, np.full(60, 7), np.full(60, 3))
    check = check_behaviour(untrained, task)
    assert (check.metric, check.chance) == ("preference", 0.5)
    assert check.right.estimate == check.corrupt.estimate == 1
    assert check.gain.estimate == check.gain.low == 0
    assert not check.above
    with pytest.raises(InputError, match="the behaviour is the same without what the prompts tell"):
        require_behaviour(untrained, task)
    alone = PromptTask(clean, None, np.full(60, 7), np.full(60, 3))
    assert check_behaviour(untrained, alone).above


def test_without_two_answers_chance_is_the_commonest_answer(untrained):
    answers = np.array([1, 1, 1, 2, 3] * 4)
    check = check_behaviour(untrained, PromptTask(np.ones((20, 4), int), None, answers))
    assert (check.metric, check.chance) == ("accuracy", 0.6)
    assert check.corrupt is check.gain is None
    assert np.isnan(check.table()["gain"].iloc[0])
    told = check_behaviour(untrained, PromptTask(np.ones((20, 4), int), None, answers), chance=0.1)
    assert told.chance == 0.1
    with pytest.raises(InputError, match=r"chance=1\.5; give the share of right guesses"):
        check_behaviour(untrained, PromptTask(np.ones((20, 4), int), None, answers), chance=1.5)


def test_a_task_without_answers_cannot_be_right(untrained):
    task = PromptTask(np.ones((3, 4), int), metric=lambda logits: logits[:, -1, 2])
    with pytest.raises(InputError, match="names no answers, so nothing can be right"):
        check_behaviour(untrained, task)


def test_a_classifier_is_not_asked_what_comes_next():
    sizes = {"n_layers": 1, "n_heads": 1, "d_model": 4, "n_ctx": 9, "d_vocab": 12}
    model = build_classifier(("a", "b"), None, **sizes)
    with pytest.raises(InputError, match="asks what comes next; give a language model"):
        check_behaviour(model, repeats())
