"""Effects of named components with their intervals, one or several methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    MARKERS,
    dress,
    error_bars,
    legend_below,
    name_rows,
    named,
    new_figure,
    require,
)


def site_effects(
    tables: Mapping[str, pd.DataFrame],
    *,
    top: int = 15,
    unit: str = "effect",
    title: str = "",
    bars: str = "95 % interval",
    width: float = COLUMN,
) -> Figure:
    """Points with interval bars, one row a site, one colour a table; hollow: not significant.

    Args:
        tables: by name; columns site, effect, low and high (or effect_low and effect_high),
            p_corrected, as ``Scores.table`` gives them. The rows shown are the first ``top`` of
            the first table; sites a table lacks are left out.

    Raises:
        InputError: no table, a missing column, or no rows.
    """
    needed = ["site", "effect", "effect_low", "effect_high", "p_corrected"]
    tables = {
        name: table.rename(columns={"low": "effect_low", "high": "effect_high"})
        for name, table in tables.items()
    }
    first = next(iter(tables.values()), pd.DataFrame())
    for table in tables.values() or [first]:
        require(table, needed, "site_effects")
    sites = [str(site) for site in first["site"][:top]]
    figure = new_figure(width, 0.2 * len(sites) * max(1.0, len(tables) / 2) + 0.9)
    axes = dress(figure.add_subplot(), title=title, x=unit.replace("_", " "), grid="x")
    name_rows(axes, sites)
    axes.axvline(0, color=GREY, linewidth=0.8)
    offsets = np.linspace(-0.3, 0.3, len(tables)) if len(tables) > 1 else [0.0]
    for i, ((key, name), offset) in enumerate(zip(named(list(tables)).items(), offsets,
                                                  strict=True)):
        table = tables[key].set_index("site")
        shown = [site for site in sites if site in table.index]
        rows = table.loc[shown]
        places = np.array([sites.index(site) for site in shown]) + offset
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.errorbar(
            rows["effect"], places, xerr=error_bars(rows, "effect"), fmt="none", ecolor=colour,
            elinewidth=0.8, capsize=1.5, zorder=2,
        )
        sure = rows["p_corrected"].to_numpy(float) < 0.05
        for chosen, face in ((sure, colour), (~sure, "white")):
            axes.plot(
                rows["effect"].to_numpy(float)[chosen], places[chosen], marker, color=colour,
                markerfacecolor=face, markersize=4, linestyle="none", zorder=3,
                label=name if face == colour and len(tables) > 1 else None,
            )
    note = f"bars: {bars}; filled: p < .05, corrected"
    if len(tables) > 1:
        legend_below(figure, axes, note=note)
    else:
        figure.supxlabel(note, fontsize=6, color=GREY)
    return figure
