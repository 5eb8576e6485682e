"""Attention by the height at which query and key meet, and attention maps beside ideal ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    INK,
    PAGE,
    SMALL,
    TICK,
    colour_bar,
    dress,
    legend_below,
    new_figure,
    plain,
    require,
)


def mass_by_height(
    table: pd.DataFrame, *, title: str = "", rows: str = "layer", width: float = COLUMN
) -> Figure:
    """Share of attention at each height, one stacked bar a layer or head, uniform at the bottom.

    Args:
        table: one row a layer (or head), column ``rows`` and columns "height_0", "height_1", ...

    Raises:
        InputError: a missing column, or no rows.
    """
    columns = [c for c in table.columns if c.startswith("height_")]
    require(table, [rows, *(columns or ["height_0"])], "mass_by_height")
    figure = new_figure(width, 0.9 + 0.24 * len(table))
    axes = dress(figure.add_subplot(), title=title, x="share of attention", y=rows)
    names = [str(name) for name in table[rows]]
    left = np.zeros(len(table))
    for i, column in enumerate(columns):
        share = table[column].to_numpy(float)
        axes.barh(
            range(len(table)), share, left=left, height=0.72, color=COLOURS[i % len(COLOURS)],
            label="itself" if column == "height_0" else f"height {column.split('_')[1]}",
        )
        left = left + share
    axes.set_yticks(range(len(table)), [plain(name) for name in names])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    legend_below(figure, axes)
    return figure


def enrichment_by_height(
    tables: Mapping[str, pd.DataFrame], *, title: str = "", width: float = COLUMN
) -> Figure:
    """The strongest head's attention at each height over uniform (log scale), one line a model.

    Args:
        tables: by shown name; columns "height", "enrichment", "low", "high".

    Raises:
        InputError: a missing column, or no rows.
    """
    figure = new_figure(width, 0.72 * width)
    axes = dress(
        figure.add_subplot(), title=title, x="height of the common ancestor",
        y="attention / uniform", grid="y",
    )
    for i, (name, table) in enumerate(tables.items()):
        require(table, ["height", "enrichment", "low", "high"], "enrichment_by_height")
        x = table["height"].to_numpy(float) + 0.05 * (i - (len(tables) - 1) / 2)
        y = table["enrichment"].to_numpy(float)
        error = np.clip(np.stack([y - table["low"], table["high"] - y]), 0, None)
        axes.errorbar(
            x, y, yerr=error, marker="o", markersize=3.5, linewidth=1.1, elinewidth=0.8,
            capsize=1.5, color=COLOURS[i % len(COLOURS)], label=name,
        )
    axes.axhline(1, color=INK, linewidth=0.6, linestyle=":")
    axes.set_yscale("log")
    heights = sorted({int(h) for table in tables.values() for h in table["height"]})
    axes.set_xticks(heights, [str(h) for h in heights])
    legend_below(figure, axes, note="dotted: uniform attention; bars: 95 % interval")
    return figure


def attention_maps(
    maps: Mapping[str, Sequence[Float[np.ndarray, "query key"]]],
    names: Sequence[str],
    *,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """Rows of attention maps: a model's mean maps above the ideal maps, say.

    Args:
        maps: by the row's name, as many square maps as it has.
        names: of the columns.

    Raises:
        InputError: no maps, or more maps in a row than names.
    """
    if not maps or not all(0 < len(row) <= len(names) for row in maps.values()):
        raise InputError(
            f"rows of {[len(row) for row in maps.values()]} maps for {len(names)} names; give one "
            "to as many maps a row"
        )
    side = (width - 1.2) / len(names)
    figure = new_figure(width, 0.4 + (side + 0.12) * len(maps))
    scale = ScalarMappable(Normalize(0, 1), colormaps["Blues"])
    panels = []
    for i, (row, found) in enumerate(maps.items()):
        for j, values in enumerate(found):
            axes = figure.add_subplot(len(maps), len(names), i * len(names) + j + 1)
            axes.imshow(values, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_linewidth(0.4)
            if i == 0:
                axes.set_title(plain(names[j]), fontsize=TICK, color=INK)
            if j == 0:
                axes.set_ylabel(plain(row, 18), fontsize=SMALL + 0.5, color=INK)
            panels.append(axes)
    if title:
        figure.suptitle(plain(title), fontsize=TICK + 1, color=INK, x=0.02, ha="left")
    colour_bar(figure, panels, scale, "attention")
    return figure
