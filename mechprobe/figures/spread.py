"""How far the members of a set lie apart, condition by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    INK,
    MARKERS,
    dress,
    error_bars,
    legend_below,
    name_rows,
    named,
    new_figure,
    require,
)


@runtime_checkable
class WithEnds(Protocol):
    """An estimate with an interval, such as ``mechprobe.stats.Interval``."""

    @property
    def estimate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def accuracy_spread(
    members: pd.DataFrame,
    conditions: Sequence[str] | Mapping[str, str],
    *,
    full: Mapping[str, float | WithEnds] | None = None,
    by: str | None = None,
    title: str = "",
    unit: str = "accuracy (%)",
    chance: float | None = None,
    width: float = COLUMN,
) -> Figure:
    """Every member's accuracy per condition, a row each, beside the full model's.

    Within a row the members lie in the order of the table, so that one keeps its place in all
    rows; a tick through each group is its mean.

    Args:
        members: one row a member; a column in [0, 1] per condition, and optionally
            ``<condition>_low`` and ``<condition>_high`` for its interval.
        conditions: columns to draw, or column -> shown name.
        full: the full model's accuracy per condition, with or without an interval.
        by: column that splits members into coloured groups (sparsity, say).
        chance: accuracy drawn as a dotted line, e.g. 0.5.

    Raises:
        InputError: a missing column, or no members.
    """
    names = named(conditions)
    require(members, [*names, *([by] if by else [])], "accuracy_spread")
    groups = [("subnetworks", members)] if by is None else [
        (_group_name(by, key), part) for key, part in members.groupby(by, sort=True)
    ]
    row = max(0.24, 0.15 * len(groups))
    figure = new_figure(width, 0.75 + row * len(names) + 0.2 * bool(title))
    axes = dress(figure.add_subplot(), title=title, x=unit, grid="x")
    name_rows(axes, list(names.values()))
    axes.set_xlim(-2, 102)
    for y, column in enumerate(names):
        if y:
            axes.axhline(y - 0.5, color="#ececec", linewidth=0.5, zorder=0)
        for g, (name, part) in enumerate(groups):
            _members(axes, part, column, y, g, len(groups), name if y == 0 else None)
        if full is not None and column in full:
            _full(axes, full[column], y, "full model" if y == 0 else "")
    if chance is not None:
        axes.axvline(100 * chance, color=INK, linewidth=0.7, linestyle=":", label="chance")
    legend_below(figure, axes)
    return figure


def _members(
    axes: Axes, part: pd.DataFrame, column: str, y: int, g: int, n_groups: int, label: str | None
) -> None:
    band = 0.8 / n_groups
    middle = y - 0.4 + band * (g + 0.5)
    places = middle + 0.72 * band * ((np.arange(len(part)) + 0.5) / len(part) - 0.5)
    value = 100 * part[column].to_numpy(float)
    colour = COLOURS[g % len(COLOURS)]
    axes.errorbar(
        value, places, xerr=100 * error_bars(part, column), fmt="none", ecolor=colour,
        elinewidth=0.5, alpha=0.35, zorder=2,
    )
    axes.plot(
        value, places, MARKERS[g % len(MARKERS)], color=colour, markersize=2.8, alpha=0.75,
        markeredgewidth=0, label=label, zorder=3,
    )
    axes.vlines(
        np.nanmean(value), middle - band / 2, middle + band / 2, color=colour, linewidth=1.2,
        zorder=4,
    )


def _full(axes: Axes, value: float | WithEnds, y: int, label: str) -> None:
    if isinstance(value, int | float):
        middle = float(value)
    else:
        middle = value.estimate
        axes.add_patch(Rectangle(
            (100 * value.low, y - 0.45), 100 * (value.high - value.low), 0.9, color=INK,
            alpha=0.15, linewidth=0, zorder=1,
        ))
    axes.vlines(
        100 * middle, y - 0.45, y + 0.45, color=INK, linewidth=1.6, label=label, zorder=5
    )


def _group_name(by: str, key: object) -> str:
    if by in ("sparsity", "target") and isinstance(key, float):
        return f"{100 * key:g} % closed"
    return f"{by} {key}"
