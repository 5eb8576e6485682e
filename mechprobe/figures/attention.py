"""Where the heads of a core look, beside all other heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures.null import p_text
from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    INK,
    SMALL,
    dress,
    legend_below,
    name_rows,
    named,
    new_figure,
    require,
)


def attention_profile(
    heads: pd.DataFrame,
    kinds: Sequence[str] | Mapping[str, str],
    *,
    core: str = "in_core",
    p: Mapping[str, float] | None = None,
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """Share of attention per kind of target, a point a head, a tick the mean of its group.

    Args:
        heads: one row a head; the boolean column ``core``, and per kind its share in [0, 1].
        kinds: columns to draw, or column -> shown name.
        p: p-value of core against rest per kind, written at the right.

    Raises:
        InputError: a missing column, or no heads.
    """
    names = named(kinds)
    require(heads, [core, *names], "attention_profile")
    inside = heads[core].to_numpy(bool)
    figure = new_figure(width, 0.75 + 0.34 * len(names) + 0.2 * bool(title))
    axes = dress(figure.add_subplot(), title=title, x="share of the attention (%)", grid="x")
    name_rows(axes, list(names.values()))
    groups = (
        ("core heads", inside, COLOURS[1], "D", -0.2),
        ("other heads", ~inside, GREY, "o", 0.2),
    )
    for name, members, colour, marker, offset in groups:
        if not members.any():
            continue
        for y, column in enumerate(names):
            value = 100 * heads[column].to_numpy(float)[members]
            jitter = 0.1 * np.sin(2.4 * np.arange(len(value)))
            axes.plot(
                value, y + offset + jitter, marker, color=colour, markersize=2.6, alpha=0.6,
                markeredgewidth=0, label=f"{name} ({len(value)})" if y == 0 else None, zorder=3,
            )
            axes.vlines(
                value.mean(), y + offset - 0.19, y + offset + 0.19, color=INK, linewidth=1.3,
                label="mean" if y == 0 and offset > 0 else "", zorder=4,
            )
    axes.set_xlim(left=-1)
    for y, column in enumerate(names):
        if p is not None and column in p:
            axes.text(
                1.02, y, p_text(p[column]), transform=axes.get_yaxis_transform(), va="center",
                fontsize=SMALL, color=INK,
            )
    legend_below(figure, axes)
    return figure
