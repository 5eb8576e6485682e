"""Intervals, tests and nulls; numpy and scipy only."""

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

__all__ = [
    "OverlapTest",
    "core_distribution",
    "core_size",
    "empirical_p",
    "expected_core",
    "jaccard_matrix",
    "mean_jaccard",
    "members_needed",
    "overlap_null",
    "overlap_test",
    "permutation_p",
]
