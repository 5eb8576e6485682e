"""Paths from the core through further heads, against hooks written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.models.edits import forward
from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.heuristic_core.dependence import dependence, sender_sets
from mechprobe.studies.heuristic_core.search import OpenModel

CORE, EXTRA = [Site("head", 0, 1)], [Site("head", 1, 0)]


def log_odds_by_hand(opened: OpenModel, replaced: dict[str, object]) -> np.ndarray:
    """Log odds of the right answer on every out-of-domain example, under named hooks."""
    split = opened.data.ood
    out = np.zeros(len(split.examples))
    for batch in split.batches:
        with torch.no_grad(), opened.model.hooks(fwd_hooks=list(replaced.items())):
            p = forward(opened.model, batch).double().softmax(-1)
        right = (p * split.accept[batch.index]).sum(-1)
        out[batch.index] = (right.log() - (1 - right).log()).numpy()
    return out


def mean_of_head(opened: OpenModel, site: Site) -> torch.Tensor:
    """The head's mean z over the real tokens of the mask examples."""
    rows = []
    for batch in opened.data.mask_batches:
        seen = {}
        name = f"blocks.{site.layer}.attn.hook_z"
        with torch.no_grad(), opened.model.hooks(
            fwd_hooks=[(name, lambda value, hook, seen=seen: seen.update(z=value))]
        ):
            forward(opened.model, batch)
        rows.append(seen["z"][batch.attention_mask.bool()][:, site.index])
    return torch.cat(rows).double().mean(0).float()


def test_paths_equal_hooks_written_by_hand(opened):
    data, groups = opened.data, opened.data.score_groups
    table = dependence(opened, CORE, EXTRA, data.ood, groups, 3, 0).set_index("path")
    mean = {site: mean_of_head(opened, site) for site in (*CORE, *EXTRA)}

    def close(site):
        def hook(value, hook):
            value = value.clone()
            value[:, :, site.index] = mean[site]
            return value

        return hook

    name = {site: f"blocks.{site.layer}.attn.hook_z" for site in (*CORE, *EXTRA)}
    full = log_odds_by_hand(opened, {})
    extra_closed = log_odds_by_hand(opened, {name[EXTRA[0]]: close(EXTRA[0])})
    path = np.zeros_like(full)
    for batch in data.ood.batches:  # its z with the core closed, in a clean run
        seen = {}
        with torch.no_grad(), opened.model.hooks(fwd_hooks=[
            (name[CORE[0]], close(CORE[0])),
            (name[EXTRA[0]], lambda value, hook, seen=seen: seen.update(z=value[:, :, 0])),
        ]):
            forward(opened.model, batch)

        def put(value, hook, seen=seen):
            value = value.clone()
            value[:, :, 0] = seen["z"]
            return value

        with torch.no_grad(), opened.model.hooks(fwd_hooks=[(name[EXTRA[0]], put)]):
            p = forward(opened.model, batch).double().softmax(-1)
        right = (p * data.ood.accept[batch.index]).sum(-1)
        path[batch.index] = (right.log() - (1 - right).log()).numpy()

    def drop(values):
        return np.mean([(full - values)[data.ood.rows[g]].mean() for g in groups])

    assert table.loc["core -> further heads", "drop"] == pytest.approx(drop(path), abs=1e-5)
    assert table.loc["core -> 1.0", "drop"] == pytest.approx(drop(path), abs=1e-5)
    assert table.loc["further heads closed", "drop"] == pytest.approx(drop(extra_closed), abs=1e-5)
    assert abs(drop(path)) > 1e-4
    assert (table.low <= table["drop"] + 1e-9).all()
    assert (table["drop"] <= table.high + 1e-9).all()


def test_heads_of_the_first_layer_receive_nothing(opened):
    data = opened.data
    table = dependence(
        opened, [Site("head", 1, 0)], [Site("head", 0, 0)], data.ood, data.score_groups, 2, 0
    ).set_index("path")
    assert table.loc["core -> further heads", "drop"] == 0
    assert table.loc["further heads closed", "drop"] != 0


def test_random_senders_lie_in_the_cores_layers_and_are_no_further_heads():
    grid = SiteGrid(2, 4)
    core = [Site.parse(s) for s in ("0.0", "0.1", "1.2")]
    extra = [Site.parse(s) for s in ("0.3", "1.3")]
    sets = sender_sets(grid, core, extra, 40, 1)
    for heads in sets:
        assert sorted(site.layer for site in heads) == [0, 0, 1]
        assert len(set(heads)) == 3
        assert not set(heads) & set(extra)
    assert len({frozenset(heads) for heads in sets}) > 4
    assert sets == sender_sets(grid, core, extra, 40, 1)
