"""Task gradients and transfer against dense loops."""

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
from mechprobe.training.ftgd import TuneSettings, pair_batch, pair_loss, tune
from mechprobe.training.pair_scores import pair_margins, task_accuracy
from mechprobe.training.perplexity import perplexity
from mechprobe.training.task_gradients import (
    alignment,
    cosine,
    half_mass_share,
    overlap,
    pair_gradient,
    participation_ratio,
    task_gradients,
    top_sets,
)
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


def test_a_task_gradient_is_that_of_the_mean_difference(space):
    model, tuning, *_ = space
    settings = TuneSettings(hinge=None)
    with flat_weights(model) as weights:
        found = task_gradients(model, weights, tuning)
        for t in range(4):
            mine = tuning.of_task(t)
            weights.grad.zero_()
            pair_loss(model, pair_batch(tuning, mine, settings), settings)[0].backward()
            torch.testing.assert_close(found.whole[t], weights.grad, atol=1e-6, rtol=1e-4)
        mean = found.halves.mean(0)
        torch.testing.assert_close(found.whole, mean, atol=1e-6, rtol=1e-4)
        mine = tuning.of_task(1)
        flipped = pair_gradient(model, weights, tuning, mine, signs=-np.ones(len(mine)))
        torch.testing.assert_close(flipped, -found.whole[1], atol=1e-6, rtol=1e-4)
        pieces = pair_gradient(model, weights, tuning, mine, batch_pairs=5)
        torch.testing.assert_close(pieces, found.whole[1], atol=1e-6, rtol=1e-4)


def test_overlap_cosine_and_alignment_count_and_multiply():
    g = torch.randn(3, 700, generator=torch.Generator().manual_seed(0))
    g[1] = 0.6 * g[0] + 0.4 * g[1]
    sets = top_sets(g, 0.1)
    assert sets.sum(1).tolist() == [70, 70, 70]
    chosen = [set(np.argsort(-np.abs(row.numpy()))[:70].tolist()) for row in g]
    for a in range(3):
        for b in range(3):
            both = sorted(chosen[a] & chosen[b])
            assert overlap(sets, sets)[a, b] == pytest.approx(len(both) / 70)
            signs = np.sign(g[a].numpy()[both]) == np.sign(g[b].numpy()[both])
            assert alignment(g, sets)[a, b] == pytest.approx(signs.mean())
    expected = torch.nn.functional.cosine_similarity(g[:, None], g[None], dim=-1)
    np.testing.assert_allclose(cosine(g, g), expected, atol=1e-5)
    none = torch.zeros(2, 4)
    none[0, 0] = none[1, 1] = 1.0
    assert np.isnan(alignment(none, none != 0)[0, 1])
    assert cosine(torch.zeros(1, 4), none)[0].tolist() == [0, 0]


def test_chance_overlap_is_the_share_of_the_sets():
    g = torch.randn(12, 5_000, generator=torch.Generator().manual_seed(1))
    found = overlap(top_sets(g, 0.05), top_sets(g, 0.05))
    assert found[~np.eye(12, dtype=bool)].mean() == pytest.approx(0.05, abs=0.006)


def test_distributedness_of_known_vectors():
    even, one = torch.ones(10), torch.zeros(10)
    one[3] = 5.0
    assert participation_ratio(even) == pytest.approx(1.0)
    assert participation_ratio(one) == pytest.approx(0.1)
    assert half_mass_share(even) == pytest.approx(0.5)
    assert half_mass_share(one) == pytest.approx(0.1)
    both = participation_ratio(torch.stack([even, one]))
    np.testing.assert_allclose(both, [1.0, 0.1])


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
    ones = np.ones(len(evaluation), dtype=np.int64)
    np.testing.assert_allclose(found.resampled(ones), found.transfer())
    with pytest.raises(InputError, match="unknown scale"):
        found.transfer("log")


def test_other_tasks_for_evaluation_are_refused(space):
    model, tuning, evaluation, _ = space
    other = subset(evaluation, np.arange(len(evaluation)))
    object.__setattr__(other, "names", tuple("abcd"))
    with flat_weights(model) as weights, pytest.raises(InputError, match="the same tasks"):
        transfer_space(model, weights, tuning, other, TuneSettings())
