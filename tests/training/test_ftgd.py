"""Gradient differences against two passes and dense arithmetic; the model comes back whole."""

import dataclasses

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.tasks.pair_templates import generate_minimal_pairs
from mechprobe.tasks.pair_tokens import encode_minimal_pairs
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.deltas import Delta, flat_weights
from mechprobe.training.ftgd import TuneSettings, ordinary, pair_batch, pair_loss, tune
from mechprobe.training.pair_scores import pair_margins, score_pairs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task():
    """A model, the encoded pairs of one paradigm, and of all."""
    pairs = generate_minimal_pairs(n_pairs=12)
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 500)
    one = encode_minimal_pairs(pairs.choose(["agreement_distractor"]), tokenizer)
    return tokenizer, one, encode_minimal_pairs(pairs, tokenizer)


def fresh(task, dtype=torch.float64):
    return build_decoder(
        n_layers=2, n_heads=2, d_model=16, n_ctx=24, tokenizer=task[0], init_std=0.2, seed=1,
        dtype=dtype,
    )


def sentence_gradient(model, pairs, which: int) -> torch.Tensor:
    """Flat gradient of the mean NLL of the acceptable (0) or unacceptable (1) sentences."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for pair in range(len(pairs)):
        row = 2 * pair + which
        ids = torch.from_numpy(pairs.tokens[pairs.starts[row] : pairs.starts[row + 1]])[None]
        logp = model(ids).log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
        total = total - logp.sum() / len(pairs)
    total.backward()
    grad = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    model.zero_grad()
    return grad.clone()


def test_one_pass_gives_the_difference_of_two_gradients(task):
    model = fresh(task)
    two = sentence_gradient(model, task[1], 0) - sentence_gradient(model, task[1], 1)
    settings = TuneSettings(hinge=None)
    with flat_weights(model) as weights:
        batch = pair_batch(task[1], np.arange(12), settings)
        pair_loss(model, batch, settings)[0].backward()
        torch.testing.assert_close(weights.grad, two, atol=1e-12, rtol=1e-9)


def test_ordinary_fine_tuning_is_the_gradient_of_the_acceptable_sentences(task):
    model = fresh(task)
    expected = sentence_gradient(model, task[1], 0)
    settings = ordinary(TuneSettings())
    with flat_weights(model) as weights:
        pair_loss(model, pair_batch(task[1], np.arange(12), settings), settings)[0].backward()
        torch.testing.assert_close(weights.grad, expected, atol=1e-12, rtol=1e-9)


def test_the_hinge_counts_only_pairs_below_the_margin(task):
    model = fresh(task)
    margins = score_pairs(model, task[1]).margins()
    hinge = float(np.median(margins))
    below = margins < hinge
    with flat_weights(model) as weights:
        settings = TuneSettings(hinge=hinge)
        loss, _ = pair_loss(model, pair_batch(task[1], np.arange(12), settings), settings)
        loss.backward()
        hinged = weights.grad.clone()
        weights.grad.zero_()
        plain = TuneSettings(hinge=None)
        pair_loss(model, pair_batch(task[1], np.flatnonzero(below), plain), plain)[0].backward()
        torch.testing.assert_close(hinged, weights.grad * below.mean(), atol=1e-12, rtol=1e-9)
    assert float(loss.detach()) == pytest.approx(np.maximum(hinge - margins, 0).mean())


def test_a_step_moves_the_largest_entries_of_the_difference_and_nothing_else(task):
    model = fresh(task)
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    difference = sentence_gradient(model, task[1], 0) - sentence_gradient(model, task[1], 1)
    settings = TuneSettings(hinge=None, top=0.05, lr=0.1, steps=1)
    with flat_weights(model) as weights:
        delta = tune(model, weights, task[1], settings).delta
    k = round(0.05 * len(before))
    expected = difference.abs().argsort(descending=True)[:k].sort().values
    assert delta.index.tolist() == expected.tolist()
    torch.testing.assert_close(delta.value, (before - 0.1 * difference)[expected])


def test_adam_with_a_mask_is_torchs_adam_on_the_chosen_weights(task):
    settings = TuneSettings(hinge=None, top=1.0, lr=1e-3, steps=4, optimiser="adam")
    model, twin = fresh(task), fresh(task)
    with flat_weights(model) as weights:
        delta = tune(model, weights, task[1], settings).delta
        base = weights.flat.clone()
    optimiser = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for _ in range(4):
        optimiser.zero_grad()
        pair_loss(twin, pair_batch(task[1], np.arange(12), settings), settings)[0].backward()
        optimiser.step()
    base[delta.index] = delta.value
    expected = torch.cat([p.detach().reshape(-1) for p in twin.parameters()])
    torch.testing.assert_close(base, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_comes_back_bit_by_bit(task, dtype):
    model = fresh(task, dtype)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.W_E.requires_grad_(False)
    with flat_weights(model) as weights:
        tuned = tune(model, weights, task[1], TuneSettings(steps=3, top=0.1))
        try:
            with weights.applied(tuned.delta):
                assert not torch.equal(weights.flat[tuned.delta.index], before_flat(before, tuned))
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        with pytest.raises(FloatingPointError, match="tuning step"):
            tune(model, weights, task[1], TuneSettings(steps=9, top=1.0, lr=1e30, hinge=None))
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.untyped_storage().nbytes() == p.numel() * p.element_size()
        assert p.grad is None
    assert not model.W_E.requires_grad
    assert model.W_U.requires_grad


def before_flat(before: dict, tuned) -> torch.Tensor:
    return torch.cat([p.reshape(-1) for p in before.values()])[tuned.delta.index]


def test_an_applied_delta_equals_a_separately_tuned_copy(task):
    settings = TuneSettings(steps=5, top=0.02, lr=0.1)
    model, copy = fresh(task), fresh(task)
    with flat_weights(model) as weights:
        tuned = tune(model, weights, task[1], settings)
        with weights.applied(tuned.delta):
            margins = pair_margins(model, task[2])
    names, chosen = list(copy.parameters()), tuned.delta.index
    for _ in range(5):  # dense and plain: one copy, autograd's own gradients
        copy.zero_grad()
        pair_loss(copy, pair_batch(task[1], np.arange(12), settings), settings)[0].backward()
        grad = torch.cat([p.grad.reshape(-1) for p in names])
        mask = torch.zeros_like(grad)
        mask[chosen] = 1.0
        start = 0
        for p in names:
            p.data -= 0.1 * (mask * grad)[start : start + p.numel()].view(p.shape)
            start += p.numel()
    np.testing.assert_allclose(margins, pair_margins(copy, task[2]), atol=1e-9)


def test_a_saved_delta_comes_back(task, tmp_path):
    model = fresh(task, torch.float32)
    with flat_weights(model) as weights:
        delta = tune(model, weights, task[1], TuneSettings(steps=2)).delta
    delta.save(tmp_path / "d.safetensors")
    back = Delta.load(tmp_path / "d.safetensors")
    assert torch.equal(back.index, delta.index)
    assert torch.equal(back.value, delta.value)
    assert back.n_weights == delta.n_weights == sum(p.numel() for p in model.parameters())
    small = build_decoder(n_layers=1, n_heads=1, d_model=4, n_ctx=24, tokenizer=task[0])
    with (
        flat_weights(small) as weights,
        pytest.raises(InputError, match="belongs to a model of"),
        weights.applied(back),
    ):
        pass


def test_masks_batches_and_exclusions_do_what_they_say(task):
    model = fresh(task)
    settings = TuneSettings(steps=3, top=0.05, lr=0.1, mask="random", batch=5)
    with flat_weights(model) as weights:
        n = len(weights)
        first = tune(model, weights, task[1], settings, seed=1).delta
        again = tune(model, weights, task[1], settings, seed=1).delta
        other = tune(model, weights, task[1], settings, seed=2).delta
        assert torch.equal(first.value, again.value)
        assert not torch.equal(first.index, other.index)
        assert len(first) <= round(0.05 * n)
        assert len(np.intersect1d(first.index, other.index)) < 0.15 * len(first)
        free = tune(
            model, weights, task[1],
            dataclasses.replace(settings, mask="gradient", exclude=("embed",)),
        ).delta
        bounds = dict(zip(weights.names, zip(weights.starts[:-1], weights.starts[1:])))
        for name in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U"):
            low, high = bounds[name]
            assert not ((free.index >= low) & (free.index < high)).any()
        moving = tune(model, weights, task[1], dataclasses.replace(
            settings, mask="gradient", remask=True, batch=0)).delta
        assert len(moving) > round(0.05 * n)
        with pytest.raises(InputError, match="leaves no weight"):
            tune(model, weights, task[1], dataclasses.replace(settings, exclude=("",)))


def test_tuning_learns_its_task_and_stops_when_told(task):
    model = fresh(task)
    with flat_weights(model) as weights:
        tuned = tune(
            model, weights, task[1], TuneSettings(steps=40, top=0.2, lr=0.3),
            validation=task[1],
        )
        assert tuned.accuracy[-1] > 0.8 > tuned.accuracy[0]
        assert tuned.losses[-1] < 0.5 * tuned.losses[0]
        stopped = tune(
            model, weights, task[1], TuneSettings(steps=40, top=0.2, lr=0.3, stop=0.75),
            validation=task[1],
        )
        assert len(stopped.losses) < 40
        assert stopped.accuracy[-1] >= 0.75
        with pytest.raises(InputError, match="stop needs validation pairs"):
            tune(model, weights, task[1], TuneSettings(stop=0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "both"}, "objective 'both' is unknown"),
        ({"mask": "top"}, "mask 'top' is unknown"),
        ({"optimiser": "lion"}, "optimiser 'lion' is unknown"),
        ({"top": 0.0}, "top is a share of the weights"),
        ({"lr": 0.0}, "at learning rate 0.0"),
        ({"hinge": float("inf")}, "the hinge is a margin"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        TuneSettings(**changes)
