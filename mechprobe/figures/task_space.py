"""Task spaces: maps and trees of tasks, their accuracies, and what tuning costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    INK,
    LINES,
    MARKERS,
    PAGE,
    SMALL,
    TICK,
    dress,
    error_bars,
    legend_below,
    name_rows,
    new_figure,
    plain,
    require,
)

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")

LEAST_RISE = 0.01
"""Per cent: the lowest rise of perplexity that ``tuning_frontier`` draws as it is."""


def task_points(
    points: Float[np.ndarray, "task 2"],
    names: Sequence[str],
    groups: Sequence[str],
    *,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """Tasks in a plane; colour and mark tell their group. Names stand beside at most 30 points.

    Raises:
        InputError: not as many names and groups as points.
    """
    if not len(points) == len(names) == len(groups):
        raise InputError(f"{len(points)} points, {len(names)} names, {len(groups)} groups; give "
                         "one of each task")
    figure = new_figure(width, 0.72 * width)
    axes = dress(figure.add_subplot(), title=title, x="first axis", y="second axis")
    for i, group in enumerate(dict.fromkeys(groups)):
        mine = [k for k, g in enumerate(groups) if g == group]
        axes.plot(
            points[mine, 0], points[mine, 1], _MARKS[i % len(_MARKS)], linestyle="none",
            color=COLOURS[i % len(COLOURS)], markersize=5, label=group.replace("_", " "),
            fillstyle="full" if i < len(COLOURS) else "none",
        )
    if len(names) <= 30:
        for (x, y), name in zip(points, names, strict=True):
            axes.annotate(
                plain(name.replace("_", " ")), (x, y), (3, 3), textcoords="offset points",
                fontsize=SMALL, color=INK,
            )
    axes.margins(0.12)
    legend_below(figure, axes)
    return figure


def tuning_frontier(
    table: pd.DataFrame, *, by: str = "method", title: str = "", width: float = COLUMN
) -> Figure:
    """Rise of perplexity (log scale) against the gain on the tuned task, one line a method.

    A rise below ``LEAST_RISE`` per cent, or a fall, is drawn at it: a log scale of the ratio itself
    would show the useful rises, of a few per cent or less, as one line.

    Args:
        table: columns "gain" (share), "perplexity_ratio", and ``by``; a row a learning rate,
            joined in the order of "lr" where there is such a column, else of the gain.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, ["gain", "perplexity_ratio", by], "tuning_frontier")
    figure = new_figure(width, max(0.55 * width, 0.85 * COLUMN))
    axes = dress(
        figure.add_subplot(), title=title, x="gain on the tuned task (points)",
        y="rise of perplexity (%)", grid="y",
    )
    for i, (name, part) in enumerate(table.groupby(by, sort=False)):
        part = part.sort_values("lr" if "lr" in part else "gain")
        rise = (100 * (part["perplexity_ratio"] - 1)).clip(lower=LEAST_RISE)
        axes.plot(
            100 * part["gain"], rise, marker=MARKERS[i % 6], markersize=3.5,
            linewidth=1.0, linestyle=LINES[(i // 6) % 6], color=COLOURS[i % 6], label=str(name),
        )
    axes.set_yscale("log")
    legend_below(figure, axes, note=f"rises below {LEAST_RISE:g} % are drawn there")
    return figure


def over_steps(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    y: str,
    by: str = "model",
    title: str = "",
    width: float = COLUMN,
) -> Figure:
    """Quantities over training steps (log scale) with intervals: a line each, a panel a model.

    Args:
        table: columns "step", ``by`` and those named, with ``<column>_low`` and ``_high`` where
            there are intervals.

    Raises:
        InputError: a missing column, or no rows.
    """
    require(table, ["step", by, *columns], "over_steps")
    models = list(dict.fromkeys(table[by]))
    figure = new_figure(width, 0.75 * COLUMN)
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, model in zip(panels, models, strict=True):
        name = f"{title}{model}" if len(models) > 1 else title
        dress(axes, title=name, x="training steps", y=y if axes is panels[0] else "", grid="y")
        part = pd.DataFrame(table[table[by] == model]).sort_values("step")
        for i, column in enumerate(columns):
            axes.errorbar(
                part["step"], part[column], error_bars(part, column), capsize=1.5,
                color=COLOURS[i % 6], marker=MARKERS[i % 6], linestyle=LINES[i % 6],
                markersize=3.5, linewidth=1.0, elinewidth=0.6, label=column.replace("_", " "),
            )
        axes.set_xscale("log")
        steps = [int(step) for step in part["step"]]
        axes.set_xticks(steps, [f"{step:,}" for step in steps])
        axes.set_xticks([], minor=True)
    legend_below(figure, panels[0])
    return figure


def task_accuracies(
    table: pd.DataFrame, *, title: str = "", width: float = PAGE
) -> Figure:
    """Accuracy of each paradigm with its interval, phenomena one after the other; half is chance.

    Args:
        table: columns "paradigm", "phenomenon", "accuracy", "accuracy_low", "accuracy_high".

    Raises:
        InputError: a missing column, or no rows.
    """
    ends = ["accuracy_low", "accuracy_high"]
    require(table, ["paradigm", "phenomenon", "accuracy", *ends], "task_accuracies")
    figure = new_figure(width, 0.8 + 0.13 * len(table))
    axes = dress(figure.add_subplot(), title=title, x="accuracy (%)", grid="x")
    axes.axvline(50, color=INK, linewidth=0.6)
    gaps = 100 * error_bars(table, "accuracy")
    for k, kind in enumerate(dict.fromkeys(table["phenomenon"])):
        rows = np.flatnonzero(table["phenomenon"] == kind)
        axes.errorbar(
            100 * table["accuracy"].to_numpy()[rows], rows, xerr=gaps[:, rows], linestyle="none",
            marker=_MARKS[k % len(_MARKS)], color=COLOURS[k % 6], markersize=3.5, elinewidth=0.6,
            fillstyle="full" if k < 6 else "none", label=str(kind).replace("_", " "),
        )
    name_rows(axes, [name.replace("_", " ") for name in table["paradigm"]], width=60)
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.set_xlim(0, 100)
    legend_below(figure, axes)
    return figure


def cluster_tree(
    tree: Float[np.ndarray, "merge 4"],
    names: Sequence[str],
    groups: Sequence[str],
    *,
    distance: str = "distance",
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """A tree of tasks, leaves downwards; colours of the names and marks tell their group.

    Args:
        tree: merges as ``Clustering.tree`` holds them.

    Raises:
        InputError: not as many names and groups as leaves.
    """
    n = len(tree) + 1
    if not n == len(names) == len(groups):
        raise InputError(f"a tree of {n} leaves, {len(names)} names, {len(groups)} groups; give "
                         "one of each leaf")
    drawn = dendrogram(tree, no_plot=True)
    size = float(np.clip(2.2 * 72 / n, 4.0, TICK))
    figure = new_figure(width, max(2.2, 0.3 + 1.35 * size * n / 72))
    axes = dress(figure.add_subplot(), title=title, x=distance)
    for far, leaf in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        axes.plot(far, (np.array(leaf) - 5) / 10, color=GREY, linewidth=0.7)
    order = drawn["leaves"]
    name_rows(axes, [str(names[int(i)]).replace("_", " ") for i in order], width=60)
    axes.tick_params(axis="y", length=0, labelsize=size, pad=7)
    kinds = list(dict.fromkeys(groups))
    for k, kind in enumerate(kinds):
        rows = [y for y, i in enumerate(order) if groups[i] == kind]
        axes.plot(
            [0.0] * len(rows), rows, marker=_MARKS[k % len(_MARKS)], linestyle="none",
            color=COLOURS[k % 6], markersize=0.6 * size, clip_on=False,
            fillstyle="full" if k < 6 else "none", label=str(kind).replace("_", " "),
        )
    axes.set_xlim(0, 1.02 * float(tree[:, 2].max()) or 1.0)
    axes.spines["left"].set_visible(False)
    legend_below(figure, axes)
    return figure
