"""One run directory: opened or resumed, its finished units never computed twice."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.runs import files
from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.config import CONFIG, FREE, describe, settle
from mechprobe.runs.lock import LOCK, Lock, claim
from mechprobe.runs.metrics import Metrics, SharedMetrics, fold
from mechprobe.runs.tables import read_table, write_table
from mechprobe.runs.unit_file import UNITS, as_kept, finished, read_unit, write_unit

if TYPE_CHECKING:
    import pandas as pd

_CLAIMS = ".claims"
_NAME = re.compile(r"[\w.+=,@-]+")


class Run:
    """A run directory that this process alone writes, or shares; ``with Run.open(...) as run``."""

    def __init__(
        self, folder: Path, config: dict[str, Any], lock: Lock, *, shared: bool = False
    ) -> None:
        self.folder = folder
        self.config = config
        self.shared = shared
        self._lock = lock
        self._metrics = SharedMetrics(folder) if shared else Metrics(folder)
        self._written: dict[Path, tuple[int, int] | None] = {}
        self._checkpoints: list[Checkpoint] = []

    @classmethod
    def open(
        cls, folder: str | Path, config: Mapping[str, Any], *, free: Collection[str] = FREE,
        shared: bool = False,
    ) -> Run:
        """Create a run directory, or go on with the run it holds.

        Args:
            folder: made when absent; empty, or a run of the same study with the same settings.
            config: "study" and every setting, JSON values.
            free: settings that may differ when a run is resumed (they change no result beyond
                rounding); a change is said on stderr and kept in config.json.
            shared: other processes may open the folder so too, and each unit is computed by the
                first that comes to it; who comes later waits for it.

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
        lock = Lock(folder, shared=shared)
        try:
            if lock.alone:
                files.sweep_drafts(folder)
                shutil.rmtree(folder / _CLAIMS, ignore_errors=True)
                fold(folder)
            run = cls(folder, settle(folder, describe(config), free), lock, shared=shared)
            if shared and lock.alone:
                lock.share()
            return run
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
        a file that it wrote through this run is gone or no longer of its size. Checkpoints that the
        unit took are deleted once its result is kept.

        Raises:
            InputError: the kept result is damaged; its file is named.
        """
        path = self._place(UNITS, name, ".json")
        if (kept := self._finished(name)) is not None:
            return kept
        with self.claim(name):
            if self.shared and (kept := self._finished(name)) is not None:
                return kept  # another process has computed it meanwhile
            return self._compute(path, name, compute)

    def has(self, name: str) -> bool:
        """Whether a unit is finished."""
        return finished(self.folder, name) is not None

    def result(self, name: str) -> dict:
        """The result of a finished unit.

        Raises:
            InputError: it is not finished, or damaged.
        """
        return read_unit(self._place(UNITS, name, ".json"), name)["result"]

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Do a named piece of work alone among the processes that share the folder."""
        one = claim(self._place(_CLAIMS, name, ""), f"{name} in {self.folder}")
        with one if self.shared else nullcontext():
            yield

    def _finished(self, name: str) -> dict | None:
        """A kept result, its checkpoints removed; None when there is none."""
        if (kept := finished(self.folder, name)) is None:
            return None
        for rel in kept["checkpoints"]:
            (self.folder / rel).unlink(missing_ok=True)
        return kept["result"]

    def _compute(self, path: Path, name: str, compute: Callable[[], dict]) -> dict:
        path.unlink(missing_ok=True)
        outer, self._written = self._written, {}
        outer_checkpoints, self._checkpoints = self._checkpoints, []
        try:
            began = time.monotonic()
            result = as_kept(compute())
            write_unit(
                path, name, result, seconds=time.monotonic() - began, wrote=self._wrote(),
                checkpoints=[self._relative(c.path) for c in self._checkpoints],
            )
            for checkpoint in self._checkpoints:
                checkpoint.delete()
        finally:
            self._written, self._checkpoints = outer, outer_checkpoints
        return result

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the unfinished work of this name keeps its state."""
        place = self._place("checkpoints", name, ".safetensors")
        found = Checkpoint(place, self._wrote, self._recall)
        self._checkpoints.append(found)
        return found

    def log(self, unit: str, step: int, **metrics: Any) -> None:
        """Append one line to metrics.jsonl; repeated after a kill, it replaces its first self."""
        self._metrics.append(unit, step, metrics)

    def metrics(self, unit: str | None = None) -> list[dict[str, Any]]:
        """The logged lines, all or a unit's, as dicts with "unit", "step" and the metrics."""
        return self._metrics.rows(unit)

    def order_metrics(self, units: Sequence[str]) -> None:
        """Bring the lines of all units into metrics.jsonl, in the order of these units."""
        with self.claim("metrics"):
            fold(self.folder, units)

    def path(self, rel: str | Path) -> Path:
        """A path inside the run folder; its parent folder exists."""
        path = self.folder / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.setdefault(path, _changed(path))
        return path

    def owned(self, rel: str) -> Path:
        """A path that counts as written by the current unit, whoever writes in it, and when."""
        path = self.path(rel)
        self._written[path] = None
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

    def _recall(self, wrote: list[str]) -> None:
        """Count as written what an earlier process wrote for the current unit."""
        for rel in wrote:
            self._written[self.folder / rel] = None

    def _wrote(self) -> list[str]:
        """What appeared or changed, of the paths the current unit was given."""
        return sorted(
            self._relative(path)
            for path, before in self._written.items()
            if path.exists() and path != self.folder and _changed(path) != before
        )


def _changed(path: Path) -> tuple[int, int] | None:
    """What differs after a file or folder is written anew, however clocks go; None if absent."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _refuse_strange(folder: Path) -> None:
    own = (LOCK, _CLAIMS)
    strange = [p.name for p in folder.iterdir() if p.name not in own and files.DRAFT not in p.name]
    if strange:
        raise InputError(
            f"{folder} is not empty and holds no run (no {CONFIG}; found {sorted(strange)[0]!r}); "
            "give a new or empty folder"
        )
