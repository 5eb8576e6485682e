"""The hooked exact network: equal to belief propagation, with the attention and messages it says,
and every measure of attention, gates and blocks finds on it what is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import attention_patterns, forward, run_with_edits, site_grid
from mechprobe.models.restricted import run_with_allowed_attention
from mechprobe.models.streams import run_with_streams
from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.sites import Site
from mechprobe.training.tree_tasks import as_batch, masked_tokens
from mechprobe.trees import (
    Grammar,
    attention_by_height,
    belief_propagation,
    block_ladder,
    common_heights,
    construct,
    sample,
    split_state,
)

GRAMMAR = Grammar.random(3, 3, seed=1)


def some(n: int = 40):
    drawn = sample(GRAMMAR, n, 0, 5, ancestors=True)
    mask = torch.arange(8) == torch.arange(n)[:, None] % 8
    return drawn, mask, masked_tokens(GRAMMAR, drawn.leaves, mask)


@pytest.mark.parametrize("k", range(4))
def test_it_is_belief_propagation(k):
    drawn, mask, tokens = some()
    exact = belief_propagation(GRAMMAR, drawn.leaves, k, mask=mask)
    root = forward(HookedTreeConstruction(GRAMMAR, "flat", k), as_batch(tokens)).exp()
    leaves = forward(HookedTreeConstruction(GRAMMAR, "position", k), as_batch(tokens)).exp()
    torch.testing.assert_close(root, exact.root, atol=1e-10, rtol=0)
    torch.testing.assert_close(leaves, exact.leaf_marginals, atol=1e-10, rtol=0)


def test_its_streams_are_the_constructions_states():
    drawn, mask, tokens = some()
    states = construct(GRAMMAR, drawn.leaves, mask=mask).states
    model = HookedTreeConstruction(GRAMMAR)
    _, found = run_with_streams(model, as_batch(tokens), [f"resid.{i}" for i in range(4)])
    for stream, value in found.items():
        ours, theirs = split_state(value, 3), split_state(states[stream.layer], 3)
        for part in ("u", "r", "bits"):
            torch.testing.assert_close(getattr(ours, part), getattr(theirs, part))


def test_its_attention_is_found_at_its_height_only():
    _, mask, tokens = some()
    patterns = attention_patterns(HookedTreeConstruction(GRAMMAR), as_batch(tokens))
    for queries in (None, mask):
        found = attention_by_height(patterns, 3, queries=queries, n_null=300)
        for layer in range(3):
            assert found.mass[layer, layer + 1] == pytest.approx(1)
            assert found.p[layer, layer + 1] < 0.02


def test_without_the_messages_of_the_upper_layers_it_is_the_block_observer():
    """A closed head whose baseline is a message that says nothing leaves exactly B_s."""
    drawn, mask, tokens = some()
    model = HookedTreeConstruction(GRAMMAR)
    ladder = block_ladder(GRAMMAR, drawn.leaves, mask)
    for s in range(4):
        edits = {Site("head", layer, 0): lambda z: torch.full_like(z, 1 / 3)
                 for layer in range(s, 3)}  # fmt: skip
        found = run_with_edits(model, as_batch(tokens), edits)[mask].exp()
        torch.testing.assert_close(found, ladder[s], atol=1e-10, rtol=0)


def test_attention_limited_to_all_is_untouched_and_to_itself_sees_nothing():
    drawn, mask, tokens = some()
    model, heights = HookedTreeConstruction(GRAMMAR), common_heights(3)
    ladder = block_ladder(GRAMMAR, drawn.leaves, mask)
    whole = run_with_allowed_attention(model, as_batch(tokens), heights <= 3)[mask].exp()
    torch.testing.assert_close(whole, ladder[3], atol=1e-10, rtol=0)
    alone = run_with_allowed_attention(model, as_batch(tokens), heights <= 0)
    other = tokens.clone()
    other[~mask] = (other[~mask] + 1) % 3
    again = run_with_allowed_attention(model, as_batch(other), heights <= 0)
    assert torch.equal(alone[mask], again[mask])


def test_limited_attention_is_a_softmax_over_the_allowed_keys():
    from mechprobe.models import build_fixed_length_encoder
    from mechprobe.models.edits import run_with_named_hooks

    model = build_fixed_length_encoder(
        3, "position", n_layers=2, n_heads=2, d_model=16, n_ctx=8, d_vocab=4, dtype=torch.float64
    )
    tokens = torch.randint(4, (5, 8), generator=torch.Generator().manual_seed(0))
    allowed = common_heights(3) <= 1
    ours = run_with_allowed_attention(model, as_batch(tokens), allowed)
    names = [f"blocks.{i}.attn.hook_attn_scores" for i in range(2)]
    theirs = run_with_named_hooks(
        model, as_batch(tokens), names, lambda _, x: x.masked_fill(~allowed, -np.inf)
    )
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(InputError, match="look nowhere"):
        run_with_allowed_attention(model, as_batch(tokens), allowed & False)
    with pytest.raises(InputError, match=r"\[8, 8\]"):
        run_with_allowed_attention(model, as_batch(tokens), allowed[:4, :4])


def test_what_it_refuses():
    with pytest.raises(InputError, match="binary"):
        HookedTreeConstruction(Grammar.random(2, 2, arity=3))
    with pytest.raises(InputError, match="filter level"):
        HookedTreeConstruction(GRAMMAR, k=4)
    with pytest.raises(InputError, match="exactly 8"):
        forward(HookedTreeConstruction(GRAMMAR), as_batch(torch.zeros(1, 4, dtype=torch.long)))
    with pytest.raises(InputError, match="symbols"):
        forward(HookedTreeConstruction(GRAMMAR), as_batch(torch.full((1, 8), 4)))


def test_it_has_one_head_and_one_update_a_layer():
    assert [str(s) for s in site_grid(HookedTreeConstruction(GRAMMAR)).sites] == [
        "0.0", "1.0", "2.0", "mlp.0", "mlp.1", "mlp.2"
    ]
