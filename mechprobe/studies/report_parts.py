"""What a study's report is made of: figures kept in its run folder, and sections that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures import save_figure
from mechprobe.runs import Run


class Gallery:
    """Saves figures under ``figures/`` and remembers where.

    Attributes:
        drawn: name -> path of its PNG inside the run folder.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.drawn: dict[str, str] = {}

    def keep(self, name: str, figure: Figure, data: pd.DataFrame) -> None:
        """Write one figure (PDF, PNG) and the numbers it shows (CSV)."""
        save_figure(figure, self.run.path(f"figures/{name}"), data)
        self.drawn[name] = f"figures/{name}.png"


def write_tables(run: Run, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Write tables as CSV; name -> path inside the run folder of all that are there.

    Tables that units of the run wrote are found too; empty ones of ``tables`` are left out.
    """
    for name, table in tables.items():
        run.write_table(f"tables/{name}.csv", table)
    there = sorted(path.stem for path in run.path("tables").glob("*.csv"))
    return {n: f"tables/{n}.csv" for n in there if n not in tables or len(tables[n])}


@dataclass(frozen=True)
class Parts:
    """The tables and figures that a run has, by name; values are paths inside its folder."""

    tables: Mapping[str, str]
    figures: Mapping[str, str]

    def section(
        self, title: str, text: str | Sequence[str], tables: Mapping[str, str],
        figures: Mapping[str, str],
    ) -> dict[str, object]:
        """A section of ``report.json``; what the run does not have is left out.

        Args:
            text: one paragraph, or several.
            tables: name -> caption, in the order shown.
            figures: likewise.
        """
        return {
            "title": title, "text": [text] if isinstance(text, str) else list(text),
            "tables": _shown(tables, self.tables), "figures": _shown(figures, self.figures),
        }


def _shown(captions: Mapping[str, str], there: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"file": there[name], "caption": caption}
        for name, caption in captions.items() if name in there
    ]
