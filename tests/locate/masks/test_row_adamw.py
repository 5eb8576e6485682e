"""AdamW by rows against torch's own, one optimiser a row."""

from __future__ import annotations

import pytest
import torch

from mechprobe.locate.row_adamw import RowAdamW

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("maximize", [False, True])
def test_each_row_is_its_own_optimiser_and_stays_where_it_stopped(maximize):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64)
    stops, rates = [6, 2, 4], [0.1, 0.3, 0.02]
    values = start.clone()
    rows = RowAdamW(values, 0.05, maximize=maximize)
    for step, grad in enumerate(gradients):
        going = [k for k in range(3) if step < stops[k]]
        fast = torch.tensor([rates[k] * (step + 1) for k in going], dtype=torch.float64)
        rows.update(values, grad, step + 1, fast, torch.tensor(going))
    for k in range(3):
        alone = start[k].clone().requires_grad_(True)
        torchs = torch.optim.AdamW([alone], lr=1, weight_decay=0.05, maximize=maximize)
        for step in range(stops[k]):
            torchs.param_groups[0]["lr"] = rates[k] * (step + 1)
            alone.grad = gradients[step, k].clone()
            torchs.step()
        torch.testing.assert_close(values[k], alone.detach(), rtol=1e-12, atol=1e-12)
