"""A view kept as a file of a run, for its report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.runs.files import atomic_write, read_json, unreadable
from mechprobe.show.view import Panel, View


def keep_view(view: View, path: str | Path) -> Path:
    """Write a view as JSON; ``{"views": [{"file": ..., "caption": ...}]}`` of a section shows it.

    Raises:
        InputError: the file cannot be written, or the view holds NaN or infinite numbers.
    """
    try:
        told = json.dumps(asdict(view), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(f"a view holds finite numbers only ({error}); mend its values") from None
    return atomic_write(Path(path).expanduser(), told.encode())


def read_view(path: Path) -> View:
    """A view as ``keep_view`` wrote it; raises InputError when it is missing or damaged."""
    raw = read_json(path)
    try:
        panels = tuple(
            Panel(**{
                **panel, "columns": tuple(panel["columns"]),
                "rows": tuple(tuple(row) for row in panel["rows"]),
            })
            for panel in raw["panels"]
        )
        return View(raw["title"], panels)
    except (KeyError, TypeError) as error:
        raise unreadable(path, ValueError(f"{type(error).__name__}: {error}")) from None
