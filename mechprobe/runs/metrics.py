"""metrics.jsonl: one line a report, appended at once, each step of a unit in it once.

Processes that share a run each append to a file a unit, ``metrics/UNIT.jsonl``; ``fold`` brings
these into metrics.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs.files import atomic_write, to_json_line, unreadable

FILE = "metrics.jsonl"
PARTS = "metrics"


class Metrics:
    """The lines of a run; work that is repeated after a kill replaces its lines.

    Opening cuts a last line that a kill tore. A line of a unit at a step that an earlier process
    already reached drops that unit's lines from this step on.

    Raises:
        InputError: the file has a damaged line before its end; it is named.
    """

    def __init__(self, folder: Path, file: str = FILE) -> None:
        self.path = folder / file
        self._earlier: dict[str, int] = {}
        self._reached: dict[str, int] = {}
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                atomic_write(self.path, whole)
            for row in self.rows():
                self._earlier[row["unit"]] = max(row["step"], self._earlier.get(row["unit"], 0))

    def rows(self, unit: str | None = None) -> list[dict[str, Any]]:
        """All lines, or those of a unit, in the order written."""
        return [row for row in _rows(self.path) if unit is None or row["unit"] == unit]

    def append(self, unit: str, step: int, values: dict[str, Any]) -> None:
        """Write one line, in the file when the call returns."""
        if step <= self._earlier.pop(unit, -1) or step < self._reached.get(unit, step):
            self.drop(unit, step)
        self._reached[unit] = step
        line = to_json_line({"unit": unit, "step": step, **values})
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise InputError(f"cannot write {self.path} ({error.strerror}); make space") from error

    def drop(self, unit: str, step: int = 0) -> None:
        """Remove a unit's lines from a step on."""
        kept = [row for row in self.rows() if row["unit"] != unit or row["step"] < step]
        atomic_write(self.path, _lines(kept))


class SharedMetrics:
    """The lines of a run that several processes share, each unit's in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, Metrics] = {}

    def rows(self, unit: str | None = None) -> list[dict[str, Any]]:
        """All lines, or those of a unit; a unit's own file stands for what metrics.jsonl has."""
        return _joined(self.folder, unit)

    def append(self, unit: str, step: int, values: dict[str, Any]) -> None:
        """Write one line, in the unit's file when the call returns."""
        if unit not in self._parts:
            place = part_file(unit)
            if not (self.folder / place).exists():
                earlier = [row for row in _rows(self.folder / FILE) if row["unit"] == unit]
                atomic_write(self.folder / place, _lines(earlier))
            self._parts[unit] = Metrics(self.folder, place)
        self._parts[unit].append(unit, step, values)


def part_file(unit: str) -> str:
    """Where a unit's own lines are, inside the run folder."""
    return f"{PARTS}/{unit}.jsonl"


def fold(folder: Path, order: Sequence[str] = ()) -> None:
    """Bring the units' own files into metrics.jsonl; lines in the given order of units.

    A kill on the way loses nothing: what is done again gives the same file.
    """
    parts = sorted((folder / PARTS).glob("*.jsonl"))
    place = {unit: number for number, unit in enumerate(order)}
    rows = _joined(folder)
    ordered = sorted(rows, key=lambda row: place.get(row["unit"], -1))
    if parts or ordered != rows:
        atomic_write(folder / FILE, _lines(ordered))
    for part in parts:
        part.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / PARTS).rmdir()


def _joined(folder: Path, unit: str | None = None) -> list[dict[str, Any]]:
    parts = sorted((folder / PARTS).glob("*.jsonl"))
    own = {part.name.removesuffix(".jsonl") for part in parts}
    found = [row for row in _rows(folder / FILE) if row["unit"] not in own]
    found += [row for part in parts for row in _rows(part)]
    return [row for row in found if unit is None or row["unit"] == unit]


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; the last of a file that is being written may be torn and is left out.

    Raises:
        InputError: a damaged line; the file is named.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    found = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
            if isinstance(row["unit"], str) and isinstance(row["step"], int):
                found.append(row)
        except (ValueError, KeyError, TypeError) as error:
            raise unreadable(path, ValueError(f"line {number}: {error}")) from None
    return found


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(to_json_line(row) for row in rows)
