"""Rotary decoders as Hugging Face modules: there and back, with closed sites, what is refused.

Hugging Face keeps rotary angles in float32 whatever the dtype, hence the tolerances.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.export import to_hf
from mechprobe.gates.reference import gated_logits
from mechprobe.models import (
    build_decoder,
    forward,
    from_hf,
    load_llama2c,
    run_with_edits,
    site_grid,
)
from mechprobe.models.to_llama import llama_to_hf
from mechprobe.models.to_neox import neox_to_hf
from mechprobe.sites import Site
from mechprobe.tasks.prompts import token_batch

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e4, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 12,
}  # fmt: skip
CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, {}),
    "llama, biases, odd heads": (LlamaForCausalLM, {"attention_bias": True, "head_dim": 6}),
    "llama, ungrouped, tied": (
        LlamaForCausalLM, {"num_key_value_heads": 4, "tie_word_embeddings": True}
    ),
    "llama, long positions": (LlamaForCausalLM, {"rope_parameters": LLAMA3}),
    "llama, linear positions": (
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "mistral": (MistralForCausalLM, {"sliding_window": 4}),
    "neox": (GPTNeoXForCausalLM, {}),
    "neox, serial": (GPTNeoXForCausalLM, {"use_parallel_residual": False}),
    "neox, whole heads": (
        GPTNeoXForCausalLM,
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                             "partial_rotary_factor": 1.0}},
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def theirs(request, tiny_hf):
    kind, settings = CASES[request.param]
    assert kind.config_class in (LlamaConfig, MistralConfig, GPTNeoXConfig)
    return tiny_hf(kind, **settings).double()


@torch.no_grad()
def test_there_and_back_again_is_the_same(theirs, make_batch):
    tokens = make_batch(14, 14).tokens
    model = from_hf(theirs)
    again = to_hf(model)
    assert type(again) is type(theirs)
    assert not again.training
    expected = theirs(tokens).logits
    torch.testing.assert_close(again(tokens).logits, expected, atol=1e-6, rtol=0)
    assert set(again.state_dict()) >= set(theirs.state_dict()) - {"lm_head.weight"}
    assert again.config.tie_word_embeddings == theirs.config.tie_word_embeddings
    back = from_hf(again)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, back.get_parameter(name)), name


@torch.no_grad()
def test_a_closed_head_is_zeros_in_its_columns_and_nowhere_else(theirs, make_batch):
    batch = make_batch(9, 9)
    model = from_hf(theirs)
    closed = [Site("head", 0, 1), Site("head", 1, 3), Site("neuron", 1, 5)]
    module = to_hf(model, closed)
    edited = run_with_edits(model, batch, dict.fromkeys(closed, torch.zeros_like))
    torch.testing.assert_close(module(batch.tokens).logits, edited, atol=5e-6, rtol=1e-6)
    assert (edited - forward(model, batch)).abs().max() > 1e-3
    own, width = theirs.state_dict(), model.cfg.d_head
    for name, weight in module.state_dict().items():
        expected = own[name].clone() if name in own else weight
        if name.endswith(("self_attn.o_proj.weight", "attention.dense.weight")):
            head = 1 if ".0." in name else 3
            expected[:, head * width : (head + 1) * width] = 0
        if "1" in name.split(".") and name.endswith(("down_proj.weight", "4h_to_h.weight")):
            expected[:, 5] = 0
        assert torch.equal(weight, expected), name


@torch.no_grad()
def test_the_mean_goes_into_biases_where_there_are_any(tiny_hf, make_batch):
    data = [make_batch(9, 9, seed=1)]
    batch = make_batch(9, 9)
    for kind, closed, settings in (
        (GPTNeoXForCausalLM, ["0.1", "mlp.1"], {}),
        (LlamaForCausalLM, ["0.1", "1.2"], {"attention_bias": True}),
        (LlamaForCausalLM, ["0.1"], {}),
    ):
        model = from_hf(tiny_hf(kind, **settings).double())
        grid = site_grid(model)
        gates = torch.from_numpy(grid.mask(closed=closed)).double()[None]
        expected = gated_logits(model, batch, gates, grid, make_baseline("mean", model, data, grid))
        module: Any = to_hf(model, closed, baseline="mean", data=data)
        torch.testing.assert_close(module(batch.tokens).logits, expected[0], atol=1e-6, rtol=0)


def test_what_has_no_counterpart_is_refused(tiny_hf, make_batch):
    data = [make_batch(9, seed=1)]
    llama = from_hf(tiny_hf(LlamaForCausalLM))
    with pytest.raises(InputError, match=r"no bias for blocks\.1\.mlp\.b_out.*zero baseline"):
        to_hf(llama, ["mlp.1"], baseline="mean", data=data)
    mistral = from_hf(tiny_hf(MistralForCausalLM, sliding_window=4))
    with pytest.raises(InputError, match="is Mistral's, which has it in every layer and has no bi"):
        to_hf(mistral, ["0.0"], baseline="mean", data=data)
    sizes: dict[str, Any] = {"n_layers": 1, "n_heads": 2, "d_model": 8, "n_ctx": 9, "d_vocab": 7}
    plain = build_decoder(**sizes)
    with pytest.raises(InputError, match=r"normalization_type='LN\w*' is not Llama-shaped"):
        llama_to_hf(plain)
    with pytest.raises(InputError, match="positional_embedding_type='standard' is not NeoX-shaped"):
        neox_to_hf(plain)
    wide = build_decoder(**sizes, positional_embedding_type="rotary", d_head=6, rotary_dim=6)
    with pytest.raises(InputError, match="NeoX has d_model = n_heads x d_head; this decoder has"):
        to_hf(wide)


@torch.no_grad()
def test_a_real_llama2c_checkpoint_is_the_same_in_hugging_face(data_dir):
    model = load_llama2c(data_dir / "models" / "stories260K.bin.xz")
    module: Any = to_hf(model, ["1.2"])
    assert isinstance(module, LlamaForCausalLM)
    text = "Once upon a time, there was a cat named Tom."
    tokens = torch.tensor([model.tokenizer(text).input_ids])
    closed = {Site("head", 1, 2): torch.zeros_like}
    expected = run_with_edits(model, token_batch(tokens.tolist()), closed)
    torch.testing.assert_close(module(tokens).logits, expected, atol=2e-4, rtol=1e-4)
    plain: Any = to_hf(model)
    torch.testing.assert_close(plain(tokens).logits, model(tokens), atol=2e-4, rtol=1e-4)
