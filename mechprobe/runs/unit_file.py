"""The file that keeps a finished unit: its result with a check sum, and the files it wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mechprobe.runs.files import atomic_write, read_json, to_json, unreadable

UNITS = "units"
_KEYS = {"unit", "wrote", "checkpoints", "sha256", "result"}


def as_kept(result: dict) -> dict:
    """A result as JSON keeps it: what a fresh unit returns is what a later reader finds."""
    return json.loads(to_json(result))


def write_unit(
    path: Path, name: str, result: dict, *, seconds: float, wrote: list[str],
    checkpoints: list[str],
) -> None:
    """Keep a finished unit; ``wrote`` and ``checkpoints`` are paths inside the run folder."""
    folder = path.parent.parent
    files = [rel for rel in wrote if (folder / rel).is_file()]
    atomic_write(path, to_json({
        "unit": name, "seconds": round(seconds, 1), "wrote": wrote, "checkpoints": checkpoints,
        "bytes": {rel: (folder / rel).stat().st_size for rel in files},
        "sha256": _digest(result), "result": result,
    }))


def read_unit(path: Path, name: str) -> dict[str, Any]:
    """A kept unit: "unit", "seconds", "wrote", "checkpoints", "sha256", "result".

    Raises:
        InputError: the file is missing, damaged or another unit's; it is named.
    """
    kept = read_json(path)
    whole = isinstance(kept, dict) and set(kept) >= _KEYS
    if not whole or kept["unit"] != name or kept["sha256"] != _digest(kept["result"]):
        raise unreadable(path, ValueError("its content does not match its check sum"))
    return kept


def finished(folder: Path, name: str) -> dict[str, Any] | None:
    """A kept unit of a run folder; None when there is none, or a file it wrote is gone or cut.

    Raises:
        InputError: the kept unit is damaged; its file is named.
    """
    path = folder / UNITS / f"{name}.json"
    if not path.exists():
        return None
    kept = read_unit(path, name)
    sizes = kept.get("bytes", {})
    whole = all((folder / rel).exists() for rel in kept["wrote"]) and all(
        (folder / rel).stat().st_size == size for rel, size in sizes.items()
    )
    return kept if whole else None


def _digest(result: Any) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
