"""Members that are done, or diverged, leave; nobody else's result changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.mask_gradients import gradients_for
from mechprobe.locate.masks import MaskDiverged, Member, published_settings, scaled
from tests.locate.masks.conftest import MEMBERS, SHORT, trained

pytestmark = pytest.mark.usefixtures("one_thread")
RULES = ["held", "expected", "published"]


@pytest.mark.parametrize("rule", RULES)
def test_members_of_different_lengths_are_their_own_single_runs(
    model, batches, grid, baseline, rule
):
    """Each leaves after its own steps, on its own schedule."""
    each = [replace(SHORT, rule=rule, steps=steps, lr_warmup_steps=2) for steps in (4, 7, 2)]
    took = []
    together = trained(model, batches, grid, baseline, each,
                       on_step=lambda step, report: took.append(len(report["loss"])))  # fmt: skip
    assert took == [3, 3, 2, 2, 1, 1, 1]
    for row, member, own in zip(together, MEMBERS, each, strict=True):
        alone = trained(model, batches, grid, baseline, own, [member])
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-6)


def test_published_searches_of_several_sparsities_advance_together(
    model, batches, grid, baseline
):
    members = [Member(0, 0.3), Member(0, 0.7)]
    each = [scaled(published_settings(m.sparsity), 5 + k) for k, m in enumerate(members)]
    together = trained(model, batches, grid, baseline, each, members)
    for row, member, own in zip(together, members, each, strict=True):
        alone = trained(model, batches, grid, baseline, own, [member])
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"share their rule, here \['expected', 'published'\]"):
        trained(model, batches, grid, baseline, [each[0], replace(each[1], rule="expected")],
                members)  # fmt: skip
    with pytest.raises(InputError, match="1 settings for 2 members"):
        trained(model, batches, grid, baseline, each[:1], members)


@pytest.mark.parametrize("rule", RULES)
def test_a_diverged_member_leaves_and_the_others_do_not_notice(
    model, batches, grid, baseline, rule
):
    settings, calls = replace(SHORT, rule=rule), []
    engine = gradients_for(model, grid, baseline)

    def broken(batch, gates, loss):
        values, slopes = engine(batch, gates, loss)
        calls.append(len(gates))
        if len(calls) == 3:  # the second step's first micro-batch
            values[1], slopes[1] = torch.nan, torch.nan
        return values, slopes

    def full(logits, batch):
        return logits.log_softmax(-1)[:, 0].mean()

    with pytest.warns(MaskDiverged, match=r"at step 1 for \[Member\(seed=0, sparsity=0.7\)\]"):
        found = trained(model, batches, grid, baseline, settings, gradients=broken, loss=full)
    assert calls == [3] * 4 + [2] * 8
    assert found[1].isnan().all()
    whole = trained(model, batches, grid, baseline, settings, loss=full)
    torch.testing.assert_close(found[[0, 2]], whole[[0, 2]], rtol=0, atol=1e-6)


def test_a_search_that_was_killed_after_a_member_left_goes_on_without_it(
    model, batches, grid, baseline, tmp_path
):
    from mechprobe.runs.checkpoint import Checkpoint

    each = [replace(SHORT, steps=steps) for steps in (6, 2, 5)]
    whole, store = trained(model, batches, grid, baseline, each), Checkpoint(tmp_path / "state")

    def kill(step, report):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(model, batches, grid, baseline, each, store=store, save_every=1, on_step=kill)
    took = []
    resumed = trained(model, batches, grid, baseline, each, store=store,
                      on_step=lambda step, report: took.append(len(report["loss"])))  # fmt: skip
    assert took == [2, 2, 1]
    assert torch.equal(resumed, whole)
