"""Heat maps over a model's heads and MLP layers: one value each, or how often each is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.style import (
    COLUMN,
    PAGE,
    TICK,
    colour_bar,
    dress,
    frame_cell,
    new_figure,
    say_frames,
    text_colour,
)
from mechprobe.sites import Site, SiteGrid

_GAP = 0.4


def head_map(
    values: Float[np.ndarray, "layer head"],
    title: str = "",
    unit: str = "",
    *,
    mlps: Float[np.ndarray, "layer"] | None = None,
    limits: tuple[float, float] | None = None,
    diverging: bool = False,
    marked: Collection[Site] = (),
    framed: str = "",
    number: str = ".2f",
    columns: str = "head",
    first: int = 0,
    width: float = COLUMN,
) -> Figure:
    """One value a head (and an MLP layer), layers downwards; NaN is left blank.

    Args:
        unit: what the colour bar says, e.g. "change in accuracy (points)".
        limits: ends of the colour scale; None: the values' own, symmetric if ``diverging``.
        marked: sites with a frame around them (a core, say).
        framed: what a frame means; it stands below where a site is marked.
        number: format of the numbers written into the cells, where they fit.
        columns: what stands side by side, when it is not heads (token positions, say).
        first: number of the first column.
    """
    low, high = limits or _limits(values, mlps, diverging)
    figure = new_figure(width, _height(width, values.shape, 1, mlps is not None))
    axes = figure.add_subplot()
    scale = ScalarMappable(Normalize(low, high), colormaps["PuOr" if diverging else "Blues"])
    _panel(axes, values, mlps, scale, number, marked, (width - 1.1) * 72, title)
    axes.set_xlabel(columns)
    if first:
        axes.set_xticks(axes.get_xticks(), [f"{first + tick:g}" for tick in axes.get_xticks()])
    colour_bar(figure, [axes], scale, unit)
    if framed and marked:
        say_frames(figure, framed)
    return figure


def keep_frequency(
    frequency: Mapping[str, Float[np.ndarray, "site"]],
    sites: SiteGrid,
    *,
    n_members: Sequence[int] | None = None,
    width: float | None = None,
) -> Figure:
    """How many percent of the subnetworks keep each site, one panel a named set.

    Sites that all subnetworks of the panel keep are framed.

    Args:
        frequency: share of members that keep each site, in the grid's order, by panel title.
        n_members: how many members each panel counts, for its title.

    Raises:
        InputError: no panels, or a grid with neither heads nor MLP layers (neurons are not drawn).
    """
    if not frequency:
        raise InputError("keep_frequency was given no panels; give one frequency vector a name")
    if not (sites.heads or sites.mlps):
        raise InputError(
            "keep_frequency draws heads and MLP layers, and these subnetworks gate only neurons; "
            "use the numbers of SubnetworkSet.frequency()"
        )
    n = len(frequency)
    columns = 1 if n == 1 else 2
    width = width or (COLUMN if n == 1 else PAGE)
    rows = -(-n // columns)
    shape = (sites.n_layers, sites.n_heads if sites.heads else 1)
    panel = width / columns
    figure = new_figure(width, rows * _height(panel, shape, n, sites.mlps) + 0.2)
    scale = ScalarMappable(Normalize(0, 100), colormaps["Blues"])
    panels = []
    for i, (name, row) in enumerate(frequency.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        count = f" ({n_members[i]} subnetworks)" if n_members else ""
        heads = 100 * sites.head_array(row) if sites.heads else None
        mlps = 100 * sites.mlp_array(row) if sites.mlps else None
        always = [s for s in sites.select(row >= 1 - 1e-9) if s.kind != "neuron"]
        space = (panel - (1.1 if n == 1 else 0.75)) * 72
        _panel(axes, heads, mlps, scale, ".0f", always, space, name + count)
        panels.append(axes)
    colour_bar(figure, panels, scale, "subnetworks keeping it (%)")
    say_frames(figure, "kept by all")
    return figure


def _panel(
    axes: Axes, heads: np.ndarray | None, mlps: np.ndarray | None, scale: ScalarMappable,
    number: str, marked: Collection[Site], space: float, title: str,
) -> None:
    """Draw head cells, then after a gap the MLP cells; ``space`` is the room across, in points."""
    n_layers = len(mlps) if heads is None else len(heads)  # pyright: ignore[reportArgumentType]
    n_heads = 0 if heads is None else heads.shape[1]
    mlp_at = n_heads + _GAP if n_heads else 0
    right = mlp_at + 1 if mlps is not None else n_heads
    dress(axes, title=title, y="layer", x="head" if n_heads else "")
    texts: list[tuple[float | int, int, float]] = []
    for left, part in ((0, heads), (mlp_at, None if mlps is None else mlps[:, None])):
        if part is None:
            continue
        box = (left - 0.5, left + part.shape[1] - 0.5, n_layers - 0.5, -0.5)
        axes.imshow(
            scale.to_rgba(np.ma.masked_invalid(part)), extent=box, aspect="auto",
            interpolation="nearest",
        )
        texts += [(left + x, y, v) for (y, x), v in np.ndenumerate(part) if np.isfinite(v)]
    axes.set_xlim(-0.5, right - 0.5)
    axes.set_ylim(n_layers - 0.5, -0.5)
    step = -(-n_heads // 12) if n_heads else 1
    ticks = list(range(0, n_heads, step))
    names = [str(t) for t in ticks]
    if mlps is not None:
        ticks, names = [*ticks, mlp_at], [*names, "MLP"]
    axes.set_xticks(ticks, names)
    axes.set_yticks(range(0, n_layers, -(-n_layers // 16)))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _write(axes, texts, scale, number, space / right)
    for site in marked:
        left = mlp_at if site.index is None else site.index
        frame_cell(axes, left, site.layer)


def _write(
    axes: Axes, cells: list[tuple[float | int, int, float]], scale: ScalarMappable, number: str,
    cell: float,
) -> None:
    """Numbers into cells, dark on light or light on dark, if the widest fits in ``cell`` points."""
    words = [format(value, f"z{number}").replace("-", "\N{MINUS SIGN}") for *_, value in cells]
    longest = max((len(word) for word in words), default=1)
    size = min(TICK, 0.8 * cell / (0.58 * longest))
    if size < 4:
        return
    for (x, y, value), word in zip(cells, words, strict=True):
        axes.text(
            x, y, word, ha="center", va="center", fontsize=size,
            color=text_colour(scale, value),
        )


def _limits(values: np.ndarray, mlps: np.ndarray | None, diverging: bool) -> tuple[float, float]:
    every = values.ravel() if mlps is None else np.concatenate([values.ravel(), mlps])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    if diverging:
        far = float(np.abs(every).max()) or 1.0
        return -far, far
    low, high = float(every.min()), float(every.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _height(width: float, shape: tuple[int, ...], panels: int, mlps: bool) -> float:
    """Cells about 0.8 as high as wide, with room for title and labels."""
    cell = (width - (1.1 if panels == 1 else 0.75)) / (shape[1] + (1 + _GAP) * mlps)
    return max(1.3, min(0.8 * cell, 0.32) * shape[0] + 0.75)
