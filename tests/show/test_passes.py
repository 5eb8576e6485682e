"""The explorer's two ways to run a set of closed sites: the engine's numbers are the hooks'."""

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.locate.measure import baseline_for
from mechprobe.models import site_grid
from mechprobe.show.explorer.circuit import Circuit
from mechprobe.show.explorer.passes import EnginePasses, HookPasses
from mechprobe.tasks import Behaviour
from tests.show import texts as made

pytestmark = pytest.mark.usefixtures("one_thread")


def _first(logits, targets):
    flat = logits.reshape(len(logits), -1)
    return flat[:, 0] - flat[:, 1]


@pytest.fixture
def behaviours(random_batch):
    def behaviour(kind):
        if kind == "encoder_decoder":
            batch = mp.seq2seq_batch([[2, 3, 4, 5], [5, 6]], [[7, 8], [9, 10, 4]])
        else:
            batch = random_batch(4, 7, 5, 3)  # padded to seven
            batch = type(batch)(**{**batch.__dict__, "tokens": batch.tokens % 12})
        return Behaviour(kind, batch, _first, "gap", {})
    return behaviour


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample"])
@pytest.mark.parametrize("kind", ["decoder", "classifier", "encoder_decoder"])
def test_the_engine_gives_the_hooks_numbers(behaviours, kind, baseline):
    model, behaviour = getattr(made, kind)(), behaviours(kind)
    stands = baseline_for(baseline, model, behaviour, site_grid(model), seed=1)
    fast, slow = (Circuit(model, behaviour, stands, engine=engine) for engine in (True, False))
    assert isinstance(fast._passes[0], EnginePasses)
    assert isinstance(slow._passes[0], HookPasses)
    rng = np.random.default_rng(0)
    moved = 0
    for size in (0, 1, 1, 2, 5, len(fast.names)):
        closed = rng.choice(fast.names, size, replace=False).tolist()
        one, other = fast.measure(closed), slow.measure(closed)
        assert one.values == pytest.approx(other.values, abs=1e-5)
        assert one.changed == pytest.approx(other.changed, abs=1e-5, nan_ok=True)
        torch.testing.assert_close(one.log_p, other.log_p, atol=1e-5, rtol=1e-5)
        moved += int(np.nansum(one.changed) > 0)
    assert moved >= 3


def test_a_model_that_the_engine_does_not_know_is_explored_by_hooks(behaviours):
    model, behaviour = made.decoder(), behaviours("decoder")
    model.blocks[0].mlp.act_fn = torch.tanh
    model.cfg.act_fn = "tanh"
    stands = baseline_for("zero", model, behaviour, site_grid(model))
    with pytest.warns(UserWarning, match="the engine does not run"):
        circuit = Circuit(model, behaviour, stands)
    assert isinstance(circuit._passes[0], HookPasses)
    assert circuit.measure(["0.1"]).change.estimate != 0
