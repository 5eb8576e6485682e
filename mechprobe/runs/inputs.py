"""What a run reads from outside, cards and data, compared with what it read when it was begun."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs.config import differences
from mechprobe.runs.run import Run

_UNIT = "inputs"
_MOST = 3  # values or changes that a message names
_LONGEST = 60


def digest_of(*columns: Sequence[Any]) -> str:
    """How many rows these columns of JSON values have, and the start of their SHA-256."""
    found = hashlib.sha256()
    for column in columns:
        found.update(json.dumps(list(column)).encode())
    return f"{len(columns[0])} rows, sha256 {found.hexdigest()[:16]}"


def digest_of_file(path: Path) -> str:
    """How many bytes a file has, and the start of their SHA-256."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return f"{path.stat().st_size} bytes, sha256 {found}"


def card_inputs(card: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a task card by their place in it, such as ``card words.noun.list``."""
    return {f"card {place}": value for place, value in _flat(card, "")}


def refuse_other_inputs(run: Run, now: Mapping[str, Any]) -> None:
    """Note what a new run reads; of one that is gone on with, compare it.

    Args:
        now: JSON values by what they are of: ``digest_of`` each part of the data, ``card_inputs``.

    Raises:
        InputError: they are not what the run was begun with; what differs is shown.
    """
    kept = run.unit(_UNIT, lambda: dict(now))
    changed = differences(kept, json.loads(json.dumps(now)))
    if not changed:
        return
    shown = [f"{name}: {_change(*pair)}" for name, pair in changed.items()]
    more = f"; and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    raise InputError(
        f"{run.folder} was begun with another card or other data ({'; '.join(shown[:_MOST])}"
        f"{more}); put them back to go on with it, or give another folder"
    )


def _flat(value: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{place}{key}.")
        else:
            yield f"{place}{key}", item


def _change(old: Any, new: Any) -> str:
    """Both values; of lists, what was taken out and put in."""
    if not (isinstance(old, list) and isinstance(new, list)):
        return f"{_short(old)} -> {_short(new)}"
    out, put = [v for v in old if v not in new], [v for v in new if v not in old]
    parts = [f"without {_few(out)}"] * bool(out) + [f"with {_few(put)}"] * bool(put)
    return ", ".join(parts) or "the same values in another order or number"


def _few(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _MOST} more" if len(values) > _MOST else ""
    return ", ".join(map(_short, values[:_MOST])) + more


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."
