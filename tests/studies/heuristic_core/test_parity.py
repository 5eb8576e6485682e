"""The published table: soft gates scored as they are, beside binary ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.gates.reference import gated_logits
from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.runs import Run
from mechprobe.studies.heuristic_core.parity import parity_table, soft_unit
from mechprobe.studies.heuristic_core.search import Plan


def test_soft_gates_are_scored_as_they_are(opened, make_net, tmp_path):
    grid, plan = opened.grid, Plan(0, 1, 0.5, 2)
    rng = np.random.default_rng(0)
    members = tuple(
        replace(make_net("0.0 mlp.1", grid, i), soft=rng.random(len(grid)).astype(np.float32))
        for i in range(2)
    )
    with Run.open(tmp_path / "run", {}) as run:
        SubnetworkSet(members).save(run.path(f"subnetworks/{plan.name}"))
        soft_unit(opened, run, plan)
        table = run.read_table("tables/soft-gates-sparsity-0.5.csv")
    split = opened.data.ood
    for i, member in enumerate(members):
        right = {}
        for batch in split.batches:
            with torch.no_grad():
                logits = gated_logits(
                    opened.model, batch, torch.from_numpy(member.soft)[None], grid, opened.baseline
                )[0]
            for row, guess in zip(batch.index.tolist(), logits.argmax(-1).tolist(), strict=True):
                group = split.examples.group[row]
                right.setdefault(group, []).append(bool(split.accept[row, guess]))
        for group in opened.data.score_groups:
            assert table[group][i] == pytest.approx(np.mean(right[group]))
        expected = np.mean([np.mean(right[g]) for g in opened.data.score_groups])
        assert table.out_of_domain[i] == pytest.approx(expected)


def test_soft_stands_beside_binary():
    soft = pd.DataFrame({"seed": [0, 1], "closed": [0.4, 0.5], "in_domain": [0.8, 0.9]})
    binary = pd.DataFrame({"in_domain": [0.7, 0.7]})
    table = parity_table(soft, binary, 0.5).set_index(["accuracy", "gates"])
    assert table.loc[("in_domain", "soft"), "mean"] == pytest.approx(0.85)
    assert table.loc[("in_domain", "soft"), "sd"] == pytest.approx(np.sqrt(0.005))
    assert table.loc[("in_domain", "binary"), "high"] == pytest.approx(0.7)
