"""How much of a behaviour nested sets keep, and how much is left without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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


def faithfulness_curve(
    table: pd.DataFrame,
    *,
    title: str = "",
    null: str = "random rankings (mean, central 95 %)",
    bars: str = "95 % interval",
    width: float = COLUMN,
) -> Figure:
    """Faithfulness and completeness against the share of sites, over random rankings.

    Args:
        table: one row a size, columns share, faithfulness, completeness (both with _low and _high),
            null, null_low, null_high.

    Raises:
        InputError: a missing column, or no rows.
    """
    curves = {"faithfulness": "the sites alone", "completeness": "all but the sites"}
    ends = [f"{name}_{end}" for name in curves for end in ("low", "high")]
    require(
        table, ["share", *curves, *ends, "null", "null_low", "null_high"], "faithfulness_curve"
    )
    figure = new_figure(width, 0.78 * width)
    axes = dress(
        figure.add_subplot(), title=title, x="sites (%)", y="share of the behaviour", grid="y"
    )
    at = 100 * table["share"].to_numpy(float)
    if not np.isnan(table["null"].to_numpy(float)).all():
        axes.fill_between(at, table["null_low"], table["null_high"], color=FAINT, zorder=1)
        axes.plot(at, table["null"], color=GREY, linewidth=1, linestyle=":", label=null, zorder=2)
    for i, (column, label) in enumerate(curves.items()):
        low, high = table[f"{column}_low"], table[f"{column}_high"]
        axes.fill_between(at, low, high, color=COLOURS[i], alpha=0.2, linewidth=0, zorder=3)
        axes.plot(
            at, table[column], color=COLOURS[i], marker="os"[i], markersize=2.5, linewidth=1.2,
            linestyle=["-", "--"][i], label=f"{label} ({bars})", zorder=4,
        )
    axes.axhline(1, color=GREY, linewidth=0.7, zorder=1)
    axes.set_xlim(0, 100)
    legend_below(figure, axes)
    return figure
