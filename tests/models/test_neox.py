"""GPT-NeoX: parallel or serial blocks and partly turned heads keep their numbers."""

from __future__ import annotations

import pytest
import torch
from transformers import GPTNeoXForCausalLM

from mechprobe.errors import InputError
from mechprobe.models import forward, from_hf


def rope(share: float, **more: object) -> dict[str, object]:
    settings = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": share}
    return {"rope_parameters": settings | more}


@pytest.mark.parametrize(
    "settings",
    [
        rope(0.25),
        rope(0.6),  # 4.8 of 8 dimensions; Hugging Face turns 4
        rope(1.0, rope_theta=77.0),
        rope(0.5, rope_type="linear", factor=2.0),
        {"use_parallel_residual": False},
        {"attention_bias": False, "hidden_act": "gelu_new"},
        {"tie_word_embeddings": True},
    ],
)
def test_variants_keep_their_numbers(settings, tiny_hf, make_batch):
    module = tiny_hf(GPTNeoXForCausalLM, **settings)
    batch = make_batch(20, 7, 13)
    theirs = module(batch.tokens, attention_mask=batch.attention_mask).logits
    real = batch.attention_mask.bool()
    ours = forward(from_hf(module), batch)
    torch.testing.assert_close(ours[real], theirs[real], atol=2e-5, rtol=1e-5)


def test_the_order_of_blocks_is_seen(tiny_hf, make_batch):
    """Parallel and serial blocks with equal weights differ, so the tests above tell them apart."""
    outputs = []
    for parallel in (True, False):
        module = tiny_hf(GPTNeoXForCausalLM, use_parallel_residual=parallel)
        outputs.append(forward(from_hf(module), make_batch(9)))
    assert (outputs[0] - outputs[1]).abs().max() > 0.1


def test_half_a_pair_cannot_be_turned(tiny_hf):
    module = tiny_hf(GPTNeoXForCausalLM, **rope(0.4))
    with pytest.raises(InputError, match="on 3 of the 8 dimensions of a head are not supported"):
        from_hf(module)
