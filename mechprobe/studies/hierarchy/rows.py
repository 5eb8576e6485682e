"""Rows of tables by the values of their columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd


def where(table: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows in which every named column has the given value."""
    keep = np.ones(len(table), dtype=bool)
    for column, value in equal.items():
        keep &= np.asarray(table[column] == value)
    return cast(pd.DataFrame, table.loc[keep])


def records(table: pd.DataFrame, by: str | None = None, **equal: Any) -> list[dict[str, Any]]:
    """Those rows as dicts, ordered by a column where one is named."""
    chosen = where(table, **equal)
    if by is not None:
        chosen = chosen.sort_values(by=by, kind="stable")
    return [{str(k): v for k, v in row.items()} for row in chosen.to_dict("records")]


def values(table: pd.DataFrame, column: str, by: str | None = None, **equal: Any) -> list[Any]:
    """One column of those rows."""
    return [row[column] for row in records(table, by, **equal)]
