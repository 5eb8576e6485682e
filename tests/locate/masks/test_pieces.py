"""A search in pieces gives what it gives whole; where memory runs out the pieces get smaller."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mechprobe.gates.baselines import resample_baseline, zero_baseline
from mechprobe.gates.engine import Engine
from mechprobe.locate import masks
from mechprobe.locate.mask_gradients import gradients_for
from mechprobe.locate.mask_loss import full_model_logits, mask_loss
from mechprobe.locate.mask_memory import SHARE, Fit, fitting, free_bytes, member_bytes
from mechprobe.locate.mask_pieces import Pieces, out_of_memory, portions
from mechprobe.models import build_classifier, build_decoder, site_grid
from tests.gates.live_memory import most_alive
from tests.locate.masks.conftest import trained

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"n_heads": 4, "d_model": 32, "d_mlp": 128, "n_ctx": 32, "d_vocab": 50}


def real_allocation_failure():
    """What torch's own CPU allocator raises."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


def limited(gradients, room):
    """Gradients on a machine where ``room`` gated examples fit at once, and not one more."""

    def run(batch, gates, loss):
        if len(gates) * len(batch) > room:
            raise real_allocation_failure()
        return gradients(batch, gates, loss)

    return run


def gates_for(grid, k=3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(k, len(grid), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
def test_what_does_not_fit_is_halved_until_it_does(model, random_batch, grid, baseline, room):
    batch = random_batch(7, 4, 6, 5)
    (full,) = full_model_logits(model, [batch])
    gradients, gates = gradients_for(model, grid, baseline), gates_for(grid)
    whole = Pieces(gradients)(batch, full, gates, mask_loss)
    pieces = Pieces(limited(gradients, room))
    for _ in range(2):
        found = pieces(batch, full, gates, mask_loss)
        torch.testing.assert_close(found[0], whole[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[1], whole[1], rtol=1e-10, atol=1e-12)
    assert (pieces.members, pieces.examples) == {
        1: (1, 1), 2: (1, 2), 3: (1, 2), 5: (1, None), 8: (1, None)
    }[room]


def test_where_not_even_one_example_fits_the_error_is_torch_s_own(
    model, random_batch, grid, baseline
):
    batch = random_batch(7, 4)
    pieces = Pieces(limited(gradients_for(model, grid, baseline), 0))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        pieces(batch, None, gates_for(grid), mask_loss)


def test_examples_that_stand_in_for_one_another_are_not_parted(model, random_batch, grid):
    batch, stands = random_batch(7, 4, 6), resample_baseline(0)
    pieces = Pieces(limited(gradients_for(model, grid, stands), 2), divisible=False)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        pieces(batch, None, gates_for(grid), mask_loss)
    assert pieces.members == 1


def test_other_errors_are_not_taken_for_memory():
    assert out_of_memory(real_allocation_failure())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN
    assert not out_of_memory(RuntimeError("size mismatch"))


def test_a_whole_search_in_pieces(model, batches, grid, baseline, monkeypatch):
    whole = trained(model, batches, grid, baseline)
    monkeypatch.setattr(masks, "fitting", lambda *_, **__: Fit(1, 2))
    torch.testing.assert_close(trained(model, batches, grid, baseline), whole, rtol=0, atol=1e-6)


def test_a_search_that_recomputes_gives_the_same_masks(
    model, batches, grid, baseline, monkeypatch
):
    whole, asked = trained(model, batches, grid, baseline), []
    gradients = Engine.gradients
    monkeypatch.setattr(
        Engine, "gradients",
        lambda *args, **more: asked.append(more["recompute"]) or gradients(*args, **more),
    )
    assert torch.equal(trained(model, batches, grid, baseline, recompute=True), whole)
    assert all(asked)
    asked.clear()
    assert torch.equal(trained(model, batches, grid, baseline), whole)
    assert asked
    assert not any(asked)


def test_where_one_example_does_not_fit_the_way_back_recomputes(
    model, random_batch, grid, baseline, monkeypatch
):
    batch, gates = random_batch(7, 4), gates_for(grid)
    (full,) = full_model_logits(model, [batch])
    whole = Pieces(gradients_for(model, grid, baseline))(batch, full, gates, mask_loss)
    gradients = Engine.gradients

    def short(self, batch, gates, loss, *, recompute=False, **more):
        if not recompute or len(gates) * len(batch) > 1:
            raise real_allocation_failure()
        return gradients(self, batch, gates, loss, recompute=recompute, **more)

    monkeypatch.setattr(Engine, "gradients", short)
    pieces = Pieces(gradients_for(model, grid, baseline))
    found = pieces(batch, full, gates, mask_loss)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-12)
    assert (pieces.members, pieces.examples) == (1, 1)


def test_a_language_model_s_portions_count_their_real_tokens(random_batch):
    decoder = build_decoder(n_layers=1, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, seed=1)
    batch, grid = random_batch(7, 3, 5), site_grid(decoder)
    (full,) = full_model_logits(decoder, [batch])
    parts = portions(batch, full, 2)
    assert [part.weight for part in parts] == [10 / 15, 5 / 15]
    gradients, gates = gradients_for(decoder, grid, zero_baseline()), gates_for(grid).float()
    whole = Pieces(gradients)(batch, full, gates, mask_loss)
    found = Pieces(gradients, examples=1)(batch, full, gates, mask_loss)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_the_estimate_is_near_what_torch_allocates():
    """Peak of the tensors of one way forward and back with plain autograd."""
    model = build_classifier(("no", "yes"), None, n_layers=4, n_heads=4, d_model=32, n_ctx=32,
                             d_vocab=50)  # fmt: skip
    model.requires_grad_(False)
    tokens = torch.randint(0, 50, (8, 32), generator=torch.Generator().manual_seed(0))
    one = torch.ones_like(tokens)
    stream = model.embed(tokens, 0 * one).requires_grad_(True)
    held: set[tuple[int, int]] = set()

    def keep(tensor):
        held.add((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        x = stream
        for block in model.blocks:
            x = block(x)
    saved = sum(size for place, size in held if place not in weights)
    assert x.requires_grad
    assert 0.5 * saved < member_bytes(model, 8, 32) < 2 * saved


@pytest.mark.parametrize("recompute", [False, True])
def test_the_estimate_is_near_what_the_engine_holds(recompute, random_batch):
    """Peak of the tensors of one way forward and back of four members that run stacked."""
    sizes: dict[str, Any] = SIZES | {"n_layers": 8}
    batch = random_batch(32, 32, 32, 32)
    for model in (build_classifier(("no", "yes"), None, **sizes), build_decoder(**sizes)):
        model.requires_grad_(False)
        (full,) = full_model_logits(model, [batch])
        grid = site_grid(model)
        gradients = gradients_for(model, grid, zero_baseline(), 4, recompute=recompute)
        gates = 0.2 + 0.6 * gates_for(grid, 4).float()

        def run(gradients=gradients, gates=gates, full=full):
            return gradients(batch, gates, lambda logits, b: mask_loss(logits, b, full))

        run()
        held = most_alive(run)
        assert 0.9 * held < 4 * member_bytes(model, 4, 32, recompute=recompute) < 1.6 * held


def test_as_many_members_and_examples_as_fit(model, random_batch):
    batches = [random_batch(4, 4), random_batch(6, 6, 6, 6)]
    one = member_bytes(model, 4, 6)
    assert fitting(model, batches, 8, free=100 * one) == Fit(8, None)
    assert fitting(model, batches, 8, free=7 * one, recompute=False) == Fit(3, None)
    assert fitting(model, batches, 8, free=one + 4, recompute=False) == Fit(1, 2)
    assert fitting(model, batches, 8, free=1) == Fit(1, 1)
    assert free_bytes(torch.device("cpu")) > 2**20


def test_the_way_back_recomputes_where_too_little_would_run_at_a_time(random_batch):
    sizes: dict[str, Any] = SIZES | {"n_layers": 12}
    model, batch = build_decoder(**sizes), random_batch(*[32] * 8)
    plain = member_bytes(model, 8, 32)
    spared = member_bytes(model, 8, 32, recompute=True)
    assert spared < 0.4 * plain
    enough = int(4 * plain / SHARE)  # 4 members x 8 examples x 32 tokens are 1024
    assert fitting(model, [batch], 8, free=enough) == Fit(4, None)
    short = fitting(model, [batch], 8, free=9 * enough // 10)
    assert short == Fit(min(8, int(0.9 * 4 * plain / spared)), None, True)
    assert short.members > 4
    assert fitting(model, [batch], 2, free=9 * enough // 10) == Fit(2, None)  # all there are
    assert fitting(model, [batch], 8, free=enough, recompute=True).recompute
