"""Numbers as a reader wants them: one precision a column, nothing hidden."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mechprobe.runs.tables import read_table

DECIMALS = 3
SMALLEST = 1e-5
"""A column of numbers below this is written with powers of ten."""
CHOSEN = ("sparsity", "sparsity_target", "target", "reached")
"""Columns that people chose: 0.5 stays 0.5. Measured ones get all decimals."""


def shown_table(path: Path, rows: int) -> tuple[list[str], list[list[str]], list[bool], int]:
    """The first rows of a CSV as text.

    Returns:
        Column names, rows of cells, whether each column is numeric, and how many rows there are.

    Raises:
        InputError: the file is missing or damaged.
    """
    table = read_table(path)
    columns = [_column(pd.Series(table.iloc[:, i]), str(table.columns[i]))
               for i in range(table.shape[1])]
    names = [str(name).replace("_", " ") for name in table.columns]
    numeric = [
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        for dtype in table.dtypes
    ]
    cells = [[column[i] for column in columns] for i in range(min(rows, len(table)))]
    return names, cells, numeric, len(table)


def _column(values: pd.Series, name: str) -> list[str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return ["yes" if value else "no" for value in values]
    if pd.api.types.is_integer_dtype(values.dtype):
        return [_signed(str(value)) for value in values]
    if not pd.api.types.is_float_dtype(values.dtype):
        return ["–" if pd.isna(value) else str(value) for value in values]
    form = _form([abs(float(v)) for v in values if math.isfinite(v)], name)
    return [_odd(v) or _signed(form(v)) for v in values]


def _form(sizes: list[float], name: str) -> Callable[[float], str]:
    """How to write the numbers of a column, given their absolute values.

    The largest gets three significant digits at least, all the same decimals; what would come out
    as zero and is none is written with its power of ten.
    """
    if name == "p" or name.startswith("p_") or name.endswith("_p"):
        return lambda v: "<0.001" if v < 0.001 else f"{v:.3f}"
    largest = max(sizes, default=0.0)
    if largest and not SMALLEST <= largest < 1e6:
        return lambda v: f"{v:.4g}"
    short = range(DECIMALS) if name in CHOSEN or all(v == int(v) for v in sizes) else ()
    fine = max(DECIMALS, 2 - math.floor(math.log10(largest))) if largest else DECIMALS
    decimals = next((d for d in short if all(round(v, d) == v for v in sizes)), fine)
    return lambda v: f"{v:.{decimals}f}" if round(v, decimals) or not v else f"{v:.0e}"


def _signed(number: str) -> str:
    return "−" + number[1:] if number.startswith("-") else number


def _odd(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "" if math.isfinite(value) else ("∞" if value > 0 else "−∞")
