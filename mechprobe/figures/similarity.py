"""Which members of a set resemble each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mechprobe.figures.style import (
    COLUMN,
    TICK,
    colour_bar,
    dress,
    name_rows,
    new_figure,
    text_colour,
)


def jaccard_matrix(
    values: Float[np.ndarray, "k k"],
    names: Sequence[str],
    *,
    axis: str = "subnetwork",
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """Jaccard similarity of every pair, 0 to 1; numbers are written in when there are at most 14.

    The diagonal, 1 by definition, is left blank.
    """
    k = len(names)
    shown = np.ma.masked_array(values, mask=np.eye(k, dtype=bool))
    figure = new_figure(width, 0.81 * width + 0.1 + 0.2 * bool(title))
    axes = dress(figure.add_subplot(), title=title, x=axis, y=axis)
    scale = ScalarMappable(Normalize(0, 1), colormaps["Blues"])
    axes.imshow(scale.to_rgba(shown), aspect="equal", interpolation="nearest")
    name_rows(axes, names)
    name_rows(axes, names, axis="x")
    crowded = k > 14
    axes.tick_params(length=0, labelsize=TICK if not crowded else max(3.5, 100 / k))
    if crowded or max(len(name) for name in names) > 3:
        axes.tick_params(axis="x", labelrotation=90)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not crowded:
        size = min(TICK, 65 / k)
        for (row, column), value in np.ndenumerate(values):
            if row != column:
                axes.text(
                    column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                    fontsize=size, color=text_colour(scale, float(value)),
                )
    colour_bar(figure, [axes], scale, "Jaccard similarity of kept heads")
    return figure
