"""Gradients of tasks against dense arithmetic on all of them at once, and how spread they are."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.tasks.pair_templates import generate_minimal_pairs
from mechprobe.tasks.pair_tokens import encode_minimal_pairs
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training import gradient_sets
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, pair_batch, pair_loss
from mechprobe.training.gradient_sets import set_relations, shared_share, top_entries
from mechprobe.training.task_gradients import (
    gradient_bytes,
    gradient_space,
    half_mass_share,
    held_gradients,
    pair_gradient,
    participation_ratio,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def setting():
    """A decoder and the pairs of five tasks in its tokens."""
    pairs = generate_minimal_pairs(n_pairs=9)
    pairs = pairs.choose(pairs.names[:5])
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 500)
    model = build_decoder(
        n_layers=2, n_heads=2, d_model=16, n_ctx=24, tokenizer=tokenizer, init_std=0.2
    )
    return model, encode_minimal_pairs(pairs, tokenizer)


def dense(model, pairs) -> np.ndarray:
    """Every task's gradient of the mean difference, by the objective of tuning, [task weight]."""
    settings, rows = TuneSettings(hinge=None), []
    with flat_weights(model) as weights:
        for t in range(len(pairs.names)):
            weights.grad.zero_()
            batch = pair_batch(pairs, pairs.of_task(t), settings)
            pair_loss(model, batch, settings)[0].backward()
            rows.append(weights.grad.numpy().copy())
    return np.stack(rows)


def test_a_task_gradient_is_that_of_the_mean_difference(setting):
    model, pairs = setting
    expected = dense(model, pairs)
    found = []
    with flat_weights(model) as weights:
        gradient_space(model, weights, pairs, on_task=lambda t, g: found.append(g.numpy().copy()))
        mine = pairs.of_task(1)
        flipped = pair_gradient(model, weights, pairs, mine, signs=-np.ones(len(mine)))
        pieces = pair_gradient(model, weights, pairs, mine, batch_pairs=4)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(flipped, -expected[1], atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(pieces, expected[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("held", [None, 1, 2, 4])
def test_any_number_of_gradients_in_memory_gives_what_all_at_once_give(setting, held, monkeypatch):
    monkeypatch.setattr(gradient_sets, "PIECE", 1_000)
    model, pairs = setting
    g = dense(model, pairs).astype(float)
    with flat_weights(model) as weights:
        found = gradient_space(model, weights, pairs, share=0.05, held=held)
        ends = [pairs.of_task(t) for t in range(5)]
        halves = [
            [pair_gradient(model, weights, pairs, e[i::2]).numpy() for i in (0, 1)] for e in ends
        ]
    size = np.linalg.norm(g, axis=1)
    np.testing.assert_allclose(found.cosine, g @ g.T / np.outer(size, size), atol=1e-5)
    chosen = [largest(row, 0.05) for row in g]
    overlap = [[len(a & b) / len(a) for b in chosen] for a in chosen]
    np.testing.assert_allclose(found.relations.overlap, overlap, atol=1e-9)
    for t, (a, b) in enumerate(halves):
        both = len(largest(a, 0.05) & largest(b, 0.05)) / len(largest(a, 0.05))
        assert found.half_overlap[t] == pytest.approx(both)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert found.half_cosine[t] == pytest.approx(cosine, abs=1e-5)
    spread = np.abs(g).sum(1) ** 2 / (g.shape[1] * (g**2).sum(1))
    np.testing.assert_allclose(found.participation, spread, rtol=1e-4)
    assert np.all(found.swapped_overlap.diagonal() == 1)
    assert found.swapped_overlap[0, 1] != pytest.approx(found.relations.overlap[0, 1])


def largest(gradient: np.ndarray, share: float) -> set[int]:
    """Places of the share of the entries with the largest size, by a plain sort."""
    return set(np.argsort(-np.abs(gradient))[: round(share * len(gradient))].tolist())


def test_relations_of_sets_count_and_multiply(monkeypatch):
    monkeypatch.setattr(gradient_sets, "PIECE", 97)
    g = torch.randn(3, 700, generator=torch.Generator().manual_seed(0))
    g[1] = 0.6 * g[0] + 0.4 * g[1]
    g[2] *= 1e-20  # no size of gradient may get lost
    tops = [top_entries(row, 0.1) for row in g]
    found = set_relations(tops)
    chosen = [largest(row.numpy(), 0.1) for row in g]
    assert [set(top.index.tolist()) for top in tops] == chosen
    for a in range(3):
        for b in range(3):
            both = sorted(chosen[a] & chosen[b])
            x, y = g[a].double().numpy()[both], g[b].double().numpy()[both]
            assert found.overlap[a, b] == pytest.approx(len(both) / 70)
            assert shared_share(tops[a], tops[b]) == pytest.approx(len(both) / 70)
            assert found.sign_agreement[a, b] == pytest.approx((np.sign(x) == np.sign(y)).mean())
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            assert found.shared_cosine[a, b] == pytest.approx(cosine, abs=1e-5)
    apart = set_relations([top_entries(row, 0.25) for row in torch.eye(4)[:2]])
    assert np.isnan(apart.sign_agreement[0, 1])
    assert np.isnan(apart.shared_cosine[0, 1])


def test_chance_overlap_is_the_share_of_the_sets():
    g = torch.randn(12, 5_000, generator=torch.Generator().manual_seed(1))
    found = set_relations([top_entries(row, 0.05) for row in g]).overlap
    assert found[~np.eye(12, dtype=bool)].mean() == pytest.approx(0.05, abs=0.006)


def test_distributedness_of_known_vectors():
    even, one = torch.ones(10), torch.zeros(10)
    one[3] = -5.0
    assert participation_ratio(even) == pytest.approx(1.0)
    assert participation_ratio(one) == pytest.approx(0.1)
    assert half_mass_share(even) == pytest.approx(0.5)
    assert half_mass_share(one) == pytest.approx(0.1)
    assert participation_ratio(torch.zeros(4)) == 0.0


def test_memory_grows_with_what_is_held_and_never_passes_the_budget():
    n, tasks, share = 1_000_000, 67, 0.01
    for budget in (1e8, 3e8, 1e10):
        held = held_gradients(n, tasks, share, budget)
        assert 1 <= held <= tasks
        if 1 < held:
            assert gradient_bytes(n, tasks, share, held) <= budget
        if held < tasks:
            assert gradient_bytes(n, tasks, share, held + 1) > budget
    assert held_gradients(n, tasks, share, 1e10) == tasks


def test_gradients_that_cannot_be_taken_are_refused(setting):
    model, pairs = setting
    with flat_weights(model) as weights:
        with pytest.raises(InputError, match="held is 0"):
            gradient_space(model, weights, pairs, held=0)
        with pytest.raises(InputError, match="at least one pair"):
            pair_gradient(model, weights, pairs, np.array([], dtype=np.int64))
