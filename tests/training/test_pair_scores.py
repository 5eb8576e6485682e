"""Scores of minimal pairs against a naive loop, one sentence at a time."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_classifier, build_decoder
from mechprobe.tasks.minimal_pairs import MinimalPairs, Paradigm
from mechprobe.tasks.pair_templates import generate_minimal_pairs
from mechprobe.tasks.pair_tokens import encode_minimal_pairs
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.pair_scores import (
    by_task,
    macro_mean,
    pair_margins,
    score_pairs,
    task_accuracy,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def setting():
    pairs = generate_minimal_pairs(n_pairs=6)
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 500)
    model = build_decoder(
        n_layers=2, n_heads=2, d_model=16, n_ctx=24, tokenizer=tokenizer, init_std=0.3,
    ).requires_grad_(False)
    return pairs, tokenizer, model, encode_minimal_pairs(pairs, tokenizer)


def naive(model, tokenizer, sentence: str) -> tuple[float, int]:
    """log P of a sentence, token by token, one sentence a forward pass."""
    ids = [tokenizer.bos_token_id, *tokenizer(sentence, add_special_tokens=False)["input_ids"]]
    logits = model(torch.tensor([ids]))[0].log_softmax(-1)
    return sum(float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1)), len(ids) - 1


@pytest.mark.parametrize("batch_tokens", [30, 400, 100_000])
def test_scores_equal_a_loop_over_sentences(setting, batch_tokens):
    pairs, tokenizer, model, encoded = setting
    scores = score_pairs(model, encoded, batch_tokens=batch_tokens)
    sentences = [(g, b) for p in pairs for g, b in zip(p.good, p.bad, strict=True)]
    good, n_good = zip(*(naive(model, tokenizer, g) for g, _ in sentences), strict=True)
    bad, n_bad = zip(*(naive(model, tokenizer, b) for _, b in sentences), strict=True)
    np.testing.assert_allclose(scores.good, good, atol=2e-4)
    np.testing.assert_allclose(scores.bad, bad, atol=2e-4)
    margins = np.array(good) - np.array(bad)
    np.testing.assert_allclose(scores.margins(), margins, atol=4e-4)
    np.testing.assert_allclose(
        pair_margins(model, encoded, batch_tokens=batch_tokens), margins, atol=4e-4
    )
    per_token = np.array(good) / n_good - np.array(bad) / n_bad
    np.testing.assert_allclose(scores.margins(per_token=True), per_token, atol=1e-4)
    right = np.array([m > 0 for m in margins]).reshape(len(pairs), 6).mean(1)
    np.testing.assert_allclose(task_accuracy(margins, encoded), right)


def test_every_sentence_is_in_one_batch_of_the_size_asked_for(setting):
    encoded = setting[3]
    batches = encoded.batches(60)
    rows = torch.cat([b.row for b in batches])
    assert sorted(rows.tolist()) == list(range(2 * len(encoded)))
    assert all(b.tokens.numel() <= 60 or len(b.tokens) == 1 for b in batches)
    spread = [b.tokens.shape[1] for b in batches]
    assert spread == sorted(spread)


def one_pair(good: str, bad: str) -> MinimalPairs:
    return MinimalPairs("toy", (Paradigm("p", "x", "f", (good,), (bad,), ("t.jsonl line 7",)),))


def test_words_outside_the_vocabulary_are_named_with_their_place(setting):
    tokenizer = setting[1]
    strange = one_pair("The zebra is tall.", "The zebra are tall.")
    with pytest.raises(InputError, match=r"t\.jsonl line 7: 'zebra' is not in the model's vocab"):
        encode_minimal_pairs(strange, tokenizer)
    kept = encode_minimal_pairs(strange, tokenizer, unknown="keep")
    assert len(kept) == 1
    with pytest.raises(InputError, match="no pair of paradigm p is left"):
        encode_minimal_pairs(strange, tokenizer, unknown="drop")
    some = Paradigm(
        "p", "x", "f", ("The zebra is tall.", "The boy is tall."),
        ("The zebra are tall.", "The boy are tall."), ("a", "b"),
    )
    found = encode_minimal_pairs(MinimalPairs("toy", (some,)), tokenizer, unknown="drop")
    assert (len(found), found.n_dropped) == (1, 1)


def test_what_cannot_be_scored_is_refused(setting):
    _, tokenizer, _, encoded = setting
    with pytest.raises(InputError, match=r"line 7: a sentence has 6 tokens .* reads 5"):
        encode_minimal_pairs(
            one_pair("The boy is tall.", "The boy are tall."), tokenizer, max_length=5
        )
    with pytest.raises(InputError, match="line 7: both sentences have the same tokens"):
        encode_minimal_pairs(
            one_pair("The zebra is tall.", "The gnu is tall."), tokenizer, unknown="keep"
        )
    classifier = build_classifier(
        ("a", "b"), None, n_layers=1, n_heads=1, d_model=4, d_mlp=4, n_ctx=24, d_vocab=500
    )
    with pytest.raises(InputError, match="gives no next-token probabilities"):
        score_pairs(classifier, encoded)


def test_means_by_task_and_by_phenomenon(setting):
    encoded = setting[3]
    values = np.arange(len(encoded), dtype=float)
    assert by_task(values, encoded)[1] == pytest.approx(values[6:12].mean())
    assert macro_mean(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "a", "b"]) == 0.5
