"""Counterfactual head edits: open or close each head of a subnetwork, and see who generalises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mechprobe.locate.subnetworks import Subnetwork
from mechprobe.sites import Site
from mechprobe.stats import central, holm, resampled_scores
from mechprobe.studies.heuristic_core.data import Split, ood_score, scored
from mechprobe.studies.heuristic_core.search import OpenModel


def head_edits(
    opened: OpenModel, member: Subnetwork, core: Sequence[Site], dev: Split, ood: Split,
    score_groups: Sequence[str], name: str,
) -> pd.DataFrame:
    """Flip each head's gate in one subnetwork and measure both accuracies.

    One row a head: edit ("add" a closed head, "remove" an open one), whether the head is in the
    core, change in domain and out of domain (accuracy, 0 to 1) with 95 % bootstrap intervals over
    examples (``_low``, ``_high``), and out of domain an exact McNemar test on the scored sub-cases
    with Holm correction over heads (Bhaskar et al. 2024, section 5).
    """
    heads = [site for site in opened.grid.sites if site.kind == "head"]
    gates = np.repeat(member.binary[None], len(heads) + 1, axis=0)
    for row, site in enumerate(heads, start=1):
        column = opened.grid.index(site)
        gates[row, column] = not gates[row, column]
    in_domain = opened.correct(gates, dev, f"head edits of {name}, in domain")
    outside = opened.correct(gates, ood, f"head edits of {name}, out of domain")
    chosen, strata = scored(ood, score_groups)
    score = ood_score(outside, ood, score_groups)
    p = [mcnemar_p(outside[0, chosen], outside[row, chosen]) for row in range(1, len(gates))]
    seed, n = opened.settings.seed, opened.settings.n_null
    low_in, high_in = central(resampled_scores(in_domain[1:] - in_domain[0], seed=seed, n=n))
    change = outside[1:, chosen] - outside[0, chosen]
    low_out, high_out = central(resampled_scores(change, strata, seed=seed, n=n))
    return pd.DataFrame({
        "subnetwork": name,
        "head": [str(site) for site in heads],
        "edit": ["remove" if member.binary[opened.grid.index(s)] else "add" for s in heads],
        "in_core": [site in set(core) for site in heads],
        "in_domain_change": in_domain[1:].mean(1) - in_domain[0].mean(),
        "in_domain_low": low_in, "in_domain_high": high_in,
        "out_of_domain_change": score[1:] - score[0],
        "out_of_domain_low": low_out, "out_of_domain_high": high_out,
        "p": p,
        "p_corrected": holm(np.array(p)),
    })


def mcnemar_p(before: np.ndarray, after: np.ndarray) -> float:
    """Exact two-sided McNemar test that two paired 0/1 outcomes have equal accuracy."""
    gained = int(((after > 0) & (before == 0)).sum())
    lost = int(((after == 0) & (before > 0)).sum())
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)
