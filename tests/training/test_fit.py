"""Fitting: it learns, resumes with the same bits, and says what is wrong."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_classifier, forward
from mechprobe.runs import Run
from mechprobe.tasks.batches import encode_pairs, word_tokenizer
from mechprobe.tasks.examples import PairExamples
from mechprobe.training.fit import FitSettings, StateStore, _stream, fit_classifier, schedule

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ("early", "late")
SETTINGS = FitSettings(steps=9, batch_size=4, lr=1e-2)


@pytest.fixture(scope="module")
def examples():
    pairs = [(x, y) for x in "abcdef" for y in "abcdef"]
    return PairExamples(
        first=tuple(x for x, _ in pairs), second=tuple(y for _, y in pairs),
        label=np.array([int(y > "c") for _, y in pairs]), labels=LABELS,
        group=("",) * len(pairs), name="letters",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(examples):
    return word_tokenizer(examples.first)


@pytest.fixture(scope="module")
def data(examples, tokenizer):
    return encode_pairs(examples, tokenizer, 12)


@pytest.fixture
def fresh(tokenizer):
    def build():
        return build_classifier(
            LABELS, tokenizer, n_layers=1, n_heads=2, d_model=16, n_ctx=12, seed=0
        )

    return build


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(fresh, data):
    model, losses = fresh(), []
    fit_classifier(
        model, data, FitSettings(steps=150, batch_size=12, lr=2e-2), seed=0,
        on_step=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 150
    assert losses[0] > 0.5
    right = [
        (forward(model, batch).argmax(-1) == batch.labels).float().mean().item()
        for batch in data.batches(36)
    ]
    assert np.mean(right) > 0.95
    assert not model.training


def test_one_step_is_adamw_on_the_clipped_gradient(fresh, data):
    ours, theirs = fresh(), fresh()
    settings = FitSettings(steps=1, batch_size=36, lr=1e-3, clip=0.1, weight_decay=0.5)
    fit_classifier(ours, data, settings, seed=3)
    (batch,) = data.batches(36)
    loss = torch.nn.functional.cross_entropy(forward(theirs, batch), batch.labels)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in theirs.parameters()])
    factor = min(1.0, 0.1 / float(gradient.norm()))
    assert factor < 1
    for name, parameter in theirs.named_parameters():
        g = parameter.grad * factor
        moved = parameter.detach() * (1 - 1e-3 * 0.5) - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(ours.state_dict()[name], moved, rtol=0, atol=2e-5)


def test_the_same_seed_gives_the_same_weights(fresh, data):
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(results))
        model = fresh()
        fit_classifier(model, data, SETTINGS, seed=seed)
        results.append(weights(model))
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])


@pytest.mark.parametrize("killed_at", [2, 5, 8])
def test_a_killed_fit_goes_on_with_the_same_bits(fresh, data, tmp_path, killed_at):
    whole, points = fresh(), {}
    fit_classifier(
        whole, data, SETTINGS, seed=0, trajectory=(4, 9),
        on_checkpoint=lambda step, model: points.update({step: weights(model)}),
    )  # fmt: skip

    def kill(step, loss):
        if step == killed_at:
            raise KeyboardInterrupt

    seen, steps = {}, []
    with Run.open(tmp_path, {"study": "test"}) as run:
        settings = {"seed": 0, "trajectory": (4, 9), "save_every": 3}
        with pytest.raises(KeyboardInterrupt):
            fit_classifier(
                fresh(), data, SETTINGS, **settings, store=run.checkpoint("fit"), on_step=kill,
                on_checkpoint=lambda step, model: seen.update({step: weights(model)}),
            )  # fmt: skip
        resumed = fresh()
        fit_classifier(
            resumed, data, SETTINGS, **settings, store=run.checkpoint("fit"),
            on_step=lambda step, loss: steps.append(step),
            on_checkpoint=lambda step, model: seen.update({step: weights(model)}),
        )  # fmt: skip
        assert isinstance(run.checkpoint("fit"), StateStore)
    saved = max([0, *(s for s in (3, 4, 6) if s < killed_at)])
    assert steps == list(range(saved + 1, 10))
    assert equal(weights(resumed), weights(whole))
    assert seen.keys() == points.keys() == {4, 9}
    assert all(equal(seen[step], points[step]) for step in points)
    assert equal(points[9], weights(whole))
    assert not equal(points[4], points[9])


def test_a_finished_fit_is_not_done_again(fresh, data, tmp_path):
    with Run.open(tmp_path, {"study": "test"}) as run:
        first, again, steps = fresh(), fresh(), []
        fit_classifier(first, data, SETTINGS, seed=0, store=run.checkpoint("fit"), save_every=9)
        fit_classifier(
            again, data, SETTINGS, seed=0, store=run.checkpoint("fit"),
            on_step=lambda step, loss: steps.append(step),
        )  # fmt: skip
    assert steps == []
    assert equal(weights(first), weights(again))


def test_the_learning_rate_rises_and_falls():
    rates = [schedule(step, 10, 0.4) for step in range(10)]
    falling = [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    np.testing.assert_allclose(rates, [1 / 4, 2 / 4, 3 / 4, 1, 1, *falling])
    assert schedule(0, 10, 0.0) == 1
    assert [schedule(step, 4, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule(0, 1, 0.1) == 1


def test_each_epoch_sees_each_example_at_most_once(data):
    """36 examples in batches of 8: four full ones an epoch, four examples wait for the next."""
    rows = [(step, batch.index.tolist()) for step, batch in _stream(data, 8, 5, 0, 12)]
    assert [step for step, _ in rows] == list(range(12))
    for epoch in range(3):
        seen = Counter(i for _, row in rows[4 * epoch : 4 * epoch + 4] for i in row)
        assert sorted(seen.values()) == [1] * 32
    assert rows[0][1] != rows[4][1]
    for start in range(12):
        assert [(s, b.index.tolist()) for s, b in _stream(data, 8, 5, start, 12)] == rows[start:]


def test_data_smaller_than_a_batch_are_one_batch(data):
    sizes = [len(batch) for _, batch in _stream(data, 100, 0, 0, 3)]
    assert sizes == [36, 36, 36]


def test_a_loss_that_is_not_finite_is_named(fresh, data):
    model = fresh()
    with torch.no_grad():
        model.classifier.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"training loss is nan at step 0: lower the"):
        fit_classifier(model, data, SETTINGS, seed=0)


def test_what_cannot_be_fitted_is_refused(fresh, data, examples, tokenizer):
    nothing = encode_pairs(examples.take([]), tokenizer, 12)
    with pytest.raises(InputError, match="at least one training example"):
        fit_classifier(fresh(), nothing, SETTINGS, seed=0)
    for point in (0, 10):
        with pytest.raises(InputError, match=f"point {point} is no step of this fit; give 1 to 9"):
            fit_classifier(fresh(), data, SETTINGS, seed=0, trajectory=[3, point])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "at least one step"),
        ({"batch_size": 0}, "one example a batch"),
        ({"warmup": 1.5}, r"share of the steps, 0 to 1; got 1\.5"),
        ({"lr": 0.0}, r"learning rate 0\.0"),
        ({"clip": 0.0}, r"clipping norm 0\.0"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        FitSettings(**({"steps": 5} | change))
