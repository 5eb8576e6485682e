"""The gated head product against sums over pairs written out, and PyTorch's own checks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.gates.kernels.gated_heads import gated_heads, write_heads_back
from mechprobe.gates.kernels.pairs import Pairs, from_heads, into_heads, pairs_of

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
N, HEADS, BATCH, POS, D_HEAD, D = 3, 4, 2, 5, 3, 6
RAGGED = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
DENSE = np.ones((N, HEADS), dtype=bool)
ALIKE = np.array([[0, 1, 1, 0]] * N, dtype=bool)


def drawn(open_, dtype=torch.float64, n=N):
    """z of the open pairs, gates that are 0 elsewhere, weights, bias, written stand-ins."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pairs = pairs_of(open_)
    gates = draw(n, HEADS).sigmoid() * torch.from_numpy(open_)
    z, weight = draw(len(pairs), BATCH, POS, D_HEAD), draw(HEADS, D_HEAD, D)
    bias, mean = draw(D), draw(HEADS, D_HEAD)
    closed = torch.einsum("hd,hdm->hm", mean, weight)
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    return (z.to(dtype), gates.to(wide), weight.to(dtype), bias.to(wide), closed.to(wide), pairs)


def written_out(z, gates, weight, bias, closed, pairs):
    """The same, one head of one example of one gate vector at a time, in float64."""
    z, gates, weight, bias, closed = (t.double() for t in (z, gates, weight, bias, closed))
    out = []
    for k in range(len(gates)):
        for b in range(BATCH):
            total = bias.expand(POS, -1)
            for h in range(HEADS):
                total = total + (1 - gates[k, h]) * closed[h]
                for p, pair in enumerate(zip(pairs.members, pairs.heads, strict=True)):
                    if pair == (k, h):
                        total = total + gates[k, h] * (z[p, b] @ weight[h])
            out.append(total)
    return torch.stack(out)


def near(got, want, dtype):
    assert got.shape == want.shape
    assert (got.double() - want.double()).abs().max() <= CLOSE[dtype] * want.abs().max()


@pytest.mark.parametrize("open_", [RAGGED, DENSE, ALIKE], ids=["ragged", "dense", "alike"])
@pytest.mark.parametrize("dtype", list(CLOSE))
def test_values_and_gradients_equal_the_sum_written_out(open_, dtype):
    z, gates, weight, bias, closed, pairs = drawn(open_, dtype)
    z, gates = z.requires_grad_(), gates.requires_grad_()
    out = gated_heads(z, gates, weight, bias, closed, pairs)
    want = written_out(z, gates, weight, bias, closed, pairs)
    assert out.dtype == dtype
    near(out.detach(), want.detach(), dtype)
    toward = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = torch.autograd.grad((out * toward).sum(), (z, gates))
    expected = torch.autograd.grad((want * toward.double()).sum(), (z, gates))
    near(got[0], expected[0], dtype)
    listed = torch.from_numpy(open_)
    near(got[1], expected[1] * listed, dtype)
    assert not got[1][~listed].any()


def test_one_vector_without_a_stand_in_and_one_with_every_head_closed():
    for open_ in (DENSE[:1], RAGGED[1:2]):
        z, gates, weight, bias, _, pairs = drawn(open_, n=1)
        out = gated_heads(z, gates, weight, bias, None, pairs)
        want = written_out(z, gates, weight, bias, torch.zeros(HEADS, D), pairs)
        near(out, want, torch.float64)


def test_a_closed_head_is_never_read():
    """Its weights may be NaN: where it is in no pair, neither way looks at them."""
    z, gates, weight, bias, closed, pairs = drawn(RAGGED[:1], n=1)
    weight[1] = torch.nan
    out = gated_heads(z, gates, weight, bias, closed, pairs)
    assert out.isfinite().all()
    dz, found = write_heads_back(
        torch.ones_like(out), z, gates, weight, closed, pairs, into_z=True, into_gates=True
    )
    assert dz.isfinite().all()
    assert found.isfinite().all()
    assert (found[0, :, 1] == 0).all()


@pytest.mark.parametrize("open_", [RAGGED, DENSE], ids=["ragged", "dense"])
def test_the_operators_are_well_made(open_):
    z, gates, weight, bias, closed, pairs = drawn(open_)
    both = list(pairs.members), list(pairs.heads)
    arguments = (z.requires_grad_(), gates.requires_grad_(), weight, bias, closed, *both)
    torch.library.opcheck(torch.ops.mechprobe.gated_heads, arguments)
    grad = torch.randn(N * BATCH, POS, D, dtype=torch.float64)
    for asked in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.mechprobe.gated_heads_backward,
            (grad, z.detach(), gates.detach(), weight, closed, *both, *asked),
        )


def test_gradients_of_frozen_weights_are_refused():
    z, gates, weight, bias, closed, pairs = drawn(DENSE)
    out = gated_heads(z, gates, weight.requires_grad_(), bias, closed, pairs)
    with pytest.raises(RuntimeError, match="frozen weights"):
        out.sum().backward()


@pytest.mark.parametrize("open_", [RAGGED, DENSE, ALIKE], ids=["ragged", "dense", "alike"])
@pytest.mark.parametrize("letters", [1, 3])
def test_into_heads_and_from_heads_are_each_others_adjoint(open_, letters):
    """<into(x), y> = <x, from(y)>, and into is x W_h^T written out."""
    generator = torch.Generator().manual_seed(2)
    pairs = pairs_of(open_)
    x = torch.randn(N * BATCH, POS, D, generator=generator, dtype=torch.float64)
    weight = torch.randn(HEADS, letters * D_HEAD, D, generator=generator, dtype=torch.float64)
    there = into_heads(x, weight, None, pairs, letters)
    assert there.shape == (letters, len(pairs), BATCH, POS, D_HEAD)
    by_letter = weight.view(HEADS, letters, D_HEAD, D)
    for p, (k, h) in enumerate(zip(pairs.members, pairs.heads, strict=True)):
        for letter in range(letters):
            own = x.view(N, BATCH, POS, D)[k] @ by_letter[h, letter].t()
            torch.testing.assert_close(there[letter, p], own)
    y = torch.randn(there.shape, generator=generator, dtype=torch.float64)
    back = from_heads(y, weight, pairs)
    torch.testing.assert_close((there * y).sum(), (x * back).sum())


def test_pairs():
    pairs = pairs_of(RAGGED)
    assert pairs == Pairs(3, (0, 0, 0, 2), (0, 2, 3, 1))
    assert pairs.shared is None
    assert pairs_of(ALIKE).shared == (1, 2)
    assert [(m, s.start, s.stop, h) for m, s, h in pairs.spans()] == [
        (0, 0, 3, (0, 2, 3)), (2, 3, 4, (1,)),
    ]  # fmt: skip
    assert pairs.within(pairs_of(DENSE)) == [0, 2, 3, 9]
    assert pairs.within(pairs_of(DENSE[:1])) == [0, 2, 3, 1]
    assert pairs.within(pairs) is None
