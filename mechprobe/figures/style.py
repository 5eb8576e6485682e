"""How every figure looks, and how it is written: colours, sizes, axes, files.

Figures are built without pyplot and without rcParams, so that nothing global changes.
"""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from mechprobe.errors import InputError

COLUMN = 3.4
"""Width of one text column, inches."""
PAGE = 7.0
"""Width of a page of two columns, inches."""
DPI = 300
"""Dots an inch of a picture that is saved: 1020 across a column."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
INK, GREY, FAINT = "#222222", "#8a8a8a", "#d9d9d9"
FRAME = COLOURS[2]
"""Of cells with a frame: told from every colour of the maps' scales, and lined with white."""

TITLE, LABEL, TICK, SMALL = 8.5, 8.0, 7.0, 6.0


class PrintFigure(Figure):
    """A figure that ``savefig`` writes at ``DPI``, unless told otherwise (or by ``savefig.dpi``).

    Notebooks show it at matplotlib's own ``figure.dpi``.
    """

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Write the figure; arguments as matplotlib's."""
        dpi = rcParams["savefig.dpi"]
        super().savefig(fname, **{"dpi": DPI if dpi == "figure" else dpi, **kwargs})


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of a size in inches whose layout keeps labels from overlapping."""
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    return PrintFigure(figsize=(width, height), layout=layout, facecolor="white")


def dress(
    axes: Axes, *, title: str = "", x: str = "", y: str = "", grid: str | None = None
) -> Axes:
    """Titles, tick sizes, light spines; ``grid`` "x" or "y" draws faint lines across that axis."""
    axes.set_title(plain(title), fontsize=TITLE, color=INK, loc="left")
    axes.set_xlabel(plain(x), fontsize=LABEL, color=INK)
    axes.set_ylabel(plain(y), fontsize=LABEL, color=INK)
    axes.tick_params(labelsize=TICK, length=2.5, width=0.6, color=GREY, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.6)
        spine.set_color(GREY)
    if grid is not None:
        axes.grid(visible=True, axis=grid, color=FAINT, linewidth=0.5)  # pyright: ignore[reportArgumentType]
        axes.set_axisbelow(True)
    return axes


def plain(text: str, width: int | None = None) -> str:
    """Text that matplotlib shows as it stands ($ is no formula), broken at ``width`` letters."""
    text = text.replace("$", r"\$")
    return text if width is None else textwrap.fill(text, width, break_long_words=True)


def name_rows(axes: Axes, names: Sequence[str], *, axis: str = "y", width: int = 26) -> None:
    """Put names at 0, 1, 2, ... of an axis; on "y" the first comes on top."""
    labels = [plain(str(name), width) for name in names]
    if axis == "y":
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), labels)
    else:
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), labels)


def legend_below(figure: Figure, axes: Axes, *, note: str = "") -> None:
    """One legend under the whole figure, from the labelled artists of ``axes``, and a note.

    It has as few rows as fit the figure's width, and its columns are equally long.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    entry = TICK * (0.55 * max(len(label) for label in labels) + 3.2)
    rows = -(-len(handles) // max(1, int(72 * figure.get_figwidth() / entry)))
    figure.legend(
        handles, [plain(label) for label in labels], loc="outside lower center",
        ncols=-(-len(handles) // rows),
        fontsize=TICK, frameon=False, handlelength=1.4, handletextpad=0.6, columnspacing=1.0,
        title=plain(note) or None, title_fontsize=TICK,
    )


def text_colour(scale: ScalarMappable, value: float) -> str:
    """White on the dark, ink on the light parts of a colour scale (relative luminance)."""
    red, green, blue, _ = scale.to_rgba(np.array([value]))[0]
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45 else INK


def frame_cell(axes: Axes, x: float | int, y: float | int) -> None:
    """A frame inside the cell around a point of a map, seen on light cells and on dark ones."""
    for colour, width in (("white", 2.2), (FRAME, 1.2)):
        axes.add_patch(Rectangle(
            (x - 0.45, y - 0.45), 0.9, 0.9, fill=False, edgecolor=colour, linewidth=width,
        ))


def say_frames(figure: Figure, meaning: str) -> None:
    """Below the figure, what the frames around its cells mean."""
    figure.legend(
        [Rectangle((0, 0), 1, 1, fill=False, edgecolor=FRAME)], [plain(meaning)],
        loc="outside lower center", fontsize=TICK, frameon=False, handlelength=1, handleheight=1,
    )


def colour_bar(figure: Figure, panels: Sequence[Axes], scale: ScalarMappable, unit: str) -> None:
    """A colour bar right of the panels, its label broken to the figure's height."""
    bar = figure.colorbar(scale, ax=list(panels), fraction=0.05, pad=0.02, aspect=25)
    letters = int(0.72 * 72 * figure.get_figheight() / (0.53 * LABEL))
    bar.set_label(plain(unit.replace("_", " "), max(10, letters)), fontsize=LABEL, color=INK)
    bar.ax.tick_params(labelsize=TICK, length=2, width=0.5, labelcolor=INK)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def save_figure(
    figure: Figure, path: str | Path, data: pd.DataFrame | None = None
) -> list[Path]:
    """Write ``path`` .pdf and .png (300 dpi), and the numbers shown as .csv; none ever half done.

    The same figure gives the same bytes.

    Raises:
        InputError: the folder cannot be written.
    """
    path = Path(path)
    contents = {".pdf": _drawn(figure, "pdf"), ".png": _drawn(figure, "png")}
    if data is not None:
        contents[".csv"] = data.to_csv(index=False).encode()
    return [
        _replace(path.with_name(path.name + suffix), bytes_) for suffix, bytes_ in contents.items()
    ]


def require(table: pd.DataFrame, columns: Sequence[str], figure: str) -> None:
    """Raise InputError unless the table has the columns a figure draws, and a row."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"{figure} needs columns {list(columns)}; missing {missing} in {list(table.columns)}"
        )
    if len(table) == 0:
        raise InputError(f"{figure} was given a table without rows; nothing to draw")


def named(columns: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Column -> shown name; without given names a column's own, its underscores as spaces."""
    if isinstance(columns, Mapping):
        return dict(columns)
    return {column: column.replace("_", " ") for column in columns}


def error_bars(table: pd.DataFrame, column: str) -> np.ndarray:
    """Distances [2, row] from a column down to ``<column>_low`` and up to ``_high``; 0 unknown."""
    low, high = f"{column}_low", f"{column}_high"
    if not {low, high} <= set(table.columns):
        return np.zeros((2, len(table)))
    gaps = np.stack([table[column] - table[low], table[high] - table[column]])
    return np.clip(np.nan_to_num(gaps.astype(float)), 0, None)


def _drawn(figure: Figure, kind: str) -> bytes:
    stream = BytesIO()
    undated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(stream, format=kind, dpi=DPI, metadata=undated)
    return stream.getvalue()


def _replace(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}); give a folder that can be written"
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path
