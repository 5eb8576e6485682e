"""The hard concrete gate against its definition, by formula and by drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from mechprobe.locate import hard_concrete as hc


def one_gate(log_alpha, u):
    """Louizos et al. 2018, equations 10 and 11, for one number."""
    s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) / (2 / 3)))
    return min(1.0, max(0.0, s * 1.2 - 0.1))


def test_a_sample_is_the_formula():
    log_alpha = torch.tensor([[-6.0, -2.0, -0.5], [0.0, 1.5, 8.0]], dtype=torch.float64)
    u = torch.tensor([[0.3, 0.9, 0.5], [0.5, 0.01, 1e-6]], dtype=torch.float64)
    expected = [
        [one_gate(a, b) for a, b in zip(row_a, row_u, strict=True)]
        for row_a, row_u in zip(log_alpha.tolist(), u.tolist(), strict=True)
    ]
    np.testing.assert_allclose(hc.sample(log_alpha, u).numpy(), expected, rtol=0, atol=1e-12)
    assert hc.sample(log_alpha, u)[0, 0] == 0
    np.testing.assert_allclose(
        hc.sample(log_alpha.float(), u.float()).numpy(), expected, rtol=0, atol=1e-6
    )


def test_the_gradient_is_zero_exactly_where_a_gate_is_clamped():
    log_alpha = torch.tensor([-9.0, 0.3, 9.0], dtype=torch.float64, requires_grad=True)
    u = torch.full((3,), 0.5, dtype=torch.float64)
    gates = hc.sample(log_alpha, u)
    gates.sum().backward()
    assert gates.tolist()[::2] == [0, 1]
    assert log_alpha.grad is not None
    assert log_alpha.grad[0] == log_alpha.grad[2] == 0
    s = 1 / (1 + math.exp(-0.3 * 1.5))
    assert float(log_alpha.grad[1]) == pytest.approx(1.2 * 1.5 * s * (1 - s))


@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 1.0, 3.0])
def test_the_expected_share_of_closed_gates_is_what_sampling_gives(log_alpha):
    n = 200_000
    u = torch.from_numpy(np.random.default_rng(3).uniform(size=n))
    closed = float((hc.sample(torch.full((n,), log_alpha, dtype=torch.float64), u) == 0).sum()) / n
    p = float(hc.probability_closed(torch.tensor([log_alpha])))
    assert closed == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n) + 1e-5)


def test_the_probability_is_clamped_and_differentiable():
    log_alpha = torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64, requires_grad=True)
    p = hc.probability_closed(log_alpha).detach()
    assert float(p[0]) == pytest.approx(1 - 1e-6)
    assert float(p[1]) == pytest.approx(1 / (1 + 11 ** (2 / 3)))
    assert float(p[2]) == pytest.approx(1e-6)
    inside = torch.linspace(-3, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(hc.probability_closed, (inside,))


def test_noise_depends_only_on_seed_and_step():
    calls = [(seed, step) for seed in (0, 1, 7) for step in (0, 1, 500)]
    forwards = {call: hc.uniform_noise(*call, 40) for call in calls}
    np.random.default_rng(0).random(5)
    torch.rand(3)
    for call in reversed(calls):
        assert torch.equal(hc.uniform_noise(*call, 40), forwards[call])
    rows = torch.stack(list(forwards.values()))
    assert len(rows.unique(dim=0)) == len(calls)
    assert torch.equal(hc.uniform_noise(1, 1, 10), forwards[1, 1][:10])
    assert hc.uniform_noise(0, 0, 4, torch.float64).dtype == torch.float64


def test_noise_is_uniform_and_unrelated_between_seeds_and_steps():
    draws = torch.stack([hc.uniform_noise(s, t, 2_000) for s in range(5) for t in range(5)]).numpy()
    assert kstest(draws.ravel(), "uniform").pvalue > 1e-3
    related = np.corrcoef(draws) - np.eye(25)
    assert np.abs(related).max() < 4.5 / math.sqrt(2_000)
    assert draws.min() >= hc.EPS * 0.99
    assert draws.max() <= 1 - hc.EPS * 0.9


@pytest.mark.parametrize("wrong", [(-1, 0), (0, -1)])
def test_negative_seeds_and_steps_are_refused(wrong):
    with pytest.raises(ValueError, match="must be >= 0"):
        hc.uniform_noise(*wrong, 3)


def test_soft_gates():
    soft = hc.soft_gates(torch.tensor([-1.0, 0.0, 2.0]))
    expected = [1 / (1 + math.exp(-1.2 * a)) for a in (-1.0, 0.0, 2.0)]
    np.testing.assert_allclose(soft.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("n", [5, 8, 156])
@pytest.mark.parametrize("sparsity", [0.01, 0.25, 0.5, 0.7, 0.99])
def test_closing_the_lowest_meets_the_sparsity(n, sparsity):
    values = torch.from_numpy(np.random.default_rng(n).normal(size=(3, n)))
    gates = hc.close_lowest(values, sparsity)
    closed = round(sparsity * n)
    for row, kept in zip(values, gates, strict=True):
        assert int((~kept).sum()) == closed
        assert abs(closed / n - sparsity) <= max(0.02, 1 / n)
        if 0 < closed < n:
            assert row[~kept].max() < row[kept].min()


def test_ties_are_broken_by_position():
    assert hc.close_lowest(torch.zeros(6), 0.5).tolist() == [False] * 3 + [True] * 3


def test_published_gates_close_the_expected_number_of_each_tensor():
    rng = np.random.default_rng(0)
    log_alpha = torch.from_numpy(rng.normal(0, 4, size=(4, 10)))
    groups = [slice(0, 4), slice(4, 8), slice(8, 10)]
    gates = hc.close_expected(log_alpha, groups)
    for row, made in zip(log_alpha, gates, strict=True):
        for group in groups:
            part, probability = row[group], hc.probability_closed(row[group])
            zeros = round(float(probability.sum()))
            lowest = sorted(range(len(part)), key=lambda i, part=part: float(part[i]))[:zeros]
            for i, value in enumerate(made[group]):
                expected = 0.0 if i in lowest else float(hc.soft_gates(part)[i])
                assert float(value) == pytest.approx(expected)
    assert (gates == 0).any()
    assert (gates > 0).any()
