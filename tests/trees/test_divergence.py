"""Divergences against a loop, level parts against their meaning, staircases by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import (
    agreement,
    change_points,
    closest_shares,
    divergences,
    inversions,
    level_parts,
)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).softmax(-1)


def test_divergence_is_the_sum_over_symbols_also_where_an_observer_is_certain():
    ladder, model = some(2, 3, 4), some(3, 4, seed=1)
    ladder[0, 0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    found = divergences(ladder, model.log())
    for rung in range(2):
        for i in range(3):
            by_hand = sum(
                float(p * (p / q).log()) for p, q in zip(ladder[rung, i], model[i]) if p > 0
            )
            assert found[rung, i].item() == pytest.approx(by_hand)
    assert divergences(ladder, ladder[1].log())[1].abs().max() < 1e-12
    with pytest.raises(InputError, match="one prediction"):
        divergences(ladder, model[:2].log())


def test_agreement_takes_any_of_equal_firsts():
    observer = torch.tensor([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]])
    said = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]).log()
    assert agreement(observer, said).tolist() == [1, 0]


def test_a_levels_part_is_the_gain_in_divergence_up_to_a_constant_of_the_example():
    ladder = some(3, 5, 4)
    parts = level_parts(ladder)
    for seed in (2, 3):
        models = [some(5, 4, seed=seed + i).log() for i in range(2)]
        gains = []
        for log_probs in models:
            kl = divergences(ladder, log_probs)
            gains.append((kl[:-1] - kl[1:], torch.einsum("rnq,nq->rn", parts, log_probs)))
        torch.testing.assert_close(gains[0][0] - gains[1][0], gains[0][1] - gains[1][1])


def test_shares_say_how_surely_a_rung_is_closest():
    rng = np.random.default_rng(0)
    sure = np.stack([rng.normal(0, 1, 200), rng.normal(1, 1, 200)])
    assert closest_shares(sure)[0] > 0.99
    alike = np.stack([sure[0], sure[0][::-1]])
    shares = closest_shares(alike + 1e-12 * rng.normal(size=alike.shape))
    assert shares.sum() == pytest.approx(1)
    assert 0.2 < shares[0] < 0.8


def test_staircases():
    stairs = [4, 4, 3, 3, 1, 2, 0]
    assert change_points(stairs) == [(2, 4, 3), (4, 3, 1), (5, 1, 2), (6, 2, 0)]
    assert inversions(stairs) == 1
    assert inversions(stairs, descending=False) == 3
    assert change_points([2, 2]) == []
