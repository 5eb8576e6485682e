"""Metrics over the layers of a model, one line a submodule, beside untrained models and levels."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mechprobe.figures.style import (
    COLOURS,
    GREY,
    INK,
    LINES,
    MARKERS,
    PAGE,
    dress,
    error_bars,
    legend_below,
    new_figure,
    require,
)


def layer_curves(
    table: pd.DataFrame,
    panels: Mapping[str, str],
    *,
    model: str = "trained",
    control: str = "untrained",
    levels: Mapping[str, Mapping[str, float]] | None = None,
    bars: str = "95 % interval over sentences",
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """One panel a metric: its value at each layer of each submodule.

    Args:
        table: columns model, metric, part (the submodule), layer, value, low, high.
        panels: metric -> what its axis says.
        model: drawn in colour; ``control`` is drawn in grey with the same markers.
        levels: by metric, horizontal lines by name (a baseline that has no layers).
        bars: what the bars show.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, ["model", "metric", "part", "layer", "value", "low", "high"], "layer_curves")
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    figure = new_figure(width, rows * 0.33 * width + 0.4)
    parts = list(dict.fromkeys(table["part"]))
    for i, (metric, label) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        dress(axes, title="" if i else title, x="layer", y=label, grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        own = table.query("metric == @metric")
        for place, part in enumerate(parts):
            for name in (control, model):
                rows_here = own.query("model == @name and part == @part")
                _line(axes, rows_here, place, name=f"{part}, {name}", grey=name == control)
        for place, (name, value) in enumerate((levels or {}).get(metric, {}).items()):
            axes.axhline(value, color=INK, linewidth=0.8, linestyle=LINES[1 + place], label=name)
    legend_below(figure, figure.axes[0], note=f"bars: {bars}")
    return figure


def _line(axes: Axes, rows: pd.DataFrame, place: int, *, name: str, grey: bool) -> None:
    if rows.empty:
        return
    rows = rows.sort_values("layer").rename(columns={"low": "value_low", "high": "value_high"})
    colour = GREY if grey else COLOURS[place % len(COLOURS)]
    axes.errorbar(
        rows["layer"].to_numpy(float) + 0.06 * place, rows["value"].to_numpy(float),
        yerr=error_bars(rows, "value"), color=colour, marker=MARKERS[place % len(MARKERS)],
        linestyle=LINES[place % len(LINES)], markersize=3, linewidth=0.8 if grey else 1.2,
        elinewidth=0.6, capsize=1.2, label=name, zorder=2 if grey else 3, alpha=0.8,
    )
