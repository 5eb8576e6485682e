"""A step of a search in a process whose address space is nearly full, against one with room."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STEP = """
import resource, sys
import torch
torch.set_num_threads(1)
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.mask_gradients import gradients_for
from mechprobe.locate.mask_loss import full_model_logits, mask_loss
from mechprobe.locate.mask_pieces import Pieces, portions
from mechprobe.models import build_classifier, site_grid
from mechprobe.tasks.batches import Batch

model = build_classifier(("no", "yes"), None, n_layers=3, n_heads=4, d_model=64, n_ctx=128,
                         d_vocab=50).requires_grad_(False)
generator = torch.Generator().manual_seed(0)
tokens = torch.randint(0, 50, (96, 128), generator=generator)
one, index = torch.ones_like(tokens), torch.arange(96)
batch = Batch(tokens, 0 * one, one, index % 2, index)
few = [portion.batch for portion in portions(batch, None, 2)]
full = full_model_logits(model, few)
grid = site_grid(model)
gates = torch.rand(3, len(grid), generator=generator)
gradients = gradients_for(model, grid, zero_baseline())
Pieces(gradients)(few[0], full[0], gates, mask_loss)  # what torch loads when it is first used
if room := int(sys.argv[1]):
    status = open("/proc/self/status").read().splitlines()
    size = int(next(line for line in status if line.startswith("VmSize")).split()[1])
    resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (room << 20),) * 2)
pieces = Pieces(gradients)
losses, slopes = pieces(batch, torch.cat(full), gates, mask_loss)
print(pieces.members, pieces.examples)
print(*losses.tolist(), *slopes.flatten().tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
def test_a_step_that_does_not_fit_is_made_in_pieces(repo):
    def run(room):
        done = subprocess.run(
            [sys.executable, "-c", STEP, str(room)], capture_output=True, text=True, cwd=repo,
            env=os.environ | {"PYTHONPATH": str(repo)}, check=True,
        )  # fmt: skip
        said, numbers = done.stdout.splitlines()[-2:]
        return said, [float(number) for number in numbers.split()]

    whole, in_pieces = run(0), run(60)
    assert whole[0] == "None None"
    members, examples = in_pieces[0].split()
    assert (members, int(examples) < 96) == ("1", True)
    assert in_pieces[1] == pytest.approx(whole[1], rel=1e-3, abs=1e-6)
