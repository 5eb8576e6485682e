"""The report's attention view: the core's heads on one pair, as the model has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.models import attention_patterns
from mechprobe.runs import Run
from mechprobe.show.kept_view import read_view
from mechprobe.studies.heuristic_core.analysis import attention_unit, view_file
from mechprobe.studies.heuristic_core.search import Plan


@pytest.mark.parametrize("kept", [("0.0 1.1 mlp.0", "0.1 1.1"), ("0.0", "0.1")])
def test_the_view_shows_the_cores_attention_on_the_first_pair(opened, make_net, tmp_path, kept):
    plan = Plan(0, 1, 0.5, len(kept))
    nets = SubnetworkSet(tuple(make_net(names, opened.grid, i) for i, names in enumerate(kept)))
    with Run.open(tmp_path / "run", {"study": "heuristic-core"}) as run:
        nets.save(run.path(f"subnetworks/{plan.name}"))
        core = attention_unit(opened, run, plan)["core"]
    path = tmp_path / "run" / view_file(plan)
    if not core:
        assert not path.exists()
        return
    assert core == ["1.1"]
    (panel,) = read_view(path).panels
    assert panel.props["attentionHeadNames"] == core
    batch = opened.data.dev.batches[0]
    n = int(batch.attention_mask[0].sum())
    with torch.no_grad():
        pattern = attention_patterns(opened.model, batch)[1][0, 1, :n, :n].numpy()
    assert np.abs(np.array(panel.props["attention"][0]) - pattern).max() <= 0.0006
    assert len(panel.props["tokens"]) == n
