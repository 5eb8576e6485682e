"""Figures of transfer between tasks: what each procedure reaches, gains, memory and transfer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    INK,
    LINES,
    MARKERS,
    dress,
    legend_below,
    name_rows,
    new_figure,
    require,
)


def procedure_bars(table: pd.DataFrame, *, width: float = 2 * COLUMN) -> Figure:
    """Exact match of each procedure in distribution and in generalisation, a panel a way to learn.

    Args:
        table: columns adapt, procedure, and in_distribution and generalisation with their ``_low``
            and ``_high``, shares.

    Raises:
        InputError: a missing column, or no rows.
    """
    splits = ("in_distribution", "generalisation")
    columns = [f"{split}{end}" for split in splits for end in ("", "_low", "_high")]
    require(table, ["adapt", "procedure", *columns], "procedure_bars")
    panels = list(dict.fromkeys(table["adapt"]))
    figure = new_figure(width, 2.4)
    for i, adapt in enumerate(panels):
        part = pd.DataFrame(table[table["adapt"] == adapt])
        axes = dress(figure.add_subplot(1, len(panels), i + 1), title=adapt, grid="y",
                     y="exact match (%)" if i == 0 else "")
        at = np.arange(len(part))
        for k, split in enumerate(splits):
            value = 100 * part[split].to_numpy(float)
            low, high = (100 * part[f"{split}_{end}"].to_numpy(float) for end in ("low", "high"))
            axes.bar(at + 0.38 * (k - 0.5), value, 0.36, color=COLOURS[k],
                     label=split.replace("_", " "))
            axes.errorbar(at + 0.38 * (k - 0.5), value,
                          yerr=np.clip([value - low, high - value], 0, None),
                          fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
        name_rows(axes, list(part["procedure"]), axis="x")
        axes.set_ylim(0, 105)
        if i == len(panels) - 1:
            legend_below(figure, axes)
    return figure


def gains(table: pd.DataFrame, *, width: float = COLUMN) -> Figure:
    """Differences between procedures with their intervals, one row each.

    Args:
        table: columns adapt, test, difference, gain, low, high, shares.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, ["adapt", "test", "difference", "gain", "low", "high"], "gains")
    figure = new_figure(width, 0.6 + 0.32 * len(table))
    axes = dress(figure.add_subplot(), x="gain in generalisation (points)", grid="x")
    value = 100 * table["gain"].to_numpy(float)
    ends = [100 * table[end].to_numpy(float) for end in ("low", "high")]
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.errorbar(value, np.arange(len(table)),
                  xerr=np.clip([value - ends[0], ends[1] - value], 0, None), fmt="o", markersize=4,
                  color=COLOURS[0], elinewidth=1, capsize=2)
    rows = zip(table["test"], table["adapt"], table["difference"], strict=True)
    name_rows(axes, [f"{test}, {adapt}: {name}" for test, adapt, name in rows], width=34)
    return figure


def memory_and_transfer(table: pd.DataFrame, *, width: float = COLUMN) -> Figure:
    """Memory of the auxiliary task (%) and the gain it gives (points), a line a set.

    Args:
        table: columns set, step, memory, delta, shares.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, ["set", "step", "memory", "delta"], "memory_and_transfer")
    figure = new_figure(width, 0.8 * width)
    axes = dress(figure.add_subplot(), x="steps on the auxiliary task", y="% (gain: points)",
                 grid="y")
    for i, (_, part) in enumerate(table.groupby("set")):
        for k, (column, name) in enumerate(
            (("memory", "auxiliary pairs right"), ("delta", "gain in generalisation"))
        ):
            axes.plot(part["step"], 100 * part[column], color=COLOURS[k],
                      linestyle=LINES[i % len(LINES)], marker=MARKERS[i % len(MARKERS)],
                      markersize=3, linewidth=1.2, label=name if i == 0 else None)
    steps = sorted(set(table["step"]))
    axes.set_xscale("log")
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.set_xticks([], minor=True)
    axes.set_ylim(min(-5.0, 110 * float(table["delta"].to_numpy(float).min())), 105)
    legend_below(figure, axes, note="one line a set (its own vocabulary and weights)")
    return figure
