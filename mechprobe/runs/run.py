"""One run directory: opened or resumed, its finished units never computed twice."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.runs import files
from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.config import FREE, describe, differences, environment, refuse_other_settings
from mechprobe.runs.lock import LOCK, Lock
from mechprobe.runs.metrics import Metrics
from mechprobe.runs.tables import read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

CONFIG = "config.json"
_UNIT_KEYS = {"unit", "wrote", "checkpoints", "sha256", "result"}
_NAME = re.compile(r"[\w.+=,@-]+")


class Run:
    """A run directory that this process alone writes; use ``with Run.open(...) as run``."""

    def __init__(self, folder: Path, config: dict[str, Any], lock: Lock) -> None:
        self.folder = folder
        self.config = config
        self._lock = lock
        self._metrics = Metrics(folder)
        self._written: dict[Path, int | None] = {}
        self._checkpoints: list[Checkpoint] = []

    @classmethod
    def open(
        cls, folder: str | Path, config: Mapping[str, Any], *, free: Collection[str] = FREE
    ) -> Run:
        """Create a run directory, or go on with the run it holds.

        Args:
            folder: made when absent; empty, or a run of the same study with the same settings.
            config: "study" and every setting, JSON values.
            free: settings that may differ when a run is resumed (they change no result beyond
                rounding); a change is said on stderr and kept in config.json.

        Raises:
            InputError: the folder cannot be written, is in use by another process, holds something
                else, another study's run, or other settings (each difference is shown).
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the run folder {folder} ({error.strerror}); give a folder that can "
                "be written"
            ) from None
        if not (folder / CONFIG).exists():
            _refuse_strange(folder)
        lock = Lock(folder)
        try:
            files.sweep_drafts(folder)
            return cls(folder, _settle(folder, describe(config), free), lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def unit(self, name: str, compute: Callable[[], dict]) -> dict:
        """The result of a piece of work: read when it is finished, computed and kept when not.

        The result is what JSON keeps of it, fresh or read. A finished unit is computed again when
        a file that it wrote through this run is no longer there. Checkpoints that the unit took
        are deleted once its result is kept.

        Raises:
            InputError: the kept result is damaged; its file is named.
        """
        path = self._place("units", name, ".json")
        if path.exists():
            kept = _read_unit(path, name)
            if all((self.folder / rel).exists() for rel in kept["wrote"]):
                for rel in kept["checkpoints"]:
                    (self.folder / rel).unlink(missing_ok=True)
                return kept["result"]
            path.unlink()
        outer, self._written = self._written, {}
        outer_checkpoints, self._checkpoints = self._checkpoints, []
        try:
            began = time.monotonic()
            result = json.loads(files.to_json(compute()))
            files.atomic_write(path, files.to_json({
                "unit": name,
                "seconds": round(time.monotonic() - began, 1),
                "wrote": self._wrote(),
                "checkpoints": [self._relative(c.path) for c in self._checkpoints],
                "sha256": _digest(result),
                "result": result,
            }))
            for checkpoint in self._checkpoints:
                checkpoint.delete()
        finally:
            self._written, self._checkpoints = outer, outer_checkpoints
        return result

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the unfinished work of this name keeps its state."""
        found = Checkpoint(self._place("checkpoints", name, ".safetensors"))
        self._checkpoints.append(found)
        return found

    def log(self, unit: str, step: int, **metrics: Any) -> None:
        """Append one line to metrics.jsonl; repeated after a kill, it replaces its first self."""
        self._metrics.append(unit, step, metrics)

    def metrics(self, unit: str | None = None) -> list[dict[str, Any]]:
        """The logged lines, all or a unit's, as dicts with "unit", "step" and the metrics."""
        return self._metrics.rows(unit)

    def path(self, rel: str | Path) -> Path:
        """A path inside the run folder; its parent folder exists."""
        path = self.folder / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.setdefault(path, _changed(path))
        return path

    def write_json(self, rel: str, value: Any) -> Path:
        """Keep a JSON value (NumPy numbers and arrays become lists)."""
        return files.atomic_write(self.path(rel), files.to_json(value))

    def read_json(self, rel: str) -> Any:
        """A kept JSON value; raises InputError naming the file when missing or damaged."""
        return files.read_json(self.folder / rel)

    def write_arrays(self, rel: str, arrays: Mapping[str, np.ndarray | Any]) -> Path:
        """Keep arrays or tensors by name, as safetensors."""
        files.write_arrays(path := self.path(rel), arrays)
        return path

    def read_arrays(self, rel: str) -> dict[str, np.ndarray]:
        """Kept arrays by name; raises InputError naming the file when missing or damaged."""
        return files.read_arrays(self.folder / rel)

    def write_table(self, rel: str, table: pd.DataFrame) -> Path:
        """Keep a table as CSV: text quoted, floats with every digit."""
        write_table(path := self.path(rel), table)
        return path

    def read_table(self, rel: str) -> pd.DataFrame:
        """A kept table; raises InputError naming the file when missing or damaged."""
        return read_table(self.folder / rel)

    def _place(self, kind: str, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name) or name.startswith("."):
            raise ValueError(f"{name!r} is no name for a unit; use letters, digits and . _ - + =")
        folder = self.folder / kind
        folder.mkdir(exist_ok=True)
        return folder / f"{name}{suffix}"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _wrote(self) -> list[str]:
        """What appeared or changed, of the paths the current unit was given."""
        return sorted(
            self._relative(path)
            for path, before in self._written.items()
            if path.exists() and path != self.folder and _changed(path) != before
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """The record of a run: "settings", "environment" and, if any, what changed when "resumed".

    Raises:
        InputError: the folder holds no run, or its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no run (no {CONFIG}); give the folder of a run")
    kept = files.read_json(path)
    if not isinstance(kept, dict) or not {"settings", "environment"} <= set(kept):
        raise files.unreadable(path, ValueError("not the config of a run"))
    return kept


def _settle(folder: Path, settings: dict[str, Any], free: Collection[str]) -> dict[str, Any]:
    """Write the config of a new run, or check it against the one that is there."""
    settings = json.loads(files.to_json(settings))
    now = environment()
    path = folder / CONFIG
    if not path.exists():
        config = {"settings": settings, "environment": now}
        files.atomic_write(path, files.to_json(config))
        return config
    config = read_config(folder)
    refuse_other_settings(folder, config["settings"], settings, free)
    changed = differences(_flat(config), _flat({"settings": settings, "environment": now}))
    news = {key: list(pair) for key, pair in changed.items()}
    if news and news not in config.get("resumed", []):
        shown = ", ".join(f"{key}: {a} -> {b}" for key, (a, b) in news.items())
        print(f"mechprobe: resuming {folder} with a change that may move numbers by rounding: "
              f"{shown}", file=sys.stderr)
        config["resumed"] = [*config.get("resumed", []), news]
        files.atomic_write(path, files.to_json(config))
    return config


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    own, versions = dict(config["environment"]), config["environment"].get("versions", {})
    own.pop("versions", None)
    return {**own, **versions, **config["settings"]}


def _refuse_strange(folder: Path) -> None:
    strange = [p.name for p in folder.iterdir() if p.name != LOCK and files.DRAFT not in p.name]
    if strange:
        raise InputError(
            f"{folder} is not empty and holds no run (no {CONFIG}; found {sorted(strange)[0]!r}); "
            "give a new or empty folder"
        )


def _read_unit(path: Path, name: str) -> dict[str, Any]:
    kept = files.read_json(path)
    whole = isinstance(kept, dict) and _UNIT_KEYS <= set(kept)
    if not whole or kept["unit"] != name or kept["sha256"] != _digest(kept["result"]):
        raise files.unreadable(path, ValueError("its content does not match its check sum"))
    return kept


def _digest(result: Any) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def _changed(path: Path) -> int | None:
    """When a file or folder last changed, in nanoseconds; None while it is not there."""
    return path.stat().st_mtime_ns if path.exists() else None
