"""A killed search goes on with the same bits, and only where it was."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.masks import Member
from mechprobe.runs import Run
from mechprobe.sites import SiteGrid
from tests.locate.masks.conftest import MEMBERS, SHORT, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("killed_at", [3, 5])
def test_a_killed_search_goes_on_with_the_same_bits(
    model, batches, grid, baseline, tmp_path, killed_at
):
    whole = trained(model, batches, grid, baseline)

    def kill(step, report):
        if step == killed_at:
            raise KeyboardInterrupt

    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        with pytest.raises(KeyboardInterrupt):
            trained(model, batches, grid, baseline, store=store, save_every=2, on_step=kill)
        steps = []
        resumed = trained(
            model, batches, grid, baseline, store=run.checkpoint("masks"), save_every=2,
            on_step=lambda step, report: steps.append(step),
        )  # fmt: skip
        kept = store.load()
        assert kept is not None
        assert torch.equal(kept["log_alpha"], whole)
    assert steps == list(range(killed_at, 7))  # the step that was lost is done again
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"members": [Member(4, 0.5), *MEMBERS[1:]]}, r"seeds \[3, 0, 11\], this one \[4, 0, 11\]"),
        ({"members": [Member(3, 0.4), *MEMBERS[1:]]}, r"sparsities \[0.5, 0.7, 0.3\], this one"),
        ({"settings": replace(SHORT, lr=0.2)}, r"lr 0.1, this one 0.2"),
        ({"grid": SiteGrid(2, 2, mlps=False)}, "sites 6, this one 4"),
    ],
)
def test_the_state_of_another_search_is_refused(
    model, batches, grid, baseline, tmp_path, change, named
):
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        trained(model, batches, grid, baseline, store=store, save_every=2)
        settings = {"grid": grid, "baseline": baseline} | change
        with pytest.raises(InputError, match=named + ".*delete the saved state"):
            trained(model, batches, **settings, store=store)


def test_the_state_of_another_model_or_of_other_data_is_refused(
    model, batches, grid, baseline, tmp_path
):
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        trained(model, batches, grid, baseline, store=store, save_every=2)
        with pytest.raises(InputError, match="has data"):
            trained(model, batches[1:], grid, baseline, store=store)
        with pytest.raises(InputError, match="has baseline"):
            trained(model, batches, grid, zero_baseline(), store=store)
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.classifier.bias += 1
        with pytest.raises(InputError, match="has model"):
            trained(other, batches, grid, baseline, store=store)
