"""Transfer spaces against tuning a copy of the model for each task."""

import copy

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.tasks.pair_templates import generate_minimal_pairs
from mechprobe.tasks.pair_tokens import encode_minimal_pairs, subset
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, tune
from mechprobe.training.pair_scores import pair_margins, task_accuracy
from mechprobe.training.perplexity import perplexity
from mechprobe.training.transfer import transfer_space

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def space():
    pairs = generate_minimal_pairs(n_pairs=20)
    pairs = pairs.choose(["agreement_copula", "agreement_distractor", "npi_ever", "gap_relative"])
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 500)
    model = build_decoder(
        n_layers=2, n_heads=2, d_model=16, n_ctx=24, tokenizer=tokenizer, init_std=0.2
    )
    parts = [
        encode_minimal_pairs(pairs.part(part), tokenizer)
        for part in ("reserve", "evaluate", "validate")
    ]
    return model, *parts


def test_transfer_equals_tuning_a_copy_for_each_task(space):
    model, tuning, evaluation, validation = space
    settings = TuneSettings(steps=4, top=0.05, lr=0.2)
    text = torch.randint(0, model.cfg.d_vocab, (5, 12), generator=torch.Generator().manual_seed(3))
    before = [p.detach().clone() for p in model.parameters()]
    with flat_weights(model) as weights:
        found = transfer_space(
            model, weights, tuning, evaluation, settings, text=text, validation=validation, seed=7
        )
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    base = task_accuracy(pair_margins(model, evaluation), evaluation)
    np.testing.assert_allclose(found.eval1, base)
    for t in (0, 2):
        twin = copy.deepcopy(model)
        with flat_weights(twin) as weights:
            mine = subset(tuning, tuning.of_task(t))
            delta = tune(twin, weights, mine, settings, seed=7 + t).delta
            weights.flat[delta.index] = delta.value
        margins = pair_margins(twin, evaluation)
        np.testing.assert_allclose(found.after[t], margins, atol=1e-5)
        accuracy = task_accuracy(margins, evaluation)
        np.testing.assert_allclose(found.transfer()[t], accuracy - base)
        assert found.perplexity_after[t] == pytest.approx(perplexity(twin, text), rel=1e-5)
        log_odds = [
            (margins - found.before)[evaluation.of_task(b)].mean() for b in range(4)
        ]
        np.testing.assert_allclose(found.transfer("log_odds")[t], log_odds, atol=1e-5)
        room = np.where(accuracy >= base, 1 - base, base)
        wanted = np.divide(accuracy - base, room, out=np.zeros(4), where=room > 0)
        np.testing.assert_allclose(found.transfer("headroom")[t], wanted)
    with pytest.raises(InputError, match="unknown scale"):
        found.transfer("log")


def test_other_tasks_for_evaluation_are_refused(space):
    model, tuning, evaluation, _ = space
    other = subset(evaluation, np.arange(len(evaluation)))
    object.__setattr__(other, "names", tuple("abcd"))
    with flat_weights(model) as weights, pytest.raises(InputError, match="the same tasks"):
        transfer_space(model, weights, tuning, other, TuneSettings())
