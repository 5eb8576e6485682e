"""Training seen through ideal observers: distances to each, and the staircase of the closest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    FAINT,
    LINES,
    MARKERS,
    dress,
    legend_below,
    new_figure,
    require,
)


def staircase(
    stairs: Mapping[str, pd.DataFrame],
    *,
    rungs: int,
    ylabel: str = "closest observer",
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """The closest rung against sequences seen (log scale), one line a model.

    Args:
        stairs: by shown name, one row a checkpoint; columns "sequences", "closest" and, if known,
            "share" (how sure the choice is; faint below .95). Rows without sequences are left out.
        rungs: how many there are.

    Raises:
        InputError: a missing column, or no rows.
    """
    figure = new_figure(width, 0.72 * width)
    axes = dress(
        figure.add_subplot(), title=title, x="training sequences", y=ylabel, grid="y"
    )
    for i, (name, table) in enumerate(stairs.items()):
        require(table, ["sequences", "closest"], "staircase")
        table = table.loc[table["sequences"] > 0].sort_values(by="sequences")
        x, y = table["sequences"].to_numpy(float), table["closest"].to_numpy(float)
        y = y + 0.06 * (i - (len(stairs) - 1) / 2)
        colour = COLOURS[i % len(COLOURS)]
        axes.step(x, y, where="post", color=colour, linewidth=1.1, linestyle=LINES[i % len(LINES)])
        sure = table["share"].to_numpy(float) if "share" in table else np.ones(len(x))
        for chosen, alpha, label in ((sure >= 0.95, 1.0, name), (sure < 0.95, 0.35, None)):
            axes.plot(
                x[chosen], y[chosen], MARKERS[i % len(MARKERS)], color=colour, markersize=3.8,
                alpha=alpha, label=label,
            )
    axes.set_xscale("log")
    axes.set_ylim(-0.4, rungs - 0.6)
    axes.set_yticks(range(rungs))
    legend_below(figure, axes, note="faint: another is as close in 5 % of resamples or more")
    return figure


def training_curves(
    panels: Mapping[str, pd.DataFrame],
    curves: Mapping[str, str],
    *,
    ylabel: str,
    least: bool = False,
    log_y: bool = False,
    width: float = COLUMN,
) -> Figure:
    """Quantities against sequences seen (log scale), one panel a table, one line a column.

    Args:
        panels: by title; column "sequences" and those of ``curves``. Rows without sequences are
            left out.
        curves: column -> shown name.
        least: mark the smallest of each row.

    Raises:
        InputError: a missing column, or no rows.
    """
    figure = new_figure(width, 0.35 + 0.55 * width * len(panels))
    first: Axes | None = None
    for i, (title, table) in enumerate(panels.items()):
        require(table, ["sequences", *curves], "training_curves")
        table = table.loc[table["sequences"] > 0].sort_values(by="sequences")
        last = i == len(panels) - 1
        axes = figure.add_subplot(len(panels), 1, i + 1, sharex=first)
        dress(axes, title=title, x="training sequences" if last else "", y=ylabel, grid="y")
        _lines(axes, table, curves, least)
        axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelbottom=last)
        first = first or axes
    note = "dark dots: the least" if least else ""
    legend_below(figure, figure.axes[0], note=note)
    return figure


def _lines(axes: Axes, table: pd.DataFrame, curves: Mapping[str, str], least: bool) -> None:
    x = table["sequences"].to_numpy(float)
    values = table[list(curves)].to_numpy(float)
    for j, name in enumerate(curves.values()):
        axes.plot(
            x, values[:, j], color=COLOURS[j % len(COLOURS)], linestyle=LINES[j % len(LINES)],
            linewidth=1.2, label=name,
        )
    if least:
        best = values.argmin(1)
        axes.scatter(
            x, values[np.arange(len(x)), best], s=14, zorder=4,
            c=[COLOURS[j % len(COLOURS)] for j in best], edgecolors="black", linewidths=0.4,
        )
    else:
        axes.axhline(0, color=FAINT, linewidth=0)
