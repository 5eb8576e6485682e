"""Encoder-decoders built fresh, kept and opened again, and what they refuse to read."""

from __future__ import annotations

import json
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch
from torch.nn import functional as F
from transformer_lens import HookedEncoderDecoder
from transformers import T5Config, T5ForConditionalGeneration

from mechprobe.errors import InputError
from mechprobe.models import (
    build_decoder,
    build_encoder_decoder,
    forward,
    load_model,
    save_model,
    to_hf,
)
from mechprobe.tasks import seq2seq_batch

SIZES = {"n_layers": 2, "n_heads": 2, "d_model": 32, "d_vocab": 15}
BATCH = seq2seq_batch([[5, 6, 7, 8, 9], [8, 2]], [[9, 1], [4, 3, 2, 1]])


def stds(model: HookedEncoderDecoder) -> dict[str, float]:
    return {name: float(p.detach().std()) for name, p in model.named_parameters()}


def test_a_fresh_model_has_t5s_scales():
    model = build_encoder_decoder(
        n_layers=1, n_heads=4, d_model=128, d_head=16, d_mlp=200, d_vocab=300, gated_mlp=True
    )
    found = stds(model)
    expected = {
        "embed.W_E": 1.0,
        "unembed.W_U": 128**-0.5,
        "encoder.0.attn.W_Q": (128 * 16) ** -0.5,
        "decoder.0.cross_attn.W_K": 128**-0.5,
        "decoder.0.attn.W_V": 128**-0.5,
        "decoder.0.attn.W_O": (4 * 16) ** -0.5,
        "encoder.0.attn.rel_pos_bias.weight": 128**-0.5,
        "encoder.0.mlp.W_in": 128**-0.5,
        "decoder.0.mlp.W_gate": 128**-0.5,
        "decoder.0.mlp.W_out": 200**-0.5,
    }
    for name, std in expected.items():
        assert found[name] == pytest.approx(std, rel=0.2), name
    assert all((p == 1).all() for n, p in model.named_parameters() if n.endswith(".w"))
    assert model.cfg.act_fn == "gelu_new"
    # Hugging Face draws from the same scales; its untied unembedding is the one it does not scale
    torch.manual_seed(0)
    theirs = dict(T5ForConditionalGeneration(T5Config(
        vocab_size=300, d_model=128, d_kv=16, d_ff=200, num_layers=1, num_heads=4,
        feed_forward_proj="gated-gelu",
    )).named_parameters())  # fmt: skip
    block = "encoder.block.0.layer"
    for ours, name in (
        ("embed.W_E", "shared.weight"),
        ("encoder.0.attn.W_Q", f"{block}.0.SelfAttention.q.weight"),
        ("encoder.0.attn.W_K", f"{block}.0.SelfAttention.k.weight"),
        ("encoder.0.attn.W_O", f"{block}.0.SelfAttention.o.weight"),
        ("encoder.0.mlp.W_in", f"{block}.1.DenseReluDense.wi_1.weight"),
        ("encoder.0.mlp.W_out", f"{block}.1.DenseReluDense.wo.weight"),
    ):
        assert found[ours] == pytest.approx(float(theirs[name].detach().std()), rel=0.1), ours


def test_position_biases_can_start_wider_and_nothing_else_changes():
    plain, wide = (build_encoder_decoder(**SIZES, position_std=std) for std in (None, 1.5))
    for (name, mine), other in zip(plain.named_parameters(), wide.parameters(), strict=True):
        scale = 1.5 * 32**0.5 if name.endswith("rel_pos_bias.weight") else 1.0
        assert torch.allclose(other, mine * scale), name
    with pytest.raises(InputError, match=r"position_std is 0\.0; give more"):
        build_encoder_decoder(**SIZES, position_std=0.0)


def test_the_seed_decides_every_weight_and_nothing_else_is_drawn():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    one, same, other = (build_encoder_decoder(**SIZES, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    for (name, a), b, c in zip(
        one.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        assert torch.equal(a, c) == (not a.any() or bool((a == 1).all())), name


def test_tied_and_untied_logits_start_at_one_size():
    sizes = {**SIZES, "d_model": 64, "d_vocab": 200}
    tied = build_encoder_decoder(**sizes, tie_word_embeddings=True)
    assert torch.equal(tied.unembed.W_U, tied.embed.W_E.T)
    untied = build_encoder_decoder(**sizes)
    for model in (tied, untied):
        logits = forward(model, BATCH)
        assert 0.5 < logits.std() < 2.5


@pytest.mark.parametrize("gated", [False, True])
def test_a_fresh_model_learns(gated):
    """Echoing a source of three tokens, which needs cross-attention and positions."""
    model = build_encoder_decoder(**SIZES, gated_mlp=gated, seed=0)
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(2, 15, (64, 3), generator=generator).tolist()
    batch = seq2seq_batch(sources, [[*row, 1] for row in sources])
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        logits = forward(model, batch)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), batch.decoder_tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 2.0
    assert losses[-1] < 0.5
    to_hf(model)  # the biases that T5 lacks stayed zero


@pytest.mark.parametrize("settings", [
    {}, {"gated_mlp": True, "tie_word_embeddings": True, "relative_attention_num_buckets": 8},
    {"d_head": 5, "dtype": torch.float64},
])
def test_a_saved_model_comes_back(settings, tmp_path, tokenizer):
    model = build_encoder_decoder(**SIZES, **settings, tokenizer=tokenizer, seed=3)
    again = load_model(save_model(model, tmp_path / "model"))
    assert isinstance(again, HookedEncoderDecoder)
    logits = forward(again, BATCH)
    assert logits.dtype == settings.get("dtype", torch.float32)
    assert torch.equal(logits, forward(model, BATCH))
    assert again.cfg.decoder_start_token_id == tokenizer.pad_token_id
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, p in again.named_parameters() if not p.requires_grad}


def test_every_door_opens_an_encoder_decoder(tmp_path, monkeypatch, tokenizer):
    model = build_encoder_decoder(**SIZES, gated_mlp=True, tokenizer=tokenizer, seed=1)
    assert load_model(model) is model
    settings = {"kind": "encoder_decoder", **SIZES, "gated_mlp": True}
    fresh = load_model(settings, seed=1, tokenizer=tokenizer)
    own = forward(model, BATCH)
    assert torch.equal(forward(fresh, BATCH), own)
    module = to_hf(model)
    module.save_pretrained(tmp_path / "folder")
    assert "n_positions" not in json.loads((tmp_path / "folder" / "config.json").read_text())
    torch.testing.assert_close(forward(load_model(tmp_path / "folder"), BATCH), own)
    # names as the hub's cache would hold them: one that TransformerLens knows, one it does not
    for name in ("google-t5/t5-small", "google/flan-t5-tiny"):
        repo = tmp_path / f"models--{name.replace('/', '--')}"
        module.save_pretrained(repo / "snapshots" / "abc")
        tokenizer.save_pretrained(repo / "snapshots" / "abc")
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("t5-small", "google/flan-t5-tiny"):
        found = load_model(name)
        assert isinstance(found, HookedEncoderDecoder)
        torch.testing.assert_close(forward(found, BATCH), own)
        assert found.tokenizer("a")["input_ids"] == [2, 5, 3]


def test_precision_and_device_are_followed():
    model = build_encoder_decoder(**SIZES, seed=1)
    own = forward(model, BATCH)
    exact = forward(load_model(model, dtype=torch.float64), BATCH)
    assert exact.dtype == torch.float64
    assert model.cfg.dtype == torch.float64
    torch.testing.assert_close(exact.float(), own, atol=1e-5, rtol=0)
    model.float()  # behind TransformerLens' back
    torch.testing.assert_close(forward(model, BATCH), own)


def test_hooks_that_are_off_by_default_leave_the_numbers_alone():
    model = build_encoder_decoder(**SIZES, seed=1)
    own = forward(model, BATCH)
    for flag in ("use_attn_result", "use_hook_mlp_in"):
        assert getattr(load_model(model, **{flag: True}).cfg, flag)
        torch.testing.assert_close(forward(model, BATCH), own)
    with pytest.raises(InputError, match="use_split_qkv_input is not for encoder-decoders"):
        load_model(model, use_split_qkv_input=True)
    torch.testing.assert_close(forward(model, BATCH), own)


def test_what_a_t5_block_does_not_have_is_refused():
    for name, value in (
        ("normalization_type", "LN"), ("positional_embedding_type", "rotary"),
        ("attn_only", True), ("n_key_value_heads", 1), ("attention_dir", "causal"),
        ("use_split_qkv_input", True),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}=.* cannot be had in an encoder-decoder"):
            build_encoder_decoder(**SIZES, **{name: value})
    with pytest.raises(InputError, match="missing: n_layers"):
        build_encoder_decoder(n_heads=2, d_model=8, d_vocab=9)
    with pytest.raises(InputError, match="no model setting 'layers'"):
        build_encoder_decoder(**SIZES, layers=2)
    with pytest.raises(InputError, match="T5 has no activation 'gelu_pytorch_tanh'"):
        to_hf(build_encoder_decoder(**SIZES, act_fn="gelu_pytorch_tanh"))


def test_batches_that_cannot_be_read_are_refused(make_batch):
    model = build_encoder_decoder(**SIZES)
    with pytest.raises(InputError, match=r"a Batch has only one side; give a Seq2SeqBatch"):
        forward(model, make_batch(5, 3))
    left = replace(BATCH, decoder_mask=BATCH.decoder_mask.flip(1))
    with pytest.raises(InputError, match="padding before real tokens; pad it on the right"):
        forward(model, left)
    # a decoder reads the source side alone
    decoder = build_decoder(**SIZES, n_ctx=8)
    assert forward(decoder, BATCH).shape == (2, 5, 15)
