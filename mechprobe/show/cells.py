"""Numbers as a reader wants them: one precision a column, nothing hidden."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.runs.files import read_table


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
    if not pd.api.types.is_float_dtype(values.dtype):
        return ["–" if _missing(value) else str(value) for value in values]
    known = [abs(float(v)) for v in values if math.isfinite(v)]
    if all(v == int(v) and v < 1e15 for v in known):
        return [_odd(v) or f"{v:.0f}" for v in values]
    if name == "p" or name.startswith("p_") or name.endswith("_p"):
        return [_odd(v) or ("<0.001" if v < 0.001 else f"{v:.3f}") for v in values]
    fixed = all(v == 0 or 0.0005 <= v < 10_000 for v in known)
    return [_odd(v) or (f"{v:.3f}" if fixed else f"{v:.4g}") for v in values]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _odd(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "" if math.isfinite(value) else ("∞" if value > 0 else "−∞")
