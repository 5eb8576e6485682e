"""Fits of sequence models: the loss by hand, narrowed to some weights, resumed to the bit."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.models.edits import forward
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.models.generate import generate
from mechprobe.runs import Checkpoint
from mechprobe.tasks.seq2seq_rows import encode_rows
from mechprobe.tasks.word_ids import word_ids
from mechprobe.training.seq2seq import (
    SequenceFit,
    answer_log_probability,
    batch_stream,
    exact_matches,
    fit_sequences,
    sequence_loss,
)

pytestmark = pytest.mark.usefixtures("one_thread")
LETTERS = "abcdef"


def pairs(n: int, seed: int = 0):
    """Copy the letters, the first one twice."""
    rng = np.random.default_rng(seed)
    source = tuple(tuple(rng.choice(list(LETTERS), rng.integers(2, 5))) for _ in range(n))
    source = tuple(tuple(map(str, row)) for row in source)
    return SimpleNamespace(source=source, target=tuple((r[0], *r) for r in source), name="copy")


def rows(decoder_only: bool, n: int = 60):
    return encode_rows(pairs(n), word_ids([LETTERS]), decoder_only=decoder_only)


def model(decoder_only: bool, seed: int = 0):
    shape = {"n_layers": 1, "n_heads": 2, "d_model": 16, "d_vocab": 9, "seed": seed}
    if decoder_only:
        return build_decoder(n_ctx=16, **shape)
    return build_encoder_decoder(**shape)


def by_hand(logits, answers, smoothing):
    """Mean over scored tokens of (1 - s) nll(answer) + s mean over words of nll."""
    total, count = 0.0, 0
    for row, asked in zip(logits.double().log_softmax(-1), answers, strict=True):
        for scores, answer in zip(row, asked, strict=True):
            if answer != -100:
                total -= (1 - smoothing) * scores[answer] + smoothing * scores.mean()
                count += 1
    return float((total / count).detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_smoothed_cross_entropy_over_scored_tokens(smoothing):
    data, net = rows(True, 5), model(True)
    logits = forward(net, data.batch(range(5)))
    loss = sequence_loss(logits, data.answers(range(5)), smoothing)
    assert loss.item() == pytest.approx(by_hand(logits, data.answers(range(5)), smoothing), 1e-5)


@pytest.mark.parametrize("decoder_only", [True, False])
def test_it_learns_to_copy_and_teacher_forcing_says_what_greedy_decoding_writes(decoder_only):
    data, net = rows(decoder_only), model(decoder_only)
    losses: list[float] = []
    fit_sequences(
        net, data, SequenceFit(steps=60, batch_size=30, lr=1e-2, label_smoothing=0.0), seed=0,
        on_step=lambda step, loss: losses.append(loss),
    )
    assert losses[-1] < 0.5 * losses[0]
    forced = exact_matches(net, data)
    assert 0 < forced.sum() < len(data)  # some of each, so that the comparison can fail
    words = data.words
    for i in range(0, len(data), 6):
        prompt = SimpleNamespace(source=(pairs(60).source[i],), target=((),), name="one")
        batch = encode_rows(prompt, words, decoder_only=decoder_only).batch([0])
        written = generate(net, batch, 8, eos=words.end, pad=words.pad)[0].tolist()
        assert (words.decode(written) == list(pairs(60).target[i])) == forced[i]


def test_log_probability_is_the_mean_over_the_answers_tokens():
    data, net = rows(False, 7), model(False)
    got = answer_log_probability(net, data, batch_size=3)
    for i in range(7):
        logits = forward(net, data.batch([i]))
        assert got[i] == pytest.approx(-by_hand(logits, data.answers([i]), 0.0), abs=1e-5)


@pytest.mark.parametrize("decoder_only", [True, False])
def test_only_what_learns_changes(decoder_only):
    data = rows(decoder_only)
    for learns, changed in (("embeddings", {True}), ("body", {False}), ("all", {True, False})):
        net = model(decoder_only)
        before = copy.deepcopy(net.state_dict())
        fit_sequences(net, data, SequenceFit(steps=2, learns=learns), seed=0)
        moved = {
            name.startswith(("embed.", "unembed."))
            for name, value in net.state_dict().items() if not torch.equal(value, before[name])
        }
        assert moved == changed


def test_only_the_rows_of_some_words_change():
    data, net = rows(True), model(True)
    before = copy.deepcopy(net.state_dict())
    fit_sequences(net, data, SequenceFit(steps=3, learns="embeddings"), seed=0, rows={4, 6})
    after = net.state_dict()
    assert set(torch.nonzero((after["embed.W_E"] != before["embed.W_E"]).any(1))[:, 0].tolist()) \
        == {4, 6}
    assert set(torch.nonzero((after["unembed.W_U"] != before["unembed.W_U"]).any(0))[:, 0].tolist()
               ) == {4, 6}
    with pytest.raises(InputError, match="word ids 3 to 99 cannot learn in a model of 9 words"):
        fit_sequences(net, data, SequenceFit(steps=1), seed=0, rows={3, 99})


def test_resumed_it_has_the_same_numbers(tmp_path):
    data, settings = rows(False), SequenceFit(steps=8, batch_size=16)
    whole, stopped, points = model(False), model(False), []
    fit_sequences(whole, data, settings, seed=3, trajectory=(4, 8), on_checkpoint=points.append)
    assert points == [4, 8]
    store = Checkpoint(tmp_path / "fit.safetensors")

    def stop(step: int, loss: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_sequences(stopped, data, settings, seed=3, on_step=stop, store=store, save_every=5)
    resumed = model(False, seed=9)
    fit_sequences(resumed, data, settings, seed=3, store=store, save_every=5)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_order_of_batches_depends_on_the_seed_alone():
    data = rows(True)
    whole = [list(r) for _, r in batch_stream(data, 16, 5, 0, 9)]
    assert whole[5:] == [list(r) for _, r in batch_stream(data, 16, 5, 5, 9)]
    assert whole != [list(r) for _, r in batch_stream(data, 16, 6, 0, 9)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "0 steps of 32 pairs"),
        ({"steps": 1, "lr": 0.0}, "must be above 0"),
        ({"steps": 1, "label_smoothing": 1.0}, "are shares"),
        ({"steps": 1, "learns": "nothing"}, "learns='nothing'; give one of all"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SequenceFit(**settings)


def test_a_point_outside_the_fit_is_refused():
    with pytest.raises(InputError, match="trajectory point 3 is no step"):
        fit_sequences(model(True), rows(True), SequenceFit(steps=2), seed=0, trajectory=[3])
