"""Effects of edges between components, senders down and what they send to across."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    COLUMN,
    TICK,
    colour_bar,
    dress,
    frame_cell,
    name_rows,
    new_figure,
    say_frames,
    text_colour,
)


def edge_map(
    values: Float[np.ndarray, "sender receiver"],
    senders: Sequence[str],
    receivers: Sequence[str],
    *,
    title: str = "",
    unit: str = "effect",
    marked: Collection[tuple[int, int]] = (),
    framed: str = "",
    axes_names: tuple[str, str] = ("sender", "receiver"),
    width: float | None = None,
) -> Figure:
    """One cell an edge, NaN left blank; numbers are written in where they fit.

    Args:
        unit: what the colour bar says.
        marked: (row, column) of the cells that get a frame.
        framed: what a frame means; it stands below where a cell is marked.
        axes_names: what stands down and across.
        width: inches; None: as wide as the receivers need, one column at least.

    Raises:
        InputError: names that do not fit the values.
    """
    if values.shape != (len(senders), len(receivers)) or not values.size:
        raise InputError(
            f"edge_map was given values of shape {list(values.shape)} for {len(senders)} senders "
            f"and {len(receivers)} receivers; give one value a pair, and at least one"
        )
    width = width or max(COLUMN, 1.6 + 0.32 * len(receivers))
    figure = new_figure(width, max(1.6, 1.1 + 0.24 * len(senders)))
    axes = dress(figure.add_subplot(), title=title, x=axes_names[1], y=axes_names[0])
    far = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    scale = ScalarMappable(Normalize(-(far or 1.0), far or 1.0), colormaps["PuOr"])
    axes.imshow(
        scale.to_rgba(np.ma.masked_invalid(values)), aspect="auto", interpolation="nearest"
    )
    name_rows(axes, senders)
    name_rows(axes, receivers, axis="x")
    axes.tick_params(length=0)
    if max(map(len, receivers)) > 3:
        axes.tick_params(axis="x", labelrotation=90)
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = min(TICK, 0.72 * 72 * (width - 1.3) / len(receivers) / 2.6)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and size >= 4:
            axes.text(
                column, row, format(value, "z.2g").replace("-", "\N{MINUS SIGN}"), ha="center",
                va="center", fontsize=size, color=text_colour(scale, float(value)),
            )
    for row, column in marked:
        frame_cell(axes, column, row)
    if framed and marked:
        say_frames(figure, framed)
    colour_bar(figure, [axes], scale, unit)
    return figure
