"""Intervals, tests and nulls; numpy and scipy only."""

from mechprobe.stats.corrections import benjamini_hochberg, holm
from mechprobe.stats.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_statistic,
    t_interval,
    wilson,
)
from mechprobe.stats.overlap import (
    OverlapTest,
    core_distribution,
    core_size,
    expected_core,
    jaccard_matrix,
    mean_jaccard,
    members_needed,
    overlap_null,
    overlap_test,
)
from mechprobe.stats.permutation import empirical_p, permutation_p
from mechprobe.stats.resample import central, resample_counts, resampled_scores
from mechprobe.stats.signs import sign_flip_p
from mechprobe.stats.spread import Spread, excess_spread, excess_spread_separate

__all__ = [
    "Interval",
    "OverlapTest",
    "Spread",
    "benjamini_hochberg",
    "bootstrap_mean",
    "bootstrap_statistic",
    "central",
    "core_distribution",
    "core_size",
    "empirical_p",
    "excess_spread",
    "excess_spread_separate",
    "expected_core",
    "holm",
    "jaccard_matrix",
    "mean_jaccard",
    "members_needed",
    "overlap_null",
    "overlap_test",
    "permutation_p",
    "resample_counts",
    "resampled_scores",
    "sign_flip_p",
    "t_interval",
    "wilson",
]
