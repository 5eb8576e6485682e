"""The hard concrete operator against the formulas written out, and PyTorch's own checks."""

from __future__ import annotations

import pytest
import torch

from mechprobe.gates.kernels.hard_concrete import hard_concrete
from mechprobe.locate import hard_concrete as written_out

LIMITS = {"left": -0.1, "right": 1.1, "temperature": 2 / 3, "eps": 1e-6}


def drawn(k=4, n=7, dtype=torch.float64, scale=4.0):
    generator = torch.Generator().manual_seed(0)
    log_alpha = scale * torch.randn(k, n, generator=generator, dtype=torch.float64)
    u = torch.rand(k, n, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return log_alpha.to(dtype).requires_grad_(), u.to(dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_equal_autograd_through_the_formulas(dtype, close):
    log_alpha, u = drawn(dtype=dtype)
    gates, closed = hard_concrete(log_alpha, u, **LIMITS)
    expected = written_out.sample(log_alpha, u)
    share = written_out.probability_closed(log_alpha).mean(-1)
    torch.testing.assert_close(gates, expected, rtol=close, atol=close)
    torch.testing.assert_close(closed, share, rtol=close, atol=close)
    assert (gates == 0).any()
    assert (gates == 1).any()
    weight = torch.randn(gates.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (got,) = torch.autograd.grad((weight * gates).sum() + (closed**2).sum(), log_alpha)
    (want,) = torch.autograd.grad((weight * expected).sum() + (share**2).sum(), log_alpha)
    torch.testing.assert_close(got, want, rtol=close, atol=close)


def test_extreme_log_alpha_stays_finite_and_its_closed_share_is_flat():
    log_alpha = torch.tensor([[60.0, -60.0, 0.0]], dtype=torch.float64, requires_grad=True)
    gates, closed = hard_concrete(log_alpha, torch.full((1, 3), 0.5).double(), **LIMITS)
    (slope,) = torch.autograd.grad(gates.sum() + closed.sum(), log_alpha)
    assert gates.tolist()[0][:2] == [1.0, 0.0]
    assert slope[0, :2].tolist() == [0.0, 0.0]
    assert slope[0, 2] != 0


def test_the_operator_is_well_made():
    log_alpha, u = drawn(scale=1.0)
    arguments = (log_alpha, u, -0.1, 1.1, 2 / 3, 1e-6)
    torch.library.opcheck(torch.ops.mechprobe.hard_concrete, arguments)


def test_gradcheck_away_from_the_corners():
    log_alpha, u = drawn(k=2, n=3, scale=0.3)
    u = u.clamp(0.3, 0.7)
    assert torch.autograd.gradcheck(lambda a: hard_concrete(a, u, **LIMITS), (log_alpha,))
