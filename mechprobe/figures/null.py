"""What was observed, beside what chance gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    FAINT,
    GREY,
    INK,
    SMALL,
    dress,
    legend_below,
    name_rows,
    new_figure,
    require,
)

NEEDED = ("observed", "expected", "null_low", "null_high", "p")


def bars_with_null(
    table: pd.DataFrame,
    *,
    label: str = "null",
    panel: str | None = "statistic",
    scale: float | int = 1,
    unit: str = "",
    title: str = "",
    null: str = "chance (mean, central 95 %)",
    width: float = COLUMN,
) -> Figure:
    """Observed values as points, the null's central range as bars, p at the right; rows by label.

    Args:
        table: columns observed, expected, null_low, null_high, p, the label's, and the panel's;
            ``SubnetworkSet.overlap()`` gives such a table.
        label: column that names the rows.
        panel: column whose values get a panel each, with their own axis; None: one panel.
        scale: factor on all values (100 for percent); ``unit`` then says so.
        null: what the bars show, for the legend.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, [*NEEDED, label, *([panel] if panel else [])], "bars_with_null")
    parts = [(unit, table)] if panel is None else [
        (" ".join(filter(None, [str(key), unit])), part)
        for key, part in table.groupby(panel, sort=False)
    ]
    heights = [0.24 * len(part) + 0.5 for _, part in parts]
    figure = new_figure(width, sum(heights) + 0.3 + 0.2 * bool(title))
    grid = figure.add_gridspec(len(parts), 1, height_ratios=heights)
    for i, (name, part) in enumerate(parts):
        axes = figure.add_subplot(grid[i])
        dress(axes, title="" if i else title, x=name, grid="x")
        _rows(axes, part.reset_index(drop=True), label, scale, null)
    legend_below(figure, figure.axes[0])
    return figure


def p_text(p: float) -> str:
    """A p-value in words that fit a margin; empty when there is none."""
    if np.isnan(p):
        return ""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def _rows(axes: Axes, part: pd.DataFrame, label: str, scale: float | int, null: str) -> None:
    y = np.arange(len(part))
    name_rows(axes, [str(name) for name in part[label]])
    low, high = scale * part["null_low"], scale * part["null_high"]
    axes.barh(y, high - low, left=low, height=0.5, color=FAINT, edgecolor=GREY, linewidth=0.5,
              label=null, zorder=2)
    expected = scale * part["expected"]
    axes.vlines(expected, y - 0.25, y + 0.25, color=GREY, linewidth=1.4, zorder=3)
    axes.plot(
        scale * part["observed"], y, "D", color=COLOURS[1], markersize=4.5, zorder=4,
        label="observed", clip_on=False,
    )
    values = scale * part[["observed", "expected", "null_low", "null_high"]].to_numpy(float)
    least, most = np.nanmin(values), np.nanmax(values)
    margin = 0.06 * ((most - least) or abs(most) or 1.0)
    axes.set_xlim(-margin / 3 if 0 <= least <= 3 * margin else least - margin, most + margin)
    whole = np.allclose(part["observed"] * scale % 1, 0) and most > 1
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    for place, p in enumerate(part["p"]):
        axes.text(
            1.02, place, p_text(float(p)), transform=axes.get_yaxis_transform(), va="center",
            fontsize=SMALL, color=INK,
        )
