"""Gates and baselines on an encoder-decoder: positions of each side, padding never counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline, mean_baseline, paired_baseline, zero_baseline
from mechprobe.gates.evaluate import evaluate
from mechprobe.gates.reference import gate_edits, gated_logits
from mechprobe.models import build_encoder_decoder, forward, generate, run_with_cache, site_grid
from mechprobe.tasks import Seq2SeqBatch, seq2seq_batch

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("zero", "mean", "mean_position", "resample", "paired")
HOOKS = {
    ("head", "enc"): "encoder.{}.attn.hook_z",
    ("head", "dec"): "decoder.{}.attn.hook_z",
    ("head", "cross"): "decoder.{}.cross_attn.hook_z",
    ("mlp", "enc"): "encoder.{}.hook_mlp_out",
    ("mlp", "dec"): "decoder.{}.hook_mlp_out",
    ("neuron", "enc"): "encoder.{}.mlp.hook_post",
    ("neuron", "dec"): "decoder.{}.mlp.hook_post",
}


def pairs(sources=(7, 4, 6), targets=(2, 5, 3), seed=0, pad=0, extra=(0, 0), first=0):
    """Random pairs; ``extra`` columns of padding on either side, filled with ``pad``."""
    generator = torch.Generator().manual_seed(seed)

    def rows(lengths):
        return [torch.randint(2, 15, (n,), generator=generator).tolist() for n in lengths]

    batch = seq2seq_batch(rows(sources), rows(targets), pad=pad, first=first)

    def wider(values, more, fill):
        return torch.nn.functional.pad(values, (0, more), value=fill)

    return replace(
        batch,
        tokens=wider(batch.tokens, extra[0], pad),
        segments=wider(batch.segments, extra[0], 0),
        attention_mask=wider(batch.attention_mask, extra[0], 0),
        decoder_tokens=wider(batch.decoder_tokens, extra[1], pad),
        decoder_mask=wider(batch.decoder_mask, extra[1], 0),
    )


@pytest.fixture(scope="module")
def model():
    built = build_encoder_decoder(
        n_layers=2, n_heads=2, d_model=8, d_head=3, d_mlp=6, d_vocab=15, gated_mlp=True,
        dtype=torch.float64, seed=1, relative_attention_num_buckets=8,
        relative_attention_max_distance=6,
    )  # fmt: skip
    return built.requires_grad_(False)


@pytest.fixture(scope="module")
def grid(model):
    return replace(site_grid(model), neurons=True)


@pytest.fixture(scope="module")
def batch() -> Seq2SeqBatch:
    return pairs()


def baseline_of(kind, model, batches, grid):
    if kind == "paired":
        return paired_baseline(lambda b: pairs((7, 5, 7), (3, 5, 5), seed=4))
    return make_baseline(kind, model, batches, grid, seed=2)


@torch.no_grad()
def capture(model, batch, grid):
    """The value at each layer-wide site, by plain hooks on names written out here."""
    found, handles = {}, []
    for site in grid.layer_columns:
        point = model.hook_dict[HOOKS[site.kind, site.stack].format(site.layer)]

        def keep(module, inputs, value, site=site):
            found[site] = value

        handles.append(point.register_forward_hook(keep))
    model(batch.tokens, batch.decoder_tokens, one_zero_attention_mask=batch.attention_mask.double())
    for handle in handles:
        handle.remove()
    return found


def random_gates(k, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(k, len(grid), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_open_gates_are_the_model(model, batch, grid, kind):
    baseline = baseline_of(kind, model, [batch], grid)
    logits = gated_logits(model, batch, torch.ones(2, len(grid)), grid, baseline)
    expected = forward(model, batch)
    assert logits.shape == (2, 3, 6, 15)
    torch.testing.assert_close(logits, expected.expand(2, -1, -1, -1), rtol=0, atol=1e-12)
    closed = gated_logits(model, batch, torch.zeros(1, len(grid)), grid, baseline)
    assert (closed[0] - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_vectors_equal_single_ones_for_any_chunk(model, batch, grid, kind):
    baseline = baseline_of(kind, model, [batch], grid)
    gates = random_gates(5, grid)
    single = torch.cat([gated_logits(model, batch, row[None], grid, baseline) for row in gates])
    assert (single[0] - single[1]).abs().max() > 1e-3
    for chunk in (None, 2, 5):
        stacked = gated_logits(model, batch, gates, grid, baseline, chunk=chunk)
        torch.testing.assert_close(stacked, single, rtol=0, atol=1e-12)


def test_fractional_gates_equal_own_hooks(model, batch, grid):
    baseline = mean_baseline(model, [batch], grid)
    means = baseline.values(model, batch, grid)
    (gates,) = random_gates(1, grid)
    handles = []
    for site, columns in grid.layer_columns.items():
        def hook(module, inputs, own, g=gates[columns], mean=means[site][0, 0], site=site):
            if site.kind == "head":
                return torch.stack(
                    [g[i] * own[:, :, i] + (1 - g[i]) * mean[i] for i in range(2)], dim=2
                )
            return g * own + (1 - g) * mean

        name = HOOKS[site.kind, site.stack].format(site.layer)
        handles.append(model.hook_dict[name].register_forward_hook(hook))
    expected = forward(model, batch)
    for handle in handles:
        handle.remove()
    logits = gated_logits(model, batch, gates[None], grid, baseline)
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_gates(model, batch, grid, kind):
    baseline = baseline_of(kind, model, [batch], grid)
    gates = (0.2 + 0.6 * random_gates(2, grid)).requires_grad_(True)

    def loss(values):
        return gated_logits(model, batch, values, grid, baseline)[:, batch.decoder_mask.bool()] \
            .sin().sum((1, 2))  # fmt: skip

    gradient = torch.autograd.grad(loss(gates).sum(), gates)[0]
    assert (gradient.abs() > 1e-9).all()
    way = random_gates(2, grid, seed=3) - 0.5
    ends = [loss(gates.detach() + sign * 1e-6 * way) for sign in (1, -1)]
    torch.testing.assert_close(
        (gradient * way).sum(1), (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("per_position", [False, True])
def test_means_are_over_each_sides_real_tokens(model, grid, per_position):
    batches = [pairs(), pairs((3, 8), (6, 1), seed=1, first=3)]
    baseline = mean_baseline(model, batches, grid, per_position=per_position)
    found = {site: [] for site in grid.layer_columns}
    for batch in batches:
        for site, value in capture(model, batch, grid).items():
            mask = batch.attention_mask if site.stack == "enc" else batch.decoder_mask
            assert value.shape[:2] == mask.shape
            found[site] += [
                (at, value[row, at])
                for row in range(len(batch)) for at in range(int(mask[row].sum()))
            ]  # fmt: skip
    long = pairs((11, 2), (9, 9), seed=5)
    for batch in (*batches, long):
        values = baseline.values(model, batch, grid)
        for site, seen in found.items():
            width = (batch.tokens if site.stack == "enc" else batch.decoder_tokens).shape[1]
            assert values[site].shape[:2] == (1, width if per_position else 1)
            for at in range(values[site].shape[1]):
                here = [v for place, v in seen if place == at or not per_position]
                expected = torch.stack(here or [v for _, v in seen]).mean(0)
                torch.testing.assert_close(values[site][0, at], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_enters(model, grid, kind):
    """More padding on either side, and other tokens in it, change nothing that is real."""
    narrow, wide = pairs(), pairs(pad=9, extra=(3, 4))
    gates = random_gates(3, grid)
    rows = []
    for batch in (narrow, wide):
        if kind == "paired":
            extra, pad = ((0, 0), 0) if batch is narrow else ((3, 4), 9)
            other = pairs((7, 5, 7), (3, 5, 5), seed=4, pad=pad, extra=extra)
            baseline = paired_baseline(lambda b, other=other: other)
        else:
            baseline = make_baseline(kind, model, [batch], grid, seed=2)
        logits = gated_logits(model, batch, gates, grid, baseline)
        rows.append(logits[:, batch.decoder_mask.bool()])
    torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=1e-12)


def test_resampling_takes_one_donor_on_both_sides(model, grid):
    batch = pairs((7, 4, 6, 5), (2, 5, 3, 4))
    values = make_baseline("resample", model, [batch], grid, seed=1).values(model, batch, grid)
    own = capture(model, batch, grid)
    donors = []
    for row in range(4):
        fits = []
        for donor in range(4):
            n_enc = int(batch.attention_mask[donor].sum())
            n_dec = int(batch.decoder_mask[donor].sum())
            fits += [donor] * all(
                torch.equal(
                    values[site][row],
                    own[site][donor][[
                        at % (n_enc if site.stack == "enc" else n_dec)
                        for at in range(own[site].shape[1])
                    ]],
                )
                for site in grid.layer_columns
            )  # fmt: skip
        assert len(fits) == 1
        donors += fits
    assert sorted(donors) == [0, 1, 2, 3]
    assert all(donor != row for row, donor in enumerate(donors))


def test_pairs_must_fit_where_the_grid_gates(model, grid, batch):
    longer_source = pairs((9, 9, 9), (2, 5, 3), seed=4)
    baseline = paired_baseline(lambda b: longer_source)
    with pytest.raises(InputError, match=r"shape \(3, 9\), the clean one \(3, 7\)"):
        baseline.values(model, batch, grid)
    decoder_side = replace(grid, stacks=("dec", "cross"))
    values = baseline.values(model, batch, decoder_side)
    _, expected = run_with_cache(model, longer_source, decoder_side.layer_columns)
    for site in decoder_side.layer_columns:
        assert torch.equal(values[site], expected[site])
    short = paired_baseline(lambda b: pairs((7, 4, 6), (1, 5, 3), seed=4))
    with pytest.raises(InputError, match="counterfactual of example 0 is shorter"):
        short.values(model, batch, grid)


def test_evaluate_scores_examples_in_their_order(model, grid):
    batches = [pairs(first=2), pairs((3, 8), (6, 1), seed=1)]
    baseline = mean_baseline(model, batches, grid)
    gates = (random_gates(3, grid) > 0.3).double()

    def log_p(logits, batch):
        chosen = logits[:, :-1].log_softmax(-1).gather(2, batch.decoder_tokens[:, 1:, None])[..., 0]
        return (chosen * batch.decoder_mask[:, 1:]).sum(1)

    scores = evaluate(model, batches, gates, grid, baseline, log_p)
    assert scores.shape == (3, 5)
    for batch in batches:
        for k in range(3):
            logits = gated_logits(model, batch, gates[k : k + 1], grid, baseline)[0]
            for row, index in enumerate(batch.index.tolist()):
                expected = sum(
                    float(logits[row, at].log_softmax(-1)[batch.decoder_tokens[row, at + 1]])
                    for at in range(int(batch.decoder_mask[row].sum()) - 1)
                )
                assert scores[k, index] == pytest.approx(expected)
    assert np.isfinite(evaluate(model, batches, None, grid, baseline, log_p)).all()


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_gated_model_writes(model, grid, batch, kind):
    """Each token is the argmax of the gated logits of what was written before it."""
    baseline = baseline_of(kind, model, [batch], grid)
    (gates,) = (random_gates(1, grid) > 0.3).double()
    written = generate(model, batch, 4, edits=gate_edits(model, gates, grid, baseline))
    start = torch.zeros(3, 1, dtype=torch.long)
    for step in range(4):
        decoder = torch.cat([start, written[:, :step]], dim=1)
        so_far = replace(batch, decoder_tokens=decoder, decoder_mask=torch.ones_like(decoder))
        logits = gated_logits(model, so_far, gates[None], grid, baseline)[0, :, -1]
        assert written[:, step].tolist() == logits.argmax(-1).tolist()
    open_gates = gate_edits(model, torch.ones(len(grid)), grid, baseline)
    assert torch.equal(generate(model, batch, 4, edits=open_gates), generate(model, batch, 4))
    with pytest.raises(InputError, match=r"gates of shape \[3\] for a grid of \d+ sites"):
        gate_edits(model, torch.ones(3), grid, baseline)


def test_zero_closes_every_kind_of_site(model, grid, batch):
    own = forward(model, batch)
    for row, site in enumerate(grid.sites):
        gates = torch.ones(1, len(grid), dtype=torch.float64)
        gates[0, row] = 0
        logits = gated_logits(model, batch, gates, grid, zero_baseline())[0]
        assert (logits - own).abs().max() > 1e-6, site
