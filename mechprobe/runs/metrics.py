"""metrics.jsonl: one line a report, appended at once, each step of a unit in it once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs.files import atomic_write, to_json_line, unreadable

FILE = "metrics.jsonl"


class Metrics:
    """The lines of a run; work that is repeated after a kill replaces its lines.

    Opening cuts a last line that a kill tore. A line of a unit at a step that an earlier process
    already reached drops that unit's lines from this step on.

    Raises:
        InputError: the file has a damaged line before its end; it is named.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
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
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                row = json.loads(line)
                wanted = unit is None or row["unit"] == unit
                found += [row] if wanted and isinstance(row["step"], int) else []
            except (ValueError, KeyError, TypeError) as error:
                reason = f"line {number}: {error}"
                raise unreadable(self.path, ValueError(reason)) from None
        return found

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
        atomic_write(self.path, b"".join(to_json_line(row) for row in kept))
