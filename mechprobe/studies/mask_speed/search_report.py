"""The page's part on whole searches, from ``masks-search.json``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mechprobe.studies.mask_speed.search import differences, ratios

Row = dict[str, Any]


def search_lines(found: Row | None) -> list[str]:
    """Markdown lines; says what was not measured."""
    lines = ["## Time to 12 subnetworks", ""]
    if found is None:
        return [*lines, "not measured", ""]
    published: list[Row] = found["published"]
    closed = round(found["sparsity"] * found["sites"])
    lines += [
        f"The laptop preset's nli/overlap model; {closed} of {found['sites']} gates closed in "
        f"every binary subnetwork; KL from the full model on {found['held_out']} held-out "
        f"examples; {found['threads']} thread, torch {found['torch']}. The published search "
        "(Bhaskar et al. 2024) is run whole, one subnetwork a run, the full model in every "
        "micro-batch; "
        "\"scaled to 12\" is 12 times a run. Ours trains 12 members together.",
        "",
        "| search | steps | seconds for 12 subnetworks | KL, mean (sd) | accuracy | "
        "kept sites alike (Jaccard) | KL less the published one's, same seeds | "
        "published, scaled to 12, takes times |",
        "| --- " * 8 + "|",
    ]
    if published:
        many = [12 * row["seconds"] for row in published]
        kl = [row["kl"] for row in published]
        lines.append(
            f"| published, {len(published)} complete runs | {published[0]['steps']} x "
            f"{published[0]['accumulation']} | {_range(many, 0)} scaled to 12 | {_mean(kl)} | "
            f"{statistics.mean(row['accuracy'] for row in published):.3f} | | | 1 |"
        )
    else:
        lines.append("| published | | not measured | | | | | |")
    for name, row in found["ours"].items():
        gap, times = differences(row, published), ratios(row, published)
        lines.append(
            f"| {name} | {row['steps']} | {_range(row['seconds'], 1)} | {_mean(row['kl'])} | "
            f"{statistics.mean(row['accuracy']):.3f} | {row['alike']:.2f} | "
            f"{_range(gap, 3) if gap else 'not measured'} | "
            f"{_range(times, 0) if times else 'not measured'} |"
        )
    step = 1e3 * statistics.median(found["published_step"])
    return [*lines, "", f"A published micro-batch beside ours took {step:.1f} ms.", ""]


def _range(values: Sequence[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _mean(values: Sequence[float]) -> str:
    spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"
