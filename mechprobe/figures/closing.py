"""A metric while components are closed one after another, over what random orders give."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    FAINT,
    GREY,
    dress,
    legend_below,
    new_figure,
    require,
)


def closing_curve(
    table: pd.DataFrame,
    *,
    unit: str = "",
    title: str = "",
    null: str = "random orders (mean, central 95 %)",
    bars: str = "95 % interval",
    width: float = COLUMN,
) -> Figure:
    """The metric against the number of sites closed, with a band for its interval.

    Args:
        table: columns closed, value, low, high, null, null_low, null_high; one row a step.

    Raises:
        InputError: a missing column, or no rows.
    """
    columns = ["closed", "value", "low", "high", "null", "null_low", "null_high"]
    require(table, columns, "closing_curve")
    figure = new_figure(width, 0.72 * width)
    axes = dress(figure.add_subplot(), title=title, x="sites closed", y=unit, grid="y")
    at = table["closed"].to_numpy(float)
    axes.fill_between(at, table["null_low"], table["null_high"], color=FAINT, zorder=1)
    axes.plot(at, table["null"], color=GREY, linewidth=1, linestyle="--", label=null, zorder=2)
    axes.fill_between(
        at, table["low"], table["high"], color=COLOURS[0], alpha=0.25, linewidth=0, zorder=3
    )
    axes.plot(
        at, table["value"], color=COLOURS[0], marker="o", markersize=2.5, linewidth=1.2,
        label=f"this order ({bars})", zorder=4,
    )
    axes.set_xlim(0, at.max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure
