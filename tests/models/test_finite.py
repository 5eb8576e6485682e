"""Models and inputs that are numerically broken are refused, and what is broken is named."""

from __future__ import annotations

import pytest
import torch

import mechprobe as mp
from mechprobe.errors import InputError
from mechprobe.models import forward
from mechprobe.models.finite import finite_forward
from mechprobe.tasks.batches import Batch


def decoder():
    return mp.load_model({
        "kind": "decoder", "n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 8,
        "n_ctx": 6, "d_vocab": 10,
    })


def prompts() -> mp.PromptTask:
    tokens = torch.arange(24).view(8, 3) % 10
    return mp.PromptTask(
        clean=tokens, corrupt=(tokens + 1) % 10, answers=torch.arange(8) % 10,
        metric="log_probability",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_folder_with_a_broken_weight_is_refused_by_the_weights_name(value, tmp_path):
    model = decoder()
    with torch.no_grad():
        model.blocks[1].mlp.W_in[2, 3] = value
    mp.save_model(model, tmp_path)
    for source in (tmp_path, model):
        with pytest.raises(InputError, match=r"weight blocks\.1\.mlp\.W_in holds 1 values that"):
            mp.load_model(source)


def test_a_whole_model_has_no_bad_value_though_masked_scores_are_infinite():
    tokens = torch.arange(24).view(8, 3) % 10
    one = torch.ones_like(tokens)
    batch = Batch(tokens, 0 * one, one, 0 * tokens[:, 0], torch.arange(len(tokens)))
    model = decoder()
    assert torch.equal(finite_forward(model, batch), forward(model, batch))


def test_a_softmax_that_dies_is_named_before_any_work():
    model = decoder()
    with torch.no_grad():
        model.blocks[1].attn.W_Q.mul_(1e25)
        model.blocks[1].attn.W_K.mul_(1e25)
    with pytest.raises(InputError, match=r"infinite, first at blocks\.1\.attn\.hook_attn_scores;"):
        mp.ablate(model, prompts(), baseline="zero")


def test_a_row_of_padding_alone_is_refused():
    tokens = torch.ones(2, 3, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    with pytest.raises(InputError, match="row 1 of a batch is padding alone"):
        Batch(tokens, 0 * tokens, mask, tokens[:, 0], torch.arange(2))
