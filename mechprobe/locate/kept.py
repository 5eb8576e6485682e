"""Results as files: arrays in one safetensors file, the rest as JSON in its header, a table beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mechprobe.errors import InputError
from mechprobe.runs import atomic_write
from mechprobe.sites import SiteGrid


def keep(
    folder: str | Path,
    name: str,
    described: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    table: pd.DataFrame,
) -> Path:
    """Write ``name``.safetensors and ``name``.csv into a folder, made if need be.

    Raises:
        InputError: settings that are not plain JSON values.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        header = {name: json.dumps(dict(described))}
    except TypeError as error:
        raise InputError(f"settings must be plain JSON values ({error}); convert them") from None
    plain = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    atomic_write(folder / f"{name}.safetensors", save(plain, header))
    atomic_write(folder / f"{name}.csv", table.to_csv(index=False).encode())
    return folder


@contextmanager
def kept(
    folder: str | Path, name: str, arrays: Sequence[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What ``keep`` wrote, the description and the named arrays, for a result to be built from.

    Raises:
        InputError: no such result there, or one that cannot be read or built.
    """
    path = Path(folder) / f"{name}.safetensors"
    try:
        with safe_open(path, "numpy") as file:
            described = json.loads(file.metadata()[name])
            yield described, {key: file.get_tensor(key) for key in arrays}
    except InputError:
        raise
    except (OSError, LookupError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{path} holds no {name} ({error}); save them again") from None


def grid_settings(grid: SiteGrid | None) -> dict[str, Any] | None:
    """The fields of a grid as plain JSON values."""
    return None if grid is None else asdict(grid)


def grid_of(settings: Mapping[str, Any]) -> SiteGrid:
    """The grid whose fields were read back from JSON; files of one stack may not name it."""
    return SiteGrid(**{**settings, "stacks": tuple(settings.get("stacks", ("",)))})
