"""Accuracy and effective size along a line: over sparsity, over training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    INK,
    LINES,
    MARKERS,
    TICK,
    dress,
    error_bars,
    legend_below,
    named,
    new_figure,
    require,
)


def sparsity_curve(
    table: pd.DataFrame,
    conditions: Sequence[str] | Mapping[str, str] = ("in_domain", "out_of_domain"),
    *,
    members: pd.DataFrame | None = None,
    full: Mapping[str, float] | None = None,
    bars: str = "95 % interval",
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """Accuracy in percent against the share of sites closed, one line a condition.

    Args:
        table: one row a sparsity; columns "sparsity" and one per condition, all in [0, 1], with
            ``<condition>_low`` and ``<condition>_high`` for the ends of its bar.
        members: one row a subnetwork with the same columns, drawn as faint points.
        full: the untouched model's accuracy per condition, drawn at 0 % closed and as a thin line.
        bars: what the bars show; it stands over the legend.

    Raises:
        InputError: a missing column, or no rows.
    """
    names = named(conditions)
    require(table, ["sparsity", *names], "sparsity_curve")
    table = table.sort_values("sparsity")
    figure = new_figure(width, 0.72 * width)
    axes = dress(
        figure.add_subplot(), title=title, x="heads and MLPs closed (%)", y="accuracy (%)",
        grid="y",
    )
    for i, (column, name) in enumerate(names.items()):
        _line(axes, table, "sparsity", column, name, i, 100)
        if members is not None:
            axes.plot(
                100 * members["sparsity"], 100 * members[column], MARKERS[i], alpha=0.3,
                color=COLOURS[i], markersize=2.2, markeredgewidth=0, zorder=2,
            )
        if full is not None and column in full:
            axes.axhline(
                100 * full[column], color=COLOURS[i], linewidth=0.7, linestyle=LINES[i], alpha=0.7
            )
            axes.plot(
                0, 100 * full[column], MARKERS[i], color=INK, markersize=4.5, zorder=4,
                clip_on=False, label="full model" if i == 0 else None,
            )
    axes.set_ylim(-2, 102)
    axes.set_xlim(left=0 if full is not None else None)
    legend_below(figure, axes, note=_note(table, names, bars))
    return figure


def emergence(
    table: pd.DataFrame,
    *,
    accuracy: Sequence[str] | Mapping[str, str] = ("in_domain", "out_of_domain"),
    size: Sequence[str] | Mapping[str, str] = (),
    bars: str = "95 % interval",
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """Accuracies, and below them effective sizes, over training steps; both in percent.

    Args:
        table: one row a training step; columns "step" and those named, in [0, 1], with
            ``<column>_low`` and ``<column>_high`` where they have an interval.
        accuracy: columns of the upper panel, or column -> shown name.
        bars: what the bars show; it stands over the legend.
        size: columns of the lower panel (share of sites a subnetwork needs); none: no panel.

    Raises:
        InputError: a missing column, or no rows.
    """
    above, below = named(accuracy), named(size)
    require(table, ["step", *above, *below], "emergence")
    table = table.sort_values("step")
    panels = [(above, "accuracy (%)"), *([(below, "effective size (%)")] if below else [])]
    figure = new_figure(width, 0.5 + (0.55 if len(panels) == 1 else 0.42) * width * len(panels))
    first: Axes | None = None
    for i, (names, label) in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, i + 1, sharex=first)
        last = i == len(panels) - 1
        dress(
            axes, title="" if i else title, x="training step" if last else "", y=label, grid="y"
        )
        for j, (column, name) in enumerate(names.items()):
            _line(axes, table, "step", column, name, j, 1)
        axes.set_ylim(-3, 103)
        axes.tick_params(labelbottom=last)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        first = first or axes
    if list(below.values()) not in ([], list(above.values())):
        for axes in figure.axes[1:]:
            axes.legend(fontsize=TICK, frameon=False, loc="best")
    legend_below(figure, figure.axes[0], note=_note(table, [*above, *below], bars))
    return figure


def _line(
    axes: Axes, table: pd.DataFrame, x: str, column: str, name: str, i: int, scale: int
) -> None:
    colour = COLOURS[i % len(COLOURS)]
    at = scale * table[x].to_numpy(float)
    values = np.unique(at)
    gap = min(np.diff(values).min(), np.ptp(values) / 4) if len(values) > 1 else scale
    axes.errorbar(
        at + 0.04 * gap * i, 100 * table[column].to_numpy(float),
        yerr=100 * error_bars(table, column), color=colour, marker=MARKERS[i % len(MARKERS)],
        linestyle=LINES[i % len(LINES)], markersize=3.5, linewidth=1.2, elinewidth=0.8,
        capsize=1.5, label=name, zorder=3,
    )


def _note(table: pd.DataFrame, columns: Iterable[str], bars: str) -> str:
    """What the bars show, when there are any."""
    return f"bars: {bars}" if any(f"{c}_low" in table.columns for c in columns) else ""
