"""Gates closed for a block against gated_logits, nested, while generating, and after exceptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline, resample_baseline
from mechprobe.gates.context import gated
from mechprobe.gates.evaluate import evaluate
from mechprobe.gates.reference import gated_logits
from mechprobe.models import build_decoder, forward, site_grid
from mechprobe.tasks import Behaviour, PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ["zero", "mean", "mean_position"]


@pytest.fixture(scope="module", params=["decoder", "classifier"])
def model(request, tiny_classifier):
    if request.param == "classifier":
        return tiny_classifier(dtype=torch.float64)
    return build_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, init_std=0.5,
        dtype=torch.float64,
    )


@pytest.fixture(scope="module")
def batches(random_batch):
    return [random_batch(7, 4, 6), random_batch(9, 3, seed=1)]


def expected(model, batch, closed, kind, data):
    grid = site_grid(model)
    baseline = make_baseline(kind, model, data, grid)
    gates = torch.from_numpy(grid.mask(closed=closed)).double()[None]
    return gated_logits(model, batch, gates, grid, baseline)[0]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_call_inside_is_the_gated_model(model, batches, kind):
    plain = forward(model, batches[0])
    data = None if kind == "zero" else batches
    with gated(model, ["1.0", "mlp.0"], baseline=kind, data=data) as same:
        assert same is model
        logits = forward(model, batches[0])
    other = expected(model, batches[0], ["1.0", "mlp.0"], kind, batches)
    torch.testing.assert_close(logits, other, rtol=0, atol=1e-10)
    assert (logits - plain).abs().max() > 1e-3
    torch.testing.assert_close(forward(model, batches[0]), plain, rtol=0, atol=0)


@torch.no_grad()
def test_keep_closes_the_rest(model, batches):
    for keep, among, closed in (
        (["0.1", "mlp.1"], "all", ["0.0", "1.0", "1.1", "mlp.0"]),
        (["0.1"], "heads", ["0.0", "1.0", "1.1"]),
        ([], ["1.*"], ["1.0", "1.1"]),
    ):
        with gated(model, keep=keep, among=among):
            logits = forward(model, batches[0])
        other = expected(model, batches[0], closed, "zero", batches)
        torch.testing.assert_close(logits, other, rtol=0, atol=1e-10)


@torch.no_grad()
def test_whole_layers_and_neurons(model, batches):
    with gated(model, ["0.*", "mlp.1.2", "mlp.1.4"]):
        logits = forward(model, batches[0])
    hooks = {
        "blocks.0.attn.hook_z": lambda m, i, o: 0 * o,
        "blocks.1.mlp.hook_post": lambda m, i, o: o * torch.tensor([1, 1, 0, 1, 0, 1]),
    }
    handles = [model.hook_dict[n].register_forward_hook(fn) for n, fn in hooks.items()]
    other = forward(model, batches[0])
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(logits, other, rtol=0, atol=1e-12)


@torch.no_grad()
def test_blocks_may_be_nested(model, batches):
    batch = batches[0]
    with gated(model, ["1.0"]):
        with gated(model, ["mlp.0", "0.1"]):
            inner = forward(model, batch)
        outer = forward(model, batch)
    for logits, closed in ((inner, ["1.0", "mlp.0", "0.1"]), (outer, ["1.0"])):
        other = expected(model, batch, closed, "zero", batches)
        torch.testing.assert_close(logits, other, rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_inner_baseline_stands_where_both_close(model, batches):
    with gated(model, ["1.0"]), gated(model, ["1.0"], baseline=make_baseline(
        "mean", model, batches, site_grid(model)
    )):
        logits = forward(model, batches[0])
    with gated(model, ["1.0"]):
        zeroed = make_baseline("mean", model, batches, site_grid(model))
    # the means were taken inside the outer block, where the head's are zero
    other = expected(model, batches[0], ["1.0"], "zero", batches)
    torch.testing.assert_close(logits, other, rtol=0, atol=1e-10)
    plain = make_baseline("mean", model, batches, site_grid(model))
    with gated(model, ["1.0"]), gated(model, ["1.0"], baseline=plain):
        inner = forward(model, batches[0])
    mean = expected(model, batches[0], ["1.0"], "mean", batches)
    torch.testing.assert_close(inner, mean, rtol=0, atol=1e-10)
    with gated(model, ["1.0"], baseline=zeroed):
        again = forward(model, batches[0])
    torch.testing.assert_close(again, other, rtol=0, atol=1e-10)


@torch.no_grad()
def test_nothing_stays_after_an_exception(model, batches):
    plain = forward(model, batches[0])
    with pytest.raises(RuntimeError, match="mine"), gated(model, ["1.0"]):
        raise RuntimeError("mine")
    torch.testing.assert_close(forward(model, batches[0]), plain, rtol=0, atol=0)
    assert not any(point._forward_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_generation_is_gated(kind, random_batch):
    model = build_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=24, d_vocab=20, init_std=0.9,
        dtype=torch.float64, seed=3,  # generate needs twice the positions it writes
    )
    data = [random_batch(12, 12, 12)]
    tokens = random_batch(5, 5, seed=2).tokens
    with gated(model, ["0.1", "1.0"], baseline=kind, data=data):
        # TransformerLens 3.9 puts tokens at wrong positions when it uses its cache
        found = model.generate(
            tokens, 6, do_sample=False, stop_at_eos=False, verbose=False, use_past_kv_cache=False
        )
        new = mp.generate(model, PromptTask(tokens, metric="kl").encode().inputs, 6, eos=-1)
    grown = tokens
    for _ in range(6):
        prompt = PromptTask(grown, metric="kl").encode().inputs
        logits = expected(model, prompt, ["0.1", "1.0"], kind, data)
        grown = torch.cat([grown, logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(torch.as_tensor(found), grown)
    assert torch.equal(new, grown[:, 5:])
    plain = mp.generate(model, PromptTask(tokens, metric="kl").encode().inputs, 6, eos=-1)
    assert not torch.equal(plain, new)


def test_data_may_be_a_behaviour_or_prompts(batches):
    model = build_decoder(n_layers=1, n_heads=2, d_model=8, n_ctx=12, d_vocab=20, init_std=0.5)
    tokens = np.random.default_rng(0).integers(0, 20, (4, 6))
    task = PromptTask(tokens, metric="kl")
    found = task.encode()
    assert isinstance(found, Behaviour)
    rows = []
    for data in (task, found, found.batches()):
        with gated(model, ["0.1"], baseline="mean", data=data), torch.no_grad():
            rows.append(model(torch.tensor(tokens)))
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


def test_what_cannot_stand_is_refused(model, batches):
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, r"nothing to close: give closed=\[...\], or keep"),
        ({"closed": ["1.0"], "keep": ["0.0"]}, "closed and keep were both given"),
        ({"closed": "1.0"}, r"sites are given in a list, such as closed=\['5.1'"),
        ({"closed": ["1.7"]}, r"no site '1\.7' here .* nearest: 1\."),
        ({"keep": ["mlp.0"], "among": "heads"}, r"mlp\.0 is to be kept but is not among 'heads'"),
        ({"closed": ["1.0"], "baseline": "mean"}, "baseline 'mean' is taken over data; give data="),
        ({"closed": ["1.0"], "baseline": "paired"}, "'paired' is not the same for every input"),
        ({"closed": ["1.0"], "baseline": resample_baseline(0)}, "'resample' is not the same for"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message), gated(model, **settings):
            pass


@torch.no_grad()
def test_the_package_can_be_called(model, batches):
    """``mp.gates`` is a package and a function; importing from it works before and after."""
    import mechprobe.gates.evaluate
    from mechprobe.gates import baselines

    assert mechprobe.gates.evaluate.evaluate is evaluate
    assert baselines.KINDS
    plain = forward(model, batches[0])
    with mp.gates(model, closed=["1.0", "mlp.1"]):
        called = forward(model, batches[0])
    with mp.gated(model, ["1.0", "mlp.1"]):
        torch.testing.assert_close(forward(model, batches[0]), called, rtol=0, atol=0)
    torch.testing.assert_close(forward(model, batches[0]), plain, rtol=0, atol=0)
    assert mp.gates is mechprobe.gates


def test_the_package_is_found_in_a_fresh_process():
    import subprocess
    import sys

    code = "import sys, mechprobe; assert callable(mechprobe.gates) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
