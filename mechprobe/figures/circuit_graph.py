"""A circuit as a graph: components from the input below to the logits above, edges by effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    INK,
    LABEL,
    dress,
    legend_below,
    new_figure,
    plain,
    require,
)
from mechprobe.sites import Site

END = "logits"
INPUTS = ("q", "k", "v", "qkv", "")
_NAMES = {"q": "query", "k": "key", "v": "value", "qkv": "all three inputs", "": "to the logits"}
_STACKS = ("enc", "", "dec", "cross")
_COLUMNS = ["sender", "receiver", "input", "effect", "low", "high"]


def circuit_graph(
    edges: pd.DataFrame, *, top: int = 20, unit: str = "effect", title: str = "",
    width: float = COLUMN,
) -> Figure:
    """The strongest edges between components; width tells the size of an effect.

    Colour tells the receiver's input, dashes a negative effect, and an edge whose interval includes
    zero is faint.

    Args:
        edges: one row an edge, as ``EdgeScores.table`` gives them: sender, receiver ("logits" or a
            head), input ("q", "k", "v", "qkv" or ""), effect, low, high.
        top: edges drawn, those of the largest absolute effect.
        unit: of the effects.

    Raises:
        InputError: a missing column, no rows, ``top`` below 1, or names that are no components.
    """
    require(edges, _COLUMNS, "circuit_graph")
    if top < 1:
        raise InputError(f"top={top} edges; give 1 or more")
    order = np.argsort(-np.abs(edges["effect"].to_numpy(float)), kind="stable")[:top]
    shown = edges[_COLUMNS].iloc[order].fillna({"input": ""})
    places = node_places([*shown["sender"], *shown["receiver"]])
    rows = 1 + max(y for _, y in places.values())
    figure = new_figure(width, 0.9 + 0.62 * rows)
    axes = dress(figure.add_subplot(), title=title)
    largest = float(np.abs(shown["effect"]).max()) or 1.0
    for row in shown.iloc[::-1].itertuples(index=False):
        _arrow(axes, row._asdict(), places, largest)
    for name, at in places.items():
        axes.annotate(
            plain(name), at, ha="center", va="center", fontsize=LABEL, color=INK, zorder=4,
            bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": GREY,
                  "linewidth": 0.8},
        )
    for kind in [kind for kind in INPUTS if kind in set(shown["input"])]:
        axes.plot([], [], color=COLOURS[INPUTS.index(kind)], linewidth=2, label=_NAMES[kind])
    axes.set_xlim(-0.62, 0.62)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    widest = f"widest edge: {largest:.3g}, {unit.replace('_', ' ')}"
    note = f"{widest}\ndashed: negative; faint: 95 % interval includes 0"
    legend_below(figure, axes, note=note)
    return figure


def node_places(names: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Where each component stands: x in [-0.5, 0.5], y its row; layers from below, logits on top.

    Raises:
        InputError: a name that is neither a component nor "logits".
    """
    rows: dict[tuple[int, ...], list[str]] = {}
    for name in dict.fromkeys(names):
        rows.setdefault(_row(name), []).append(name)
    places: dict[str, tuple[float, int]] = {}
    for y, row in enumerate(sorted(rows)):
        members = sorted(rows[row], key=_across)
        for i, name in enumerate(members):
            places[name] = ((i + 0.5) / len(members) - 0.5, y)
    return places


def _across(name: str) -> int:
    return 0 if name == END else Site.parse(name).index or 0


def _row(name: str) -> tuple[int, ...]:
    """What sorts a component into its row: encoder, decoder; layer; attention before the MLP."""
    if name == END:
        return (2,)
    site = Site.parse(name)
    decoder, mlp = site.stack in ("dec", "cross"), site.kind != "head"
    return (int(decoder), site.layer, int(mlp), _STACKS.index(site.stack))


def _arrow(
    axes: Axes, edge: Mapping[str, Any], places: Mapping[str, tuple[float, int]], largest: float
) -> None:
    start, end, kind = places[edge["sender"]], places[edge["receiver"]], edge["input"]
    sure = edge["low"] > 0 or edge["high"] < 0
    bend = 0.14 * (INPUTS.index(kind) - 1) * (kind in ("q", "k", "v"))
    if end[1] - start[1] > 1 and abs(end[0] - start[0]) < 0.05:
        bend += 0.25  # round what stands between them
    axes.annotate(
        "", end, start, zorder=2 + int(sure),
        arrowprops={
            "arrowstyle": "-|>", "color": COLOURS[INPUTS.index(kind)], "shrinkA": 9, "shrinkB": 11,
            "linewidth": 0.5 + 2.5 * abs(edge["effect"]) / largest, "mutation_scale": 8,
            "linestyle": "--" if edge["effect"] < 0 else "-", "alpha": 0.9 if sure else 0.3,
            "connectionstyle": f"arc3,rad={bend}",
        },
    )
