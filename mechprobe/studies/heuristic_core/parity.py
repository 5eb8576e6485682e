"""The published table with soft gates, as Bhaskar et al. 2024 score their subnetworks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.heuristic_core.data import group_means, ood_score, part_of, scored
from mechprobe.studies.heuristic_core.search import OpenModel, Plan, read_set


def soft_unit(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Score a plan's soft gates on the scored sub-cases, table ``tables/soft-gates-*.csv``.

    One row a subnetwork: accuracy in domain, out of domain and by scored sub-case, all in [0, 1].
    Soft gates lie in [0, 1]; the expected number of each mask tensor is closed (section 3). Every
    other table uses binary gates.
    """
    data, found = opened.data, read_set(run, plan)
    rows, _ = scored(data.ood, data.score_groups)
    outside = part_of(data, data.ood, rows.tolist(), opened.settings)
    gates = np.stack([member.soft for member in found])
    dev = opened.correct(gates, data.dev, "soft gates in domain")
    ood = opened.correct(gates, outside, "soft gates out of domain")
    score, means = ood_score(ood, outside, data.score_groups), group_means(ood, outside)
    run.write_table(f"tables/soft-gates-sparsity-{plan.sparsity:g}.csv", pd.DataFrame({
        "seed": [member.seed for member in found],
        "closed": (gates == 0).mean(1),
        "in_domain": dev.mean(1),
        "out_of_domain": score,
        **{group: means[group] for group in data.score_groups},
    }))
    return {"subnetworks": len(found)}


def parity_table(soft: pd.DataFrame, binary: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """Soft beside binary gates: mean, sd, lowest and highest accuracy of each column."""
    columns = [name for name in soft.columns if name not in ("seed", "closed")]
    return pd.DataFrame([
        {
            "sparsity": sparsity, "gates": gates, "accuracy": name,
            "mean": part[name].mean(), "sd": part[name].std(ddof=1),
            "low": part[name].min(), "high": part[name].max(),
        }
        for name in columns for gates, part in (("soft", soft), ("binary", binary))
    ])
