"""One value for every two tasks, or for every named row and column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    INK,
    PAGE,
    TICK,
    colour_bar,
    dress,
    name_rows,
    new_figure,
    plain,
)


def task_matrix(
    values: Float[np.ndarray, "row column"],
    names: Sequence[str],
    groups: Sequence[str],
    *,
    unit: str,
    rows: str = "tuned on",
    columns: str = "tested on",
    limits: tuple[float, float] | None = None,
    diverging: bool = True,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """One value for every two tasks; lines part the groups, which must stand together.

    NaN is left blank.

    Args:
        names, groups: of the rows and, in the same order, the columns.
        limits: ends of the colour scale; None: the values' own, symmetric if ``diverging``.

    Raises:
        InputError: not as many names and groups as tasks.
    """
    n = len(values)
    if len(names) != n or len(groups) != n or values.shape != (n, n):
        raise InputError(f"a matrix of shape {list(values.shape)} with {len(names)} names and "
                         f"{len(groups)} groups; give one of each task")
    figure = new_figure(width, 0.82 * width)
    axes = dress(figure.add_subplot(), title=title, x=columns, y=rows)
    low, high = limits or _ends(values, diverging)
    scale = ScalarMappable(Normalize(low, high), colormaps["PuOr" if diverging else "Blues"])
    shown = np.ma.masked_invalid(values)
    axes.imshow(scale.to_rgba(shown), aspect="equal", interpolation="nearest")
    name_rows(axes, names, width=60)
    name_rows(axes, names, axis="x", width=60)
    size = float(np.clip(0.62 * 72 * (width - 2) / n, 3.0, TICK))
    axes.tick_params(length=0, labelsize=size)
    axes.tick_params(axis="x", labelrotation=90)
    for edge in [i for i in range(1, n) if groups[i] != groups[i - 1]]:
        axes.axhline(edge - 0.5, color=INK, linewidth=0.5)
        axes.axvline(edge - 0.5, color=INK, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    colour_bar(figure, [axes], scale, unit)
    return figure


def named_matrix(
    values: Float[np.ndarray, "row column"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    unit: str,
    x: str = "",
    diverging: bool = False,
    centre: float = 0.0,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """One value for every row and column, both named; at most 40 column names are written.

    Args:
        centre: where a ``diverging`` scale has its middle.

    Raises:
        InputError: not as many names as rows and columns.
    """
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"a matrix of shape {list(values.shape)} with {len(rows)} and "
                         f"{len(columns)} names; give one of each row and column")
    figure = new_figure(width, 0.9 + 0.2 * len(rows))
    axes = dress(figure.add_subplot(), title=title, x=x)
    low, high = _ends(values - centre, True) if diverging else _ends(values, False)
    scale = ScalarMappable(
        Normalize(low + centre * diverging, high + centre * diverging),
        colormaps["PuOr" if diverging else "Blues"],
    )
    axes.imshow(scale.to_rgba(np.ma.masked_invalid(values)), aspect="auto",
                interpolation="nearest")
    name_rows(axes, [name.replace("_", " ") for name in rows], width=60)
    every = -(-len(columns) // 40)
    axes.set_xticks(range(0, len(columns), every), [plain(c) for c in columns[::every]])
    axes.tick_params(length=0)
    if sum(map(len, columns[::every])) > 60:
        axes.tick_params(axis="x", labelrotation=90)
    for spine in axes.spines.values():
        spine.set_visible(False)
    colour_bar(figure, [axes], scale, unit)
    return figure


def _ends(values: np.ndarray, diverging: bool) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    if diverging:
        size = float(np.abs(finite).max()) or 1.0
        return -size, size
    return float(min(finite.min(), 0.0)), float(finite.max()) or 1.0
