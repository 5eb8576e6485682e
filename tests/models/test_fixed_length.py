"""A fixed-length encoder: equal to PyTorch's, edited and read at every site, kept and opened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mechprobe.errors import InputError
from mechprobe.gates.baselines import zero_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.models import (
    attention_patterns,
    build_fixed_length_encoder,
    forward,
    load_model,
    run_with_cache,
    run_with_edits,
    save_model,
    site_grid,
)
from mechprobe.models.places import Place, read_places
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch

SIZES = {"n_layers": 2, "n_heads": 4, "d_model": 32, "d_mlp": 48, "n_ctx": 8, "d_vocab": 5}
BOTH = [(readout, norm) for readout in ("flat", "position") for norm in ("pre", "post")]


def build(readout="flat", norm="pre", **settings):
    """An encoder whose every weight and bias shows."""
    model = build_fixed_length_encoder(4, readout, norm=norm, **(SIZES | settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * draw + (name.endswith(".w")))
    return model.eval()


def some(n: int = 3, seed: int = 0) -> Batch:
    tokens = torch.randint(0, 5, (n, 8), generator=torch.Generator().manual_seed(seed))
    return Batch(tokens, 0 * tokens, 0 * tokens + 1, tokens[:, 0], torch.arange(n))


def by_torch(model, tokens: torch.Tensor) -> torch.Tensor:
    """The same weights in PyTorch's TransformerEncoderLayer."""
    cfg = model.cfg
    x = model.embed.W_E[tokens] + model.pos_embed.W_pos
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            cfg.d_model, cfg.n_heads, cfg.d_mlp, dropout=0.0, batch_first=True,
            norm_first=model.norm == "pre", layer_norm_eps=cfg.eps,
        ).eval()
        attn, mlp = block.attn, block.mlp
        weights = [w.transpose(1, 2).flatten(0, 1) for w in (attn.W_Q, attn.W_K, attn.W_V)]
        biases = [b.flatten() for b in (attn.b_Q, attn.b_K, attn.b_V)]
        with torch.no_grad():
            layer.self_attn.in_proj_weight.copy_(torch.cat(weights))
            layer.self_attn.in_proj_bias.copy_(torch.cat(biases))
            layer.self_attn.out_proj.weight.copy_(attn.W_O.flatten(0, 1).T)
            layer.self_attn.out_proj.bias.copy_(attn.b_O)
            layer.linear1.weight.copy_(mlp.W_in.T)
            layer.linear1.bias.copy_(mlp.b_in)
            layer.linear2.weight.copy_(mlp.W_out.T)
            layer.linear2.bias.copy_(mlp.b_out)
            for ours, theirs in ((block.ln1, layer.norm1), (block.ln2, layer.norm2)):
                theirs.weight.copy_(ours.w)
                theirs.bias.copy_(ours.b)
        x = layer(x)
    if model.norm == "pre":
        x = nn.functional.layer_norm(x, (cfg.d_model,), model.ln_final.w, model.ln_final.b, cfg.eps)
    return model.classifier(x.flatten(1) if model.readout == "flat" else x)


@pytest.mark.parametrize(("readout", "norm"), BOTH)
def test_it_computes_what_pytorchs_encoder_does(readout, norm):
    model = build(readout, norm)
    batch = some()
    expected = by_torch(model, batch.tokens)
    torch.testing.assert_close(forward(model, batch), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(model(batch.tokens), forward(model, batch))


@pytest.mark.parametrize(("readout", "norm"), BOTH)
def test_an_edit_at_every_site_shows_and_closing_a_head_is_zeroing_its_weights(readout, norm):
    model, batch = build(readout, norm), some()
    plain = forward(model, batch)
    for site in site_grid(model).sites:
        edited = run_with_edits(model, batch, {site: torch.zeros_like})
        assert (edited - plain).abs().max() > 1e-3, site
    closed = run_with_edits(model, batch, {Site("head", 1, 2): torch.zeros_like})
    with torch.no_grad():
        model.blocks[1].attn.W_O[2].zero_()
    torch.testing.assert_close(forward(model, batch), closed)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_values_patterns_and_streams_are_read(norm):
    model, batch = build("position", norm), some()
    _, values = run_with_cache(model, batch, [Site("head", 0), Site("mlp", 1)])
    assert values[Site("head", 0)].shape == (3, 8, 4, 8)
    patterns = attention_patterns(model, batch)
    assert patterns[1].shape == (3, 4, 8, 8)
    torch.testing.assert_close(patterns[0].sum(-1), torch.ones(3, 4, 8))
    assert (patterns[0].triu(1) > 0).any()  # looks ahead, too
    logits, found = read_places(model, batch, [Place("resid", 1)])
    (stream,) = found.values()
    if norm == "pre":
        stream = model.ln_final(stream)
    torch.testing.assert_close(model.classifier(stream), logits)


def test_gates_open_are_the_model_and_closed_ones_change_it():
    model, batch = build(), some()
    grid = site_grid(model)
    gates = torch.stack([torch.ones(len(grid)), torch.zeros(len(grid))])
    with torch.no_grad():
        opened, closed = gated_logits(model, batch, gates, grid, zero_baseline())
    torch.testing.assert_close(opened, forward(model, batch))
    assert (closed - opened).abs().max() > 1e-2


@pytest.mark.parametrize(("readout", "norm"), BOTH)
def test_saved_and_loaded_it_is_the_same(tmp_path, readout, norm):
    model, batch = build(readout, norm), some()
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert (loaded.readout, loaded.norm) == (readout, norm)  # pyright: ignore
    torch.testing.assert_close(forward(loaded, batch), forward(model, batch), rtol=0, atol=0)


def test_split_inputs_change_nothing():
    model, batch = build(), some()
    plain = forward(model, batch)
    model.cfg.use_split_qkv_input = True
    torch.testing.assert_close(forward(model, batch), plain)


def test_weights_depend_on_the_seed_and_on_nothing_else():
    def logits(seed: int) -> torch.Tensor:
        return forward(build_fixed_length_encoder(4, "flat", **SIZES, seed=seed), some())

    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    torch.testing.assert_close(logits(1), logits(1))
    assert not torch.allclose(logits(1), logits(2))
    torch.testing.assert_close(torch.rand(2), expected)


def test_sinusoidal_positions_are_fixed():
    model = build_fixed_length_encoder(4, "flat", **SIZES, positions="sinusoidal")
    wave = model.pos_embed.W_pos
    assert not wave.requires_grad
    expected = torch.tensor(3 / 10_000 ** (4 / 32)).sin()
    torch.testing.assert_close(wave[3, 4], expected)


def test_other_lengths_and_settings_are_refused():
    with pytest.raises(InputError, match="exactly 8"):
        build()(torch.zeros(1, 7, dtype=torch.long))
    with pytest.raises(InputError, match="readout"):
        build_fixed_length_encoder(4, "flat", **SIZES, norm="none")
    with pytest.raises(InputError, match="positions"):
        build_fixed_length_encoder(4, "flat", **SIZES, positions="none")
    with pytest.raises(InputError, match="1 outputs"):
        build_fixed_length_encoder(1, "flat", **SIZES)
