"""Edits that stand: every way of calling the model passes them, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.models.standing import standing_edits
from mechprobe.sites import Site

pytestmark = pytest.mark.usefixtures("one_thread")
HEADS, MLP = Site("head", 1), Site("mlp", 0)


@pytest.fixture(scope="module")
def model():
    return build_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=24, d_vocab=20, init_std=0.5,
        dtype=torch.float64,
    )


TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@torch.no_grad()
def test_every_call_is_edited_until_the_block_ends(model):
    plain = model(TOKENS)
    hooks = [("blocks.1.attn.hook_z", lambda v, hook: 2 * v),
             ("blocks.0.hook_mlp_out", lambda v, hook: v + 1)]  # fmt: skip
    expected = model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    with standing_edits(model, {HEADS: lambda v, start: 2 * v, MLP: lambda v, start: v + 1}):
        for _ in range(2):
            torch.testing.assert_close(model(TOKENS), expected, rtol=0, atol=0)
        logits, cache = model.run_with_cache(TOKENS)
        torch.testing.assert_close(logits, expected, rtol=0, atol=0)
        model.reset_hooks()
        torch.testing.assert_close(model(TOKENS), expected, rtol=0, atol=0)
    torch.testing.assert_close(model(TOKENS), plain, rtol=0, atol=0)
    _, own = model.run_with_cache(TOKENS)
    assert not torch.equal(cache["blocks.0.hook_mlp_out"], own["blocks.0.hook_mlp_out"])


@torch.no_grad()
def test_nothing_stays_after_an_exception(model):
    plain = model(TOKENS)
    nothing = {MLP: lambda v, start: 0 * v}
    with pytest.raises(RuntimeError, match="mine"), standing_edits(model, nothing):
        raise RuntimeError("mine")
    elsewhere = nothing | {Site("head", 7): lambda v, start: v}
    with pytest.raises(InputError, match="no site"), standing_edits(model, elsewhere):
        pass
    torch.testing.assert_close(model(TOKENS), plain, rtol=0, atol=0)
    assert not any(point._forward_hooks for point in model.hook_dict.values())
    assert not model.blocks[0]._forward_pre_hooks


@torch.no_grad()
def test_a_generated_token_has_the_position_it_stands_at(model):
    """With a cache the model sees only new tokens; an edit by position gives the same all the same.

    (The cache is fed by hand: TransformerLens 3.9's own ``generate`` puts tokens at wrong positions
    when it uses one.)
    """
    shift = torch.randn(24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def by_position(value, start):
        return value + shift[start : start + value.shape[1]]

    with standing_edits(model, {MLP: by_position}):
        whole = model(TOKENS)
        cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(TOKENS))
        ones = torch.ones_like(TOKENS)
        parts = [
            model(TOKENS[:, start:end], past_kv_cache=cache, attention_mask=ones[:, start:end])
            for start, end in ((0, 2), (2, 3), (3, 5))
        ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-10)
    assert (whole - model(TOKENS)).abs().max() > 1e-3


@torch.no_grad()
def test_the_inner_block_sees_what_the_outer_one_left(model):
    expected = model.run_with_hooks(
        TOKENS, fwd_hooks=[("blocks.0.hook_mlp_out", lambda v, hook: 3 * (v + 1))]
    )
    with (
        standing_edits(model, {MLP: lambda v, start: v + 1}),
        standing_edits(model, {MLP: lambda v, start: 3 * v}),
    ):
        torch.testing.assert_close(model(TOKENS), expected, rtol=0, atol=0)
