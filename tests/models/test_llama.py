"""Llama and Mistral: what their configs can say keeps its numbers, or is refused."""

from __future__ import annotations

import pytest
import torch
from transformer_lens import HookedTransformer
from transformers import LlamaForCausalLM, MistralForCausalLM

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, forward, from_hf, load_model, save_model

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip


def assert_equal(module: LlamaForCausalLM | MistralForCausalLM, batch) -> HookedTransformer:
    ours = from_hf(module)
    assert isinstance(ours, HookedTransformer)
    theirs = module(batch.tokens, attention_mask=batch.attention_mask).logits
    real = batch.attention_mask.bool()
    torch.testing.assert_close(forward(ours, batch)[real], theirs[real], atol=2e-5, rtol=1e-5)
    return ours


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 321.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": LLAMA3},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": True},
        {"hidden_act": "gelu"},
    ],
)
def test_llama_variants_keep_their_numbers(settings, tiny_hf, make_batch):
    ours = assert_equal(tiny_hf(LlamaForCausalLM, **settings), make_batch(20, 7, 13))
    assert ours.cfg.n_key_value_heads == {4: None, 1: 1}.get(
        settings.get("num_key_value_heads", 2), 2
    )


def test_keys_and_values_are_kept_in_groups(tiny_hf):
    module = tiny_hf(LlamaForCausalLM)
    ours = from_hf(module)
    theirs = module.model.layers[1].self_attn.k_proj.weight
    kept = dict(ours.named_parameters())["blocks.1.attn._W_K"]
    assert torch.equal(kept, theirs.view(2, 8, 32).transpose(1, 2))
    assert ours.blocks[1].attn.W_K.shape == (4, 32, 8)


@pytest.mark.parametrize("window", [None, 3, 24, 4096])
def test_mistral_windows_keep_their_numbers(window, tiny_hf, make_batch):
    module = tiny_hf(MistralForCausalLM, sliding_window=window)
    ours = assert_equal(module, make_batch(20, 7))
    assert ours.cfg.use_local_attn == (window == 3)
    assert ours.cfg.original_architecture == "MistralForCausalLM"


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
        "original_max_position_embeddings": 12}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (LlamaForCausalLM, {"mlp_bias": True}, "biases in its MLP"),
        (LlamaForCausalLM, {"rope_parameters": YARN}, "kind 'yarn' are not supported"),
        (LlamaForCausalLM, {"hidden_act": "mish"}, "activation 'mish'"),
        (MistralForCausalLM, {"rope_parameters": LINEAR, "sliding_window": 3},
         "kind 'linear' with a window are not supported"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(kind, settings, message, tiny_hf):
    with pytest.raises(InputError, match=message):
        from_hf(tiny_hf(kind, **settings))


def test_a_folder_that_lacks_a_layer_is_refused(tiny_hf, tmp_path):
    module = tiny_hf(LlamaForCausalLM)
    module.model.layers = module.model.layers[:1]
    module.save_pretrained(tmp_path)  # its config still says two layers
    with pytest.raises(InputError, match=r"lacks trained weights \(model\.layers\.1"):
        load_model(tmp_path)


def test_angles_are_as_exact_as_the_weights(tiny_hf, make_batch, tmp_path):
    """A folder in half precision is read in full: its angles too, not rounded and then widened."""
    module = tiny_hf(LlamaForCausalLM).bfloat16()
    module.save_pretrained(tmp_path / "hf")
    batch = make_batch(20, 7)
    real = batch.attention_mask.bool()
    full = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    for dtype in (None, torch.float64):
        ours = load_model(tmp_path / "hf", dtype=dtype)
        theirs = full(batch.tokens, attention_mask=batch.attention_mask).logits
        torch.testing.assert_close(
            forward(ours, batch)[real].float(), theirs[real], atol=2e-5, rtol=1e-5
        )
        again = load_model(save_model(ours, tmp_path / f"ours-{dtype}"))
        assert torch.equal(forward(again, batch), forward(ours, batch))


def test_a_fresh_grouped_decoder_has_keys_and_values(sizes):
    model = build_decoder(**sizes, positional_embedding_type="rotary", n_key_value_heads=2)
    for name, weight in model.named_parameters():
        if name.endswith(("W_K", "W_V")):
            assert weight.std().item() == pytest.approx(0.8 / 32**0.5, rel=0.1), name
