"""Tables as CSV whose text is quoted, so that head "5.10" comes back as a word, not as 5.1."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechprobe.runs.files import atomic_write, unreadable

if TYPE_CHECKING:
    import pandas as pd

_CELL = re.compile(r'("(?:[^"]|"")*"|[^",\r\n]*)(,|\r?\n|\Z)')


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table: text quoted, floats with every digit, missing values empty.

    An index that carries names or words becomes columns; one that only counts rows is left out.
    """
    index = table.index
    if any(name is not None for name in index.names) or index.inferred_type != "integer":
        table = table.reset_index() if len(table) else table
    columns = [[_written(value) for value in table.iloc[:, i]] for i in range(table.shape[1])]
    rows = [[_quoted(str(name)) for name in table.columns], *zip(*columns, strict=True)]
    atomic_write(path, "".join(",".join(row) + "\n" for row in rows).encode())


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written; unquoted cells are numbers where all of a column are.

    Raises:
        InputError: the file is missing or damaged; it is named.
    """
    import pandas as pd

    try:
        head, *rows = _rows(path.read_bytes().decode())
        if any(len(row) != len(head) for row in rows):
            raise ValueError(f"a row has not {len(head)} cells")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    columns = [_values(column) for column in zip(*rows, strict=True)] if rows else [[]] * len(head)
    table = pd.DataFrame(dict(enumerate(columns)))
    table.columns = [_bare(name) for name in head]
    return table


def _rows(content: str) -> list[list[str]]:
    """Cells as they stand in the file, quotes included."""
    rows, row, place = [], [], 0
    while place < len(content):
        found = _CELL.match(content, place)
        if found is None:
            raise ValueError(f"row {len(rows) + 1} is no CSV")
        row.append(found[1])
        place = found.end()
        if found[2] != ",":
            rows.append(row)
            row = []
    if row or not rows or not content.endswith("\n"):
        raise ValueError("it ends in the middle")
    return rows


def _written(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool() | np.bool_():
            return str(bool(value))
        case int() | np.integer():
            return str(int(value))
        case float() | np.floating():
            return "" if math.isnan(value) else repr(float(value))
    return "" if str(value) in ("<NA>", "NaT") else _quoted(str(value))


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _bare(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _values(cells: Sequence[str]) -> Any:
    """A column: bool, int64, float64, or text with None where a cell is empty."""
    if not any(cell.startswith('"') for cell in cells):
        if set(cells) <= {"True", "False"}:
            return np.array([cell == "True" for cell in cells])
        for kind in (np.int64, np.float64):
            try:
                return np.array([kind(cell or "nan") for cell in cells])
            except (ValueError, OverflowError):
                continue
    return [_bare(cell) if cell else None for cell in cells]
