"""How a result shows itself at a prompt or in a notebook: by its table, never by its arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd

ROWS = 12
"""Rows of a table shown at a prompt."""


class Tabled(ABC):
    """A result with a ``.table()``, which is also what its ``repr`` shows."""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The result as a table."""

    def _title(self) -> str:
        named = [type(self).__name__]
        for key in ("method", "metric", "baseline"):
            if isinstance(value := getattr(self, key, None), str):
                named.append(f"{key} {value}")
        return ", ".join(named)

    def __repr__(self) -> str:
        shown = self.table().to_string(max_rows=ROWS, index=False, float_format="{:.4g}".format)
        return f"{self._title()}\n{shown}"

    def _repr_html_(self) -> str:
        shown = self.table().to_html(
            max_rows=ROWS, index=False, border=0, float_format="{:.4g}".format
        )
        return f"<p>{self._title()}</p>{shown}"
