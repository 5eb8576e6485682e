"""A mimetic start makes heads look at equal tokens before any training."""

from __future__ import annotations

import pytest
import torch

from mechprobe.models import attention_patterns, build_classifier
from mechprobe.models.mimetic import attend_to_equal_tokens
from mechprobe.tasks.batches import Batch


@pytest.fixture
def model():
    return build_classifier(
        ("yes", "no"), n_layers=2, n_heads=2, d_model=64, n_ctx=16, d_vocab=60, seed=0
    )


def test_keys_are_scaled_queries_and_positions_shrink(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert attend_to_equal_tokens(model, strength=2.5, position_scale=0.25) is model
    changed = set()
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            changed.add(name)
    assert changed == {"blocks.0.attn.W_K", "blocks.1.attn.W_K", "embed.pos_embed.W_pos"}
    for block in model.blocks:
        torch.testing.assert_close(block.attn.W_K, 2.5 * block.attn.W_Q)
    torch.testing.assert_close(
        model.embed.pos_embed.W_pos, 0.25 * before["embed.pos_embed.W_pos"]
    )


def test_every_head_prefers_the_equal_token_of_the_other_sentence(model):
    """A sentence and the same words in another order, all different: who looks at whom?"""
    n = 7
    generator = torch.Generator().manual_seed(1)
    words = torch.stack([torch.randperm(50, generator=generator)[:n] + 5 for _ in range(40)])
    order = torch.randperm(n, generator=generator)
    tokens = torch.cat([words, words[:, order]], 1)
    segments = torch.cat([torch.zeros(40, n), torch.ones(40, n)], 1).long()
    ones = torch.ones_like(tokens)
    batch = Batch(
        tokens=tokens, segments=segments, attention_mask=ones, labels=ones[:, 0],
        index=torch.arange(40),
    )  # fmt: skip
    same = (tokens[:, :, None] == tokens[:, None, :]) & (segments[:, :, None] != segments[:, None])
    other = segments[:, :, None] != segments[:, None]

    def preference():
        """Mean attention to the equal word over that to the other words of that sentence."""
        ratios = []
        for pattern in attention_patterns(model, batch).values():
            for head in range(2):
                mine = pattern[:, head]
                ratios.append(float(mine[same].mean() / mine[other & ~same].mean()))
        return ratios

    before = preference()
    attend_to_equal_tokens(model, 1.5)
    after = preference()
    assert max(before) < 1.5
    assert min(after) > 2
