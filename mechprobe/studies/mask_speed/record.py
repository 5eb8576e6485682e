"""The benchmark's record: rows and searches that parts of a measurement add to, and its pages."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechprobe.errors import InputError
from mechprobe.runs.files import atomic_write, read_json, to_json
from mechprobe.runs.tables import write_table
from mechprobe.studies.mask_speed.measure import Row, by_cpu_seconds
from mechprobe.studies.mask_speed.report import page, readme_lines
from mechprobe.studies.mask_speed.search import FILE

KEY = ["device", "task", "shape", "layers", "closed", "k"]
MARKS = ("<!-- masks -->", "<!-- /masks -->")


class Record:
    """What was measured: here, and in the folder before.

    Args:
        folder: of ``masks.csv``, ``masks-search.json`` and ``masks.md`` (None: nothing is kept).
        device: that new rows are measured on; ``repeats`` their rounds.
    """

    def __init__(self, folder: Path | None, device: str = "cpu", repeats: int = 5) -> None:
        self.folder, self.device, self.repeats = folder, device, repeats
        self.table, self.search = table_of([], device, repeats), None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / "masks.csv").exists():
                self.table = pd.read_csv(folder / "masks.csv")
            if (folder / FILE).exists():
                self.search: dict[str, Any] | None = read_json(folder / FILE)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows, in place of older ones of the same setting."""
        new = table_of(rows, self.device, self.repeats)
        fresh = set(map(tuple, new[KEY].astype(str).to_numpy()))
        if len(self.table):
            old = self.table[KEY].astype(str).to_numpy()
            kept = self.table.loc[[tuple(row) not in fresh for row in old]]
            new = pd.concat([kept, new], ignore_index=True) if len(kept) else new
        self.table = new
        self._write()

    def searched(self, found: dict[str, Any]) -> None:
        """Put what ``compare_searches`` has found so far in place of the older."""
        self.search = found | {"date": date.today().isoformat()}
        self._write()

    def page(self) -> str:
        """All of it in Markdown."""
        return page(self.table, self.search)

    def show_in(self, readme: Path) -> None:
        """Write the README's table between its marks.

        Raises:
            InputError: the file has no such marks.
        """
        text = readme.read_text(encoding="utf-8") if readme.exists() else ""
        pattern = "(?s)" + re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
        if len(re.findall(pattern, text)) != 1:
            raise InputError(f"{readme} needs one {MARKS[0]} ... {MARKS[1]} for the table")
        block = "\n".join([MARKS[0], *readme_lines(self.table, self.search), MARKS[1]])
        atomic_write(readme, re.sub(pattern, lambda _: block, text).encode())

    def _write(self) -> None:
        if self.folder is None:
            return
        write_table(self.folder / "masks.csv", self.table)
        if self.search is not None:
            atomic_write(self.folder / FILE, to_json(self.search))
        atomic_write(self.folder / "masks.md", self.page().encode())


def table_of(rows: Sequence[Row], device: str, repeats: int) -> pd.DataFrame:
    """Rows with what they were measured on."""
    unit = "CPU seconds" if by_cpu_seconds(device) else "seconds"
    about = {
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "unit": unit, "threads": torch.get_num_threads(), "repeats": repeats,
        "chip": _chip(), "torch": torch.__version__, "date": date.today().isoformat(),
    }  # fmt: skip
    blank = {"share": None, "memory": None} | about
    return pd.DataFrame([blank | row for row in rows], columns=None if rows else [*blank, *KEY[1:]])


def _chip() -> str:
    """The processor's name as Linux gives it, else its kind."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    names = [n.partition(":")[2].strip() for n in text.splitlines() if n.startswith("model name")]
    return names[0] if names else platform.machine()
