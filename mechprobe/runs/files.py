"""Files that are there whole or not at all, in the few formats a run is kept in."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mechprobe.errors import InputError

DRAFT = ".tmp-"
"""Part of the name of a file that is being written; what a kill leaves behind is swept away."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a draft path beside ``path``, and put it in place when the block ends well.

    The content is on the disk before the name changes, so that a kill or a power cut leaves the
    old file or the new one, never a part. Parent folders are made.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}{DRAFT}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.touch(exist_ok=False)
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


def atomic_write(path: str | Path, content: bytes) -> Path:
    """Write bytes to a file so that it is never seen half written; returns its path.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as draft, draft.open("wb") as file:
        file.write(content)
    return Path(path)


def sweep_drafts(folder: Path) -> None:
    """Remove draft files and folders that a killed process left under a folder nobody writes."""
    for draft in list(folder.rglob(f".*{DRAFT}*")):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def to_json(value: Any) -> bytes:
    """Readable JSON, NumPy numbers and arrays included; floats keep every bit."""
    return (json.dumps(value, indent=1, default=_plain, ensure_ascii=False) + "\n").encode()


def to_json_line(value: Any) -> bytes:
    """JSON on one line, ended."""
    return (json.dumps(value, default=_plain, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: the file is missing or damaged; it is named.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def write_arrays(
    path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """NumPy arrays or tensors by name, as safetensors; bfloat16 is widened to float32."""
    from safetensors.numpy import save_file

    rows = {name: _array(value) for name, value in arrays.items()}
    with atomic_path(path) as draft:
        save_file(rows, draft, dict(metadata or {}))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name from a safetensors file.

    Raises:
        InputError: the file is missing or damaged; it is named.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a result file that is missing or damaged."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} is missing; run the study again, it computes what is not there")
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"{path} is damaged ({first}); delete this file and run again, "
        "what it held is computed again"
    )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot write {path} ({reason}); give a folder that can be written, with space"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system allows asking for that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    return np.ascontiguousarray(value).reshape(np.shape(value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):  # arrays and tensors
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON: {value!r}")
