"""Head masks, and Hugging Face modules with closed sites, against gated_logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.export import head_mask, to_hf
from mechprobe.gates.reference import gated_logits
from mechprobe.models import build_decoder, build_encoder_decoder, site_grid
from mechprobe.tasks.batches import Seq2SeqBatch

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSED = ["1.0", "mlp.0", "0.1"]


@pytest.fixture(scope="module")
def decoder():
    model = build_decoder(n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "unembed.b_U":
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.4 * draw + name.endswith(".w"))
    return model


def hf_logits(module, batch):
    inputs = {"input_ids": batch.tokens, "attention_mask": batch.attention_mask}
    if module.config.model_type == "bert":
        inputs["token_type_ids"] = batch.segments
    return module(**inputs).logits


@pytest.mark.parametrize("kind", ["zero", "mean"])
@pytest.mark.parametrize("shape", ["bert", "gpt2"])
@torch.no_grad()
def test_a_module_with_closed_sites_has_the_gated_models_logits(
    kind, shape, decoder, tiny_classifier, random_batch
):
    model = decoder if shape == "gpt2" else tiny_classifier()
    batch, data = random_batch(7, 7, 7), [random_batch(7, 4, 6, seed=1)]
    plain = hf_logits(to_hf(model), batch)
    module = to_hf(model, CLOSED, baseline=kind, data=None if kind == "zero" else data)
    assert module.config.model_type == shape
    grid = site_grid(model)
    gates = torch.from_numpy(grid.mask(closed=CLOSED)).float()[None]
    baseline = make_baseline(kind, model, data, grid)
    expected = gated_logits(model, batch, gates, grid, baseline)[0]
    logits = hf_logits(module, batch)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert (logits - plain).abs().max() > 1e-2
    given = to_hf(model, CLOSED, baseline=baseline)
    torch.testing.assert_close(hf_logits(given, batch), logits, rtol=0, atol=1e-6)


@torch.no_grad()
def test_padding_changes_nothing(tiny_classifier, random_batch):
    model, batch = tiny_classifier(), random_batch(7, 4, 6)
    module = to_hf(model, ["0.0", "mlp.1.2"])
    grid = replace(site_grid(model), neurons=True)
    gates = torch.from_numpy(grid.mask(closed=["0.0", "mlp.1.2"])).float()[None]
    baseline = make_baseline("zero", model, [batch], grid)
    expected = gated_logits(model, batch, gates, grid, baseline)[0]
    torch.testing.assert_close(hf_logits(module, batch), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_closing_a_head_is_zeros_in_its_columns_of_the_output_projection(
    decoder, tiny_classifier
):
    bert: Any = to_hf(tiny_classifier(), ["1.0"])
    weight = bert.bert.encoder.layer[1].attention.output.dense.weight
    assert (weight[:, :4] == 0).all()
    assert (weight[:, 4:] != 0).all()
    gpt2: Any = to_hf(decoder, ["0.*"])
    assert (gpt2.transformer.h[0].attn.c_proj.weight == 0).all()
    assert (gpt2.transformer.h[1].attn.c_proj.weight != 0).all()


def test_other_baselines_are_refused(decoder, random_batch):
    data = [random_batch(7, 4)]
    for kind in ("mean_position", "resample", "paired"):
        with pytest.raises(InputError, match=f"baseline '{kind}' cannot be written into weights"):
            to_hf(decoder, ["1.0"], baseline=kind, data=data)
    with pytest.raises(InputError, match="baseline 'mean' is taken over data; give data"):
        to_hf(decoder, ["1.0"], baseline="mean")
    with pytest.raises(InputError, match=r"no site '1\.4' here"):
        to_hf(decoder, ["1.4"])
    with pytest.raises(InputError, match="sites are given in a list"):
        to_hf(decoder, "1.0")


def test_a_head_set_is_a_plain_array(decoder):
    mask = head_mask(decoder, ["0.1", "1.*"])
    np.testing.assert_array_equal(mask, [[False, True], [True, True]])
    np.testing.assert_array_equal(head_mask(decoder, closed=["0.1", "1.*"]), ~mask)
    assert not head_mask(decoder, []).any()
    assert head_mask(decoder, closed=[]).all()
    assert mask.dtype == bool
    for settings, message in (
        ({}, r"give the heads of the set, or closed="),
        ({"sites": ["0.0"], "closed": ["0.1"]}, r"give the heads of the set, or closed="),
        ({"sites": ["mlp.0"]}, r"mlp\.0 is no head; a head mask has one entry a head"),
        ({"sites": ["2.0"]}, r"no site '2\.0' here"),
    ):
        with pytest.raises(InputError, match=message):
            head_mask(decoder, **settings)


@torch.no_grad()
def test_an_encoder_decoder_takes_the_zero_baseline(random_batch):
    model = build_encoder_decoder(n_layers=2, n_heads=2, d_model=8, d_mlp=6, d_vocab=20)
    source, target = random_batch(6, 6), random_batch(4, 4, seed=1)
    batch = Seq2SeqBatch(
        source.tokens, source.segments, source.attention_mask, source.labels, source.index,
        target.tokens, target.attention_mask,
    )
    closed = ["enc 0.1", "cross 1.0", "dec mlp.0"]
    grid = site_grid(model)
    gates = torch.from_numpy(grid.mask(closed=closed)).float()[None]
    baseline = make_baseline("zero", model, [batch], grid)
    expected = gated_logits(model, batch, gates, grid, baseline)[0]
    module = to_hf(model, closed)
    logits = module(input_ids=batch.tokens, decoder_input_ids=batch.decoder_tokens).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    mask = head_mask(model, ["enc 0.1", "cross 1.0"])
    assert mask.shape == (6, 2)
    assert [tuple(at) for at in np.argwhere(mask)] == [(0, 1), (5, 0)]
    with pytest.raises(InputError, match="T5 has no biases"):
        to_hf(model, closed, baseline="mean", data=[batch])
