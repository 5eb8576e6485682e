"""How much subnetworks of one model differ out of domain, beyond what sampling explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.stats import bootstrap_statistic, excess_spread
from mechprobe.studies.heuristic_core.data import Split, group_means, halves, ood_score


def member_rows(
    name: Mapping[str, object], found: SubnetworkSet, dev: np.ndarray, outside: np.ndarray,
    ood: Split, score_groups: Sequence[str],
) -> list[dict[str, object]]:
    """One row a subnetwork: where it comes from, its size, accuracies in [0, 1] by sub-case."""
    score, means = ood_score(outside, ood, score_groups), group_means(outside, ood)
    return [
        {
            **name, "seed": member.seed, "sparsity": member.sparsity_target,
            "reached": member.sparsity, "heads_kept": len(member.heads),
            "mlps_kept": len(member.mlps), "in_domain": dev[i].mean(),
            "out_of_domain": score[i], **{group: value[i] for group, value in means.items()},
        }
        for i, member in enumerate(found)
    ]


def spread(
    dev: np.ndarray, outside: np.ndarray, full_dev: np.ndarray, full_outside: np.ndarray,
    ood: Split, score_groups: Sequence[str], seed: int, n_boot: int,
) -> dict[str, int | float]:
    """Spread of K subnetworks of one model (outcomes [k, example], the full model's [1, example]).

    ``range`` is the highest minus the lowest out-of-domain score. Because a maximum is biased
    upwards, ``gap`` picks best and worst member on one half of the examples and compares them on
    the other half, with a bootstrap interval over examples. ``p_excess`` tests the hypothesis
    that all members have one accuracy and differ by sampling alone.
    """
    score = ood_score(outside, ood, score_groups)
    scored = np.concatenate([ood.rows[group] for group in score_groups])
    pick, report = halves(ood)
    pick, report = np.intersect1d(pick, scored), np.intersect1d(report, scored)
    chosen = outside[:, pick].mean(1)
    best, worst = int(chosen.argmax()), int(chosen.argmin())
    difference = outside[best, report] - outside[worst, report]
    gap = bootstrap_statistic(difference, np.mean, seed=seed, n=n_boot)
    strata = np.array(ood.examples.group)[scored]
    excess = excess_spread(outside[:, scored], strata, seed=seed)
    return {
        "subnetworks": float(len(score)),
        "full_in_domain": float(full_dev.mean()),
        "in_domain": float(dev.mean()),
        "in_domain_sd": float(dev.mean(1).std(ddof=1)) if len(dev) > 1 else 0.0,
        "in_domain_low": float(dev.mean(1).min()),
        "in_domain_high": float(dev.mean(1).max()),
        "full_out_of_domain": float(ood_score(full_outside, ood, score_groups)[0]),
        "out_of_domain": float(score.mean()),
        "out_of_domain_sd": float(score.std(ddof=1)) if len(score) > 1 else 0.0,
        "out_of_domain_low": float(score.min()),
        "out_of_domain_high": float(score.max()),
        "range": float(np.ptp(score)),
        "gap": gap.estimate, "gap_low": gap.low, "gap_high": gap.high,
        "sampling_sd": excess.sampling_sd, "p_excess": excess.p,
    }


def group_table(rows: pd.DataFrame, full: dict[str, float], groups: Sequence[str]) -> pd.DataFrame:
    """Accuracy by sub-case at each sparsity: mean, sd, lowest and highest member, full model."""
    out = []
    for sparsity, part in rows.groupby("sparsity"):
        for group in groups:
            out.append({
                "sparsity": sparsity, "sub-case": group, "full": full[group],
                "mean": part[group].mean(), "sd": part[group].std(ddof=1),
                "low": part[group].min(), "high": part[group].max(),
            })
    return pd.DataFrame(out)
