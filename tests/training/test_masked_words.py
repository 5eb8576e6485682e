"""Hidden words against counts and plain sums; a language with rules is learned, and resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models.build import build_encoder
from mechprobe.models.edits import forward
from mechprobe.runs import Run
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.word_pieces import encode_words
from mechprobe.training.fresh import FreshSettings
from mechprobe.training.masked_words import (
    NOT_ASKED,
    Masking,
    fit_masked,
    hide_words,
    masked_accuracy,
    masked_loss,
)

# the third word repeats the first
SENTENCES = [(a, b, a) for a in ("p", "q", "r", "s") for b in ("x", "y", "z")] * 4
TOKENIZER = word_tokenizer(" ".join(s) for s in SENTENCES)
MASKING = Masking(4, frozenset(range(5)), len(TOKENIZER), share=0.3)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="module")
def data():
    return encode_words(SENTENCES, TOKENIZER, 8).encoded


def model():
    return build_encoder(
        n_layers=1, n_heads=2, d_model=32, n_ctx=8, d_mlp=64, tokenizer=TOKENIZER, seed=1
    )


def test_hidden_words_are_words_and_the_rest_is_untouched(data):
    (batch,) = data.batches(len(data))
    kinds = np.zeros(3)
    asked_in_all = 0
    for seed in range(200):
        hidden, labels = hide_words(batch, MASKING, seed)
        asked = labels != NOT_ASKED
        assert (labels[asked] == batch.tokens[asked]).all()
        assert (batch.tokens[asked] >= 5).all()
        assert (hidden.tokens[~asked] == batch.tokens[~asked]).all()
        shown, own = hidden.tokens[asked], batch.tokens[asked]
        assert set(shown.tolist()) <= set(range(4, len(TOKENIZER)))
        kinds += [int((shown == 4).sum()), int((shown == own).sum()),
                  int(((shown != own) & (shown != 4)).sum())]
        asked_in_all += int(asked.sum())
    n_words = int((batch.tokens >= 5).sum())
    assert asked_in_all / (200 * n_words) == pytest.approx(0.3, abs=0.01)
    back = 0.1 / (len(TOKENIZER) - 5)  # a random word may be the word itself
    np.testing.assert_allclose(kinds / kinds.sum(), [0.8, 0.1 + back, 0.1 - back], atol=0.02)
    again, _ = hide_words(batch, MASKING, 7)
    assert torch.equal(again.tokens, hide_words(batch, MASKING, 7)[0].tokens)


def test_something_is_always_asked(data):
    (batch,) = data.batches(len(data))
    rare = Masking(4, frozenset(range(5)), len(TOKENIZER), share=1e-9)
    assert int((hide_words(batch, rare, 0)[1] != NOT_ASKED).sum()) == 1


def test_the_loss_is_the_mean_over_hidden_words():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[NOT_ASKED, 4, NOT_ASKED], [1, NOT_ASKED, 6]])
    plain = [-logits[i, j].log_softmax(0)[k] for i, j, k in ((0, 1, 4), (1, 0, 1), (1, 2, 6))]
    torch.testing.assert_close(masked_loss(logits, labels), torch.stack(plain).mean())


def test_a_rule_is_learned_and_a_stopped_fit_goes_on_with_the_same_numbers(data, tmp_path):
    settings = FreshSettings(160, lr=1e-2, warmup_steps=20)
    whole = model()
    fit_masked(whole, data, MASKING, settings, seed=3)
    (batch,) = data.batches(len(data))
    batch = batch.to("cpu")
    hidden = batch.tokens.clone()
    hidden[:, 3] = 4
    with torch.no_grad():
        guess = whole(hidden).argmax(-1)[:, 3]
    assert (guess == batch.tokens[:, 1]).float().mean() > 0.95
    fresh = masked_accuracy(model(), data, MASKING)
    assert masked_accuracy(whole, data, MASKING) > fresh + 0.3

    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 70:
            raise Stop

    with Run.open(tmp_path / "run", {"study": "x"}) as run:
        store = run.checkpoint("fit")
        half = model()
        store_every = {"store": store, "seed": 3}
        with pytest.raises(Stop):
            fit_masked(half, data, MASKING, settings, on_step=stop, save_every=30, **store_every)
        resumed = model()
        fit_masked(resumed, data, MASKING, settings, save_every=30, **store_every)
    for (name, a), (_, b) in zip(
        whole.named_parameters(), resumed.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    torch.testing.assert_close(forward(whole, batch), forward(resumed, batch))


def test_what_cannot_be_masked_is_refused(data):
    with pytest.raises(InputError, match="share in"):
        Masking(4, frozenset(), 10, share=1.0)
    with pytest.raises(InputError, match="all 3 ids are special"):
        Masking(2, frozenset(range(3)), 3)
