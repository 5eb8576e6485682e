"""A replay against hooks: logits, and what every site itself gives, on every architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.gates.engine_replay import Replay
from mechprobe.gates.reference import gate_edits
from mechprobe.models import run_with_cache, site_grid

pytestmark = pytest.mark.usefixtures("one_thread")


def _near(got, expected):
    assert got.shape == expected.shape
    if got.numel():
        assert (got - expected).abs().max() <= 1e-10 * expected.abs().max().clamp_min(1)


def _by_unit(value):
    """[batch, pos, head, d] or [batch, pos, d] as [unit, batch, pos, d]."""
    return value.permute(2, 0, 1, 3) if value.dim() == 4 else value[None]


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_logits_and_every_sites_own_output_equal_hooks(architecture, filled, ragged, kind):
    model, batch = filled(architecture, torch.float64), ragged(architecture)
    grid = site_grid(model)
    baseline = make_baseline(kind, model, [batch], grid, seed=3)
    replay = Replay(Engine(model, grid, baseline), batch)
    logits, untouched = run_with_cache(model, batch, grid.layer_columns)
    _near(replay.full.logits, logits.detach())
    assert set(replay.full.own) == set(grid.layer_columns)
    for site, own in replay.full.own.items():
        _near(own.values, _by_unit(untouched[site].detach()))

    n = len(grid)
    for closed in ([], [0], [n - 1], [n // 2, n - 2], range(0, n, 3), range(n)):
        gates = torch.ones(n, dtype=torch.float64)
        gates[[*closed]] = 0
        found = replay.run(gates)
        edits = gate_edits(model, gates, grid, baseline)(batch)
        logits, cache = run_with_cache(model, batch, grid.layer_columns, edits)
        _near(found.logits, logits.detach())
        for site, columns in grid.layer_columns.items():
            units = [u for u, gate in enumerate(gates[columns]) if gate]
            expected = _by_unit(cache[site].detach())[units]
            if site in found.own:
                assert list(found.own[site].units) == units
                _near(found.own[site].values, expected)
            else:  # nothing closed before it
                _near(expected, _by_unit(untouched[site].detach())[units])


def test_neurons_are_refused(filled, ragged):
    model, batch = filled("gpt2", torch.float64), ragged("gpt2")
    grid = replace(site_grid(model), neurons=True)
    engine = Engine(model, grid, make_baseline("zero", model, [batch], grid))
    with pytest.raises(InputError, match="without neurons"):
        Replay(engine, batch)
