"""Streams against Hugging Face's hidden states and plain sums, in every kind of model."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, build_encoder, forward
from mechprobe.models.streams import PARTS, Stream, run_with_streams, stream_hook, streams


def test_the_residual_stream_is_hugging_faces_hidden_states(reference, make_batch):
    batch = make_batch(7, 4)
    model = reference.ours
    points = streams(model, ["resid"])
    assert [str(p) for p in points] == [f"resid.{i}" for i in range(model.cfg.n_layers + 1)]
    out, found = run_with_streams(model, batch, points)
    torch.testing.assert_close(out, forward(model, batch))
    theirs = reference.hidden_states(batch)
    real = batch.attention_mask.bool()
    pairs = list(zip(found.values(), theirs, strict=True))
    final_norm = "ln_final.hook_scale" in model.hook_dict  # theirs ends with it
    for ours, expected in pairs[:-1] if final_norm else pairs:
        torch.testing.assert_close(ours[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", [build_decoder, build_encoder])
def test_submodules_add_up(build, sizes, make_batch):
    model = build(**sizes, seed=3, init_std=0.3)
    batch = make_batch(6, 6)
    _, found = run_with_streams(model, batch, streams(model, PARTS))
    encoder = build is build_encoder
    for layer in range(2):
        block = model.blocks[layer]
        at = {part: found[Stream(part, layer)] for part in PARTS}
        mid, out = at["resid"] + at["attn_out"], found[Stream("resid", layer + 1)]
        mid = block.ln1(mid) if encoder else mid
        torch.testing.assert_close(at["mid"], mid)
        total = at["mid"] + at["mlp_out"]
        torch.testing.assert_close(out, block.ln2(total) if encoder else total)
        w_o = block.attn.W_O.flatten(0, 1)
        torch.testing.assert_close(at["attn_out"], at["z"] @ w_o + block.attn.b_O)
        torch.testing.assert_close(at["mlp_post"], block.mlp.act_fn(at["mlp_pre"]))
        torch.testing.assert_close(
            at["mlp_out"], at["mlp_post"] @ block.mlp.W_out + block.mlp.b_out
        )


def test_a_loss_on_a_stream_reaches_only_the_weights_before_it(sizes, make_batch):
    model = build_encoder(**sizes, seed=0)
    _, found = run_with_streams(model, make_batch(5), ["resid.1"])
    found[Stream("resid", 1)].square().sum().backward()
    assert model.blocks[0].attn.W_V.grad is not None
    assert model.blocks[1].attn.W_V.grad is None


def test_names_are_read_and_refused(sizes):
    model = build_encoder(**sizes)
    assert Stream.parse(" attn_out.1 ") == Stream("attn_out", 1)
    assert stream_hook(model, "resid.2") == "blocks.1.hook_normalized_resid_post"
    for wrong in ("resid", "resid.x", "head.1", "5.1"):
        with pytest.raises(InputError, match="is not a stream; write one of resid, mid"):
            Stream.parse(wrong)
    for absent in ("resid.3", "mlp_out.2"):
        with pytest.raises(InputError, match=f"no stream '{absent}' in this model of 2 blocks"):
            stream_hook(model, absent)
    with pytest.raises(InputError, match="'mlp' is no part of a model"):
        streams(model, ["mlp"])
    bare = build_decoder(**sizes, attn_only=True)
    with pytest.raises(InputError, match=r"no stream 'mlp_out\.1'"):
        streams(bare)
