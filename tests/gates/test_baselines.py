"""Every kind of baseline against values captured and averaged by hand; padding never counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import (
    KINDS,
    make_baseline,
    mean_baseline,
    paired_baseline,
    resample_baseline,
    zero_baseline,
)
from mechprobe.gates.reference import gated_logits
from mechprobe.models import site_grid
from mechprobe.sites import SiteGrid

pytestmark = pytest.mark.usefixtures("one_thread")

HOOKS = {"head": "attn.hook_z", "mlp": "hook_mlp_out", "neuron": "mlp.hook_post"}


@pytest.fixture(scope="module")
def model(tiny_classifier):
    return tiny_classifier(dtype=torch.float64)


@pytest.fixture(scope="module")
def grid(model):
    return replace(site_grid(model), neurons=True)


@pytest.fixture(scope="module")
def batches(random_batch):
    return [random_batch(7, 4, 6), random_batch(5, 3, seed=1, first=3)]


@torch.no_grad()
def capture(model, batch, grid):
    """The value at each layer-wide site, by plain hooks."""
    found, handles = {}, []
    for site in grid.layer_columns:
        point = model.hook_dict[f"blocks.{site.layer}.{HOOKS[site.kind]}"]

        def keep(module, inputs, value, site=site):
            found[site] = value

        handles.append(point.register_forward_hook(keep))
    model(batch.tokens, batch.segments, batch.attention_mask)
    for handle in handles:
        handle.remove()
    return found


def real_values(model, batches, grid):
    """All (position, value) of real tokens, one by one, by site."""
    found = {site: [] for site in grid.layer_columns}
    for batch in batches:
        for site, value in capture(model, batch, grid).items():
            for row in range(len(batch)):
                length = int(batch.attention_mask[row].sum())
                found[site] += [(at, value[row, at]) for at in range(length)]
    return found


def mean_of(values):
    return torch.stack(values).mean(0)


def test_zero_is_nothing(model, grid, batches):
    values = zero_baseline().values(model, batches[0], grid)
    assert list(values) == list(grid.layer_columns)
    for site, value in values.items():
        assert (value == 0).all()
        assert value.dtype == torch.float64
        assert value.dim() == (4 if site.kind == "head" else 3)


def test_the_mean_is_over_real_tokens(model, grid, batches):
    values = mean_baseline(model, batches, grid).values(model, batches[1], grid)
    for site, found in real_values(model, batches, grid).items():
        assert values[site].shape[:2] == (1, 1)
        torch.testing.assert_close(
            values[site][0, 0], mean_of([v for _, v in found]), rtol=0, atol=1e-12
        )


def test_the_mean_of_each_position(model, grid, batches, random_batch):
    baseline = mean_baseline(model, batches, grid, per_position=True)
    long = random_batch(9, 9, seed=5)
    for batch in (batches[0], batches[1], long):  # 7, 5 and 9 positions; the data have 7
        values = baseline.values(model, batch, grid)
        for site, found in real_values(model, batches, grid).items():
            width = batch.tokens.shape[1]
            assert values[site].shape[:2] == (1, width)
            for at in range(width):
                here = [v for place, v in found if place == at] or [v for _, v in found]
                torch.testing.assert_close(values[site][0, at], mean_of(here), rtol=0, atol=1e-12)


def test_positions_only_padding_reaches_take_the_overall_mean(model, grid, random_batch):
    wide = random_batch(4, 3, width=8)
    baseline = mean_baseline(model, [wide], grid, per_position=True)
    values = baseline.values(model, wide, grid)
    for site, found in real_values(model, [wide], grid).items():
        overall = mean_of([v for _, v in found])
        for at in range(4, 8):
            torch.testing.assert_close(values[site][0, at], overall, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["mean", "mean_position", "resample"])
def test_padding_never_enters(model, grid, random_batch, kind):
    """More padding, and other tokens in it, change nothing at real positions."""
    lengths = (7, 4, 6)
    narrow, wide = random_batch(*lengths), random_batch(*lengths, width=11, pad=13)
    assert (narrow.tokens == wide.tokens[:, :7]).sum() < narrow.tokens.numel()
    results = []
    for batch in (narrow, wide):
        baseline = make_baseline(kind, model, [batch], grid, seed=2)
        values = baseline.values(model, batch, grid)
        results.append({
            site: value.expand(3, max(7, value.shape[1]), *value.shape[2:])
            for site, value in values.items()
        })
    for site in grid.layer_columns:
        for row, length in enumerate(lengths):
            torch.testing.assert_close(
                results[0][site][row, :length], results[1][site][row, :length], rtol=0, atol=1e-12
            )


def donors(model, batch, grid, values):
    """Which example stands in for each, found by comparing its values everywhere."""
    own = capture(model, batch, grid)
    found = []
    for row in range(len(batch)):
        fits = []
        for donor in range(len(batch)):
            length = int(batch.attention_mask[donor].sum())
            again = [at % length for at in range(batch.tokens.shape[1])]
            if all(
                torch.allclose(values[s][row], own[s][donor][again], rtol=0, atol=1e-12)
                for s in grid.layer_columns
            ):
                fits.append(donor)
        assert len(fits) == 1
        found += fits
    return found


def test_resampling_takes_each_other_example_once(model, grid, random_batch):
    batch = random_batch(7, 4, 6, 5, 3)
    seen = set()
    for seed in range(6):
        values = resample_baseline(seed).values(model, batch, grid)
        again = resample_baseline(seed).values(model, batch, grid)
        order = donors(model, batch, grid, values)
        assert sorted(order) == list(range(5))
        assert all(donor != row for row, donor in enumerate(order))
        assert order == donors(model, batch, grid, again)
        seen.add(tuple(order))
    assert len(seen) > 1


def test_resampling_depends_on_the_examples_of_the_batch(model, grid, random_batch):
    orders = set()
    for first in range(6):
        batch = random_batch(7, 4, 6, 5, 3, first=first)
        values = resample_baseline(0).values(model, batch, grid)
        orders.add(tuple(donors(model, batch, grid, values)))
    assert len(orders) > 1


def test_resampling_by_gates_is_patching_by_hand(model, grid, random_batch):
    """Closing every head with a batch of two equals exchanging their z at each layer's hook."""
    batch = random_batch(6, 6)
    heads = SiteGrid(2, 2, mlps=False)
    own = capture(model, batch, heads)
    handles = [
        model.hook_dict[f"blocks.{site.layer}.attn.hook_z"].register_forward_hook(
            lambda m, i, z, site=site: own[site].flip(0)
        )
        for site in heads.layer_columns
    ]
    expected = model(batch.tokens, batch.segments, batch.attention_mask)
    for handle in handles:
        handle.remove()
    logits = gated_logits(model, batch, torch.zeros(1, len(heads)), heads, resample_baseline(0))
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-12)


def test_paired_is_the_counterfactual_run(model, grid, random_batch):
    clean, other = random_batch(6, 4), random_batch(6, 5, seed=9)
    values = paired_baseline(lambda batch: other).values(model, clean, grid)
    for site, value in capture(model, other, grid).items():
        torch.testing.assert_close(values[site], value, rtol=0, atol=0)
    logits = gated_logits(
        model, clean, torch.zeros(1, len(grid)), grid, paired_baseline(lambda batch: batch)
    )
    own = model(clean.tokens, clean.segments, clean.attention_mask)
    torch.testing.assert_close(logits[0], own, rtol=0, atol=1e-12)


def test_a_mean_is_made_once_for_a_grid_and_serves_its_parts(model, grid, batches):
    baseline = mean_baseline(model, batches, grid)
    heads = SiteGrid(2, 2, mlps=False)
    assert list(baseline.values(model, batches[0], heads)) == list(heads.layer_columns)
    for per_position in (False, True):
        narrow = mean_baseline(model, batches, heads, per_position=per_position)
        with pytest.raises(InputError, match=r"no mean for mlp\.0 \(4 such\); make it"):
            narrow.values(model, batches[0], grid)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_by_name(model, grid, batches, kind):
    if kind == "paired":
        with pytest.raises(InputError, match="call paired_baseline"):
            make_baseline(kind, model, batches, grid)
        return
    assert make_baseline(kind, model, batches, grid).kind == kind


def test_what_cannot_work_is_refused(model, grid, batches, random_batch):
    with pytest.raises(InputError, match="unknown baseline 'median'; one of zero, mean"):
        make_baseline("median", model, batches, grid)
    with pytest.raises(InputError, match="at least one batch"):
        mean_baseline(model, [], grid)
    with pytest.raises(InputError, match="seed -1 of the resample baseline is negative"):
        resample_baseline(-1)
    with pytest.raises(InputError, match="batches of at least two"):
        resample_baseline(0).values(model, random_batch(4), grid)
    with pytest.raises(InputError, match=r"shape \(2, 7\), the clean one \(2, 6\)"):
        paired_baseline(lambda b: random_batch(7, 4)).values(model, random_batch(6, 4), grid)
    with pytest.raises(InputError, match="counterfactual of example 11 is shorter"):
        paired_baseline(lambda b: random_batch(6, 3)).values(
            model, random_batch(6, 4, first=10), grid
        )
