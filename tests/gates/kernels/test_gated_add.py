"""The gated residual add against its formula, and PyTorch's own checks."""

from __future__ import annotations

import pytest
import torch

from mechprobe.gates.kernels.gated_add import add_gated_back, gated_add

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
N, BATCH, POS, D = 4, 2, 3, 5


def drawn(members, dtype=torch.float64, shared_stream=False, shared_own=False, stand=(1, 1)):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    gates = torch.zeros(N, dtype=torch.float64)
    gates[list(members)] = draw(len(members)).sigmoid()
    stream = draw(1 if shared_stream else N, BATCH, POS, D)
    own = draw(1 if shared_own else len(members), BATCH, POS, D)
    place = None if stand is None else draw(1, *stand, D).to(wide)
    return stream.to(wide), own.to(dtype), gates.to(wide), place, tuple(members)


def written_out(stream, own, gates, stand, members):
    """stream + g own + (1 - g) stand-in, one vector at a time, in float64."""
    rows = []
    for k in range(N):
        row = (stream[0] if len(stream) == 1 else stream[k]).double()
        g = gates[k].double()
        if stand is not None:
            row = row + (1 - g) * stand[0].double()
        if k in members:
            row = row + g * (own[0] if len(own) == 1 else own[members.index(k)]).double()
        rows.append(row.expand(BATCH, POS, D))
    return torch.stack(rows)


def near(got, want, dtype):
    assert got.shape == want.shape
    assert (got.double() - want.double()).abs().max() <= CLOSE[dtype] * want.abs().max()


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize(
    ("members", "shared_stream", "shared_own", "stand"),
    [((0, 1, 2, 3), False, False, (1, 1)), ((1, 3), False, False, (1, POS)),
     ((1, 3), True, True, (BATCH, POS)), ((0, 1, 2, 3), True, True, None)],
)  # fmt: skip
def test_values_and_gradients_equal_the_formula(members, shared_stream, shared_own, stand, dtype):
    arguments = drawn(members, dtype, shared_stream, shared_own, stand)
    leaves = [t.requires_grad_() for t in arguments[:3]]
    out, want = gated_add(*arguments), written_out(*arguments)
    near(out.detach(), want.detach(), dtype)
    toward = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    got = torch.autograd.grad((out * toward).sum(), leaves)
    expected = torch.autograd.grad((want * toward.double()).sum(), leaves)
    listed = torch.zeros(N, dtype=torch.bool)
    listed[list(members)] = True
    near(got[0], expected[0], dtype)
    near(got[1], expected[1], dtype)
    near(got[2], expected[2] * listed, dtype)
    assert not got[2][~listed].any()


def test_nothing_run_adds_the_stand_ins_alone():
    stream, _, gates, stand, _ = drawn(())
    near(gated_add(stream, None, gates, stand, ()), stream + stand, torch.float64)


def test_open_gates_read_no_stand_in():
    stream, own, gates, stand, members = drawn(range(N))
    out = gated_add(stream, own, torch.ones_like(gates), torch.nan * stand, members)
    near(out, stream + own, torch.float64)


def test_only_what_is_asked_for_comes_back():
    _, own, gates, stand, members = drawn((0, 2))
    grad = torch.randn(N, BATCH, POS, D, dtype=torch.float64)
    d_own, found = add_gated_back(
        grad, None, gates, stand, members, into_own=True, into_gates=False
    )
    near(d_own, grad[[0, 2]] * gates[[0, 2], None, None, None], torch.float64)
    assert not found.any()
    d_own, found = add_gated_back(
        grad, own, gates, stand, members, into_own=False, into_gates=True
    )
    assert not d_own.numel()
    near(found[[0, 2]], (grad[[0, 2]] * (own - stand)).sum((2, 3)), torch.float64)


@pytest.mark.parametrize("members", [(0, 1, 2, 3), (1, 3)])
def test_the_operators_are_well_made(members):
    stream, own, gates, stand, _ = drawn(members)
    some = list(members)
    leaves = (stream.requires_grad_(), own.requires_grad_(), gates.requires_grad_())
    torch.library.opcheck(torch.ops.mechprobe.gated_add, (*leaves, stand, some))
    grad = torch.randn(N, BATCH, POS, D, dtype=torch.float64)
    for asked in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.mechprobe.gated_add_backward,
            (grad, own.detach(), gates.detach(), stand, some, *asked),
        )


def test_gradients_of_stand_ins_are_refused():
    stream, own, gates, stand, members = drawn((1, 3))
    assert stand is not None
    with pytest.raises(RuntimeError, match="stand-ins"):
        gated_add(stream, own, gates, stand.requires_grad_(), members).sum().backward()
