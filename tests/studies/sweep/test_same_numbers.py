"""Equal settings give equal bits; other chunks, batches, threads the same up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.gates.evaluate import evaluate
from mechprobe.locate.mask_settings import held_settings
from mechprobe.locate.masks import Member, train_masks
from mechprobe.locate.search import binarise
from mechprobe.models import site_grid
from mechprobe.tasks.batches import Batch

pytestmark = pytest.mark.usefixtures("one_thread")
MEMBERS = [Member(seed, target) for target in (0.3, 0.6) for seed in range(3)]
SETTINGS = held_settings(12)


@pytest.fixture(scope="module")
def model(tiny_classifier):
    return tiny_classifier()


@pytest.fixture(scope="module")
def batches(random_batch):
    return [random_batch(7, 4, 6, 5), random_batch(5, 3, seed=1, first=4)]


def _search(model, batches, chunk=None, members=MEMBERS):
    """Log alpha, and each step's losses by member."""
    losses: list[list[float]] = []
    grid = site_grid(model)
    log_alpha = train_masks(
        model, batches, members, grid, mean_baseline(model, batches, grid), SETTINGS, chunk=chunk,
        on_step=lambda step, report: losses.append(report["loss"]),
    )
    return log_alpha, np.array(losses)


def _kept(log_alpha, model) -> list[list[bool]]:
    grid = site_grid(model)
    rows = zip(log_alpha, MEMBERS, strict=True)
    return [binarise(row, m, grid, SETTINGS, "mean").binary.tolist() for row, m in rows]


def test_a_search_done_twice_has_the_same_bits(model, batches):
    first, second = _search(model, batches), _search(model, batches)
    assert torch.equal(first[0], second[0])
    assert (first[1] == second[1]).all()


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_every_step_agrees_whatever_the_chunk(model, batches, chunk):
    whole, losses = _search(model, batches)
    log_alpha, chunked = _search(model, batches, chunk)
    assert np.abs(chunked - losses).max() < 1e-5
    torch.testing.assert_close(log_alpha, whole, rtol=0, atol=1e-4)  # 12 steps of 1e-5
    assert _kept(log_alpha, model) == _kept(whole, model)


def test_a_member_does_not_depend_on_those_beside_it(model, batches):
    _, losses = _search(model, batches)
    for place in (0, 4):
        _, alone = _search(model, batches, members=[MEMBERS[place]])
        assert np.abs(alone[:, 0] - losses[:, place]).max() < 1e-5


def _cut(batches: list[Batch], size: int) -> list[Batch]:
    """The same examples in batches of another size, without the padding that none of them needs."""
    found = []
    for batch in batches:
        for start in range(0, len(batch), size):
            rows = slice(start, start + size)
            width = int(batch.attention_mask[rows].sum(1).max())
            found.append(Batch(
                batch.tokens[rows, :width], batch.segments[rows, :width],
                batch.attention_mask[rows, :width], batch.labels[rows], batch.index[rows],
            ))  # fmt: skip
    return found


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_outcomes_agree_whatever_the_batch_and_the_chunk(model, batches, size, chunk):
    grid = site_grid(model)
    stands = mean_baseline(model, batches, grid)
    gates = torch.from_numpy(np.random.default_rng(0).random((7, len(grid)), dtype=np.float32))

    def margin(logits, batch):
        return logits[:, 0] - logits[:, 1]

    def outcomes(batches, chunk=None):
        return evaluate(model, batches, gates, grid, stands, margin, chunk=chunk)

    whole, other = outcomes(batches), outcomes(_cut(batches, size), chunk)
    assert np.abs(other - whole).max() < 1e-5
    assert ((other > 0) == (whole > 0)).all()
    assert (outcomes(batches) == whole).all()


TWICE = """
import sys
import torch
torch.set_num_threads(int(sys.argv[1]))
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.mask_settings import held_settings
from mechprobe.locate.masks import Member, train_masks
from mechprobe.models import build_classifier, site_grid
from mechprobe.tasks.batches import Batch

model = build_classifier(("no", "yes"), None, n_layers=2, n_heads=4, d_model=64, n_ctx=32,
                         d_vocab=50)
tokens = torch.randint(0, 50, (16, 32), generator=torch.Generator().manual_seed(0))
one, index = torch.ones_like(tokens), torch.arange(16)
batch = Batch(tokens, 0 * one, one, index % 2, index)
members = [Member(seed, 0.5) for seed in range(4)]
found = train_masks(model, [batch], members, site_grid(model), zero_baseline(), held_settings(8))
print(*(float.hex(float(value)) for value in found.flatten()))
"""


def _in_process(threads: int) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(threads)], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return np.array([float.fromhex(word) for word in done.stdout.split()])


@pytest.mark.slow
def test_processes_with_the_same_threads_have_the_same_bits_and_others_agree():
    first, second, two = _in_process(1), _in_process(1), _in_process(2)
    assert len(first) == 4 * (8 + 2)
    assert (first == second).all()
    assert np.abs(two - first).max() < 1e-4
