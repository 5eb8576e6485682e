"""Ablation and patching of an encoder-decoder: enc, dec and cross sites against hooks by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.locate.ablate import ablate
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.patch import patch
from mechprobe.models import build_encoder_decoder, forward
from mechprobe.tasks import Behaviour
from mechprobe.tasks.answers import UNSCORED, find_metric
from mechprobe.tasks.batches import Seq2SeqBatch

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
HOOKS = {"enc": "encoder.{}.attn.hook_z", "dec": "decoder.{}.attn.hook_z",
         "cross": "decoder.{}.cross_attn.hook_z"}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return build_encoder_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, d_vocab=15, dtype=torch.float64
    )


@pytest.fixture(scope="module")
def behaviour(model):
    """Eight ragged pairs, scored at the last token of each target."""
    rng = np.random.default_rng(0)
    sources, targets = rng.integers(3, 7, 8), rng.integers(2, 5, 8)

    def batch():
        def side(lengths, width):
            mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
            return torch.from_numpy(rng.integers(1, 15, (8, width))) * mask, mask

        tokens, mask = side(sources, 6)
        decoder_tokens, decoder_mask = side(targets, 4)
        zero = torch.zeros_like(tokens)
        return Seq2SeqBatch(tokens, zero, mask, zero[:, 0], torch.arange(8), decoder_tokens,
                            decoder_mask)  # fmt: skip

    inputs, corrupt = batch(), batch()
    answer = torch.full((8, 4), UNSCORED)
    answer[torch.arange(8), torch.from_numpy(targets) - 1] = torch.from_numpy(
        rng.integers(1, 15, 8)
    )
    name, metric = find_metric("log_probability")
    return behaviour_of(model, Behaviour("copy", inputs, metric, name, {"answer": answer}, corrupt))


@torch.no_grad()
def patched(model, behaviour, site, stands):
    """The metric with one head's z replaced by hand; ``stands`` from the head's own value."""
    stack, place = site.split()
    layer, head = map(int, place.split("."))

    def take(module, inputs, value):
        value = value.clone()
        value[:, :, head] = stands(value)[:, :, head]
        return value

    handle = model.hook_dict[HOOKS[stack].format(layer)].register_forward_hook(take)
    try:
        return behaviour.measure(forward(model, behaviour.inputs), behaviour.inputs).numpy()
    finally:
        handle.remove()


def test_closing_heads_of_every_stack(model, behaviour):
    scores = ablate(model, behaviour, "all", "zero", **QUIET)
    assert len(scores.sites) == 3 * 4 + 4
    with torch.no_grad():
        intact = behaviour.measure(forward(model, behaviour.inputs), behaviour.inputs).numpy()
    for site in ("enc 0.1", "dec 1.0", "cross 0.0", "cross 1.1"):
        expected = intact - patched(model, behaviour, site, torch.zeros_like)
        row = scores.effects[scores.sites.index(site)]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
        assert np.abs(row).max() > 1e-4
    assert scores.table()["site"].isin(scores.sites).all()


def test_patching_heads_residual_positions_and_patterns(model, behaviour):
    names = ["enc 1.0", "cross 0.1", "enc resid 0 @ -1", "dec resid 1 @ all", "cross pattern 1.0"]
    scores = patch(model, behaviour, names, **QUIET)
    found = {}

    def keep(name):
        return lambda module, inputs, value: found.update({name: value.clone()})

    ends = [*HOOKS.values()]
    handles = [
        model.hook_dict[end.format(layer)].register_forward_hook(keep(end.format(layer)))
        for end in ends for layer in range(2)
    ]  # fmt: skip
    with torch.no_grad():
        clean = behaviour.measure(forward(model, behaviour.inputs), behaviour.inputs).numpy()
        other = behaviour.swapped()
        corrupt = other.measure(forward(model, other.inputs), other.inputs).numpy()
    for handle in handles:
        handle.remove()
    for site in names[:2]:
        stack, place = site.split()
        given = found[HOOKS[stack].format(place[0])]
        expected = clean - patched(model, behaviour, site, lambda value, given=given: given)
        row = scores.effects[scores.sites.index(site)]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
    # all that the decoder's last block leaves is the whole counterfactual
    np.testing.assert_allclose(scores.effects[3], clean - corrupt, rtol=0, atol=1e-9)
    assert (np.abs(scores.effects).max(1) > 1e-6).all()


def test_every_baseline_runs(model, behaviour):
    for kind in ("mean", "mean_position", "resample", "paired"):
        scores = ablate(model, behaviour, ["enc 0.0", "dec mlp.1", "cross 1.0"], kind, **QUIET)
        assert np.isfinite(scores.effects).all()
        assert np.abs(scores.effects).max() > 1e-4


def test_denoising_mends_the_corrupt_run_with_clean_values(model, behaviour):
    """The corrupt run by hand, with one clean head, residual stream or pattern of each stack."""
    names = ["enc 1.0", "dec 0.1", "cross 0.1", "dec resid 1 @ all", "enc resid 1 @ all"]
    scores = patch(model, behaviour, names, "denoising", **QUIET)
    assert scores.method == "patch, denoising"
    other = behaviour.swapped()
    hooks = {name: HOOKS[name.split()[0]].format(name.split()[1][0]) for name in names[:3]}
    clean_values: dict[str, torch.Tensor] = {}

    def keep(name):
        return lambda module, inputs, value: clean_values.update({name: value.clone()})

    handles = [model.hook_dict[n].register_forward_hook(keep(n)) for n in hooks.values()]
    with torch.no_grad():
        clean = behaviour.measure(forward(model, behaviour.inputs), behaviour.inputs).numpy()
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        corrupt = other.measure(forward(model, other.inputs), other.inputs).numpy()
    for name, hook in hooks.items():
        given = clean_values[hook]
        mended = patched(model, other, name, lambda value, given=given: given)
        row = scores.effects[scores.sites.index(name)]
        np.testing.assert_allclose(row, mended - corrupt, rtol=0, atol=1e-9)
        assert np.abs(row).max() > 1e-5
    # the decoder's last stream, whole and clean, is the clean run; so is all of the encoder's
    # stream for what cross-attention reads, but the decoder's own input stays corrupt
    np.testing.assert_allclose(scores.effects[3], clean - corrupt, rtol=0, atol=1e-9)
    assert np.abs(scores.effects[4] - (clean - corrupt)).max() > 1e-6
    shares = patch(model, behaviour, names[:1], "denoising", **QUIET).effects
    np.testing.assert_array_equal(shares, scores.effects[:1])
