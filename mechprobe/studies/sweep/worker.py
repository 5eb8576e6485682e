"""A worker: reads orders, a line of JSON each, does them, and answers with a line each.

Run as ``python -m mechprobe.studies.sweep.worker``. It ends when nobody is there to give orders,
also in the middle of one, and holds nothing that the run folder does not have.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.studies import STUDIES
from mechprobe.studies.sweep.plan import settings_from


class Desk:
    """Does orders one after the other; the run of the last one stays open for the next."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._context: AbstractContextManager | None = None
        self._at: Any = None

    def perform(self, order: dict[str, Any]) -> str | None:
        """Compute a unit, or with unit None finish the run; the error in a line if there is one."""
        study = STUDIES[order["study"]]
        try:
            settings = settings_from(study, order["settings"])
            at = self._open(study.name, settings, Path(order["folder"]))
            if order["unit"] is None:
                with at.run.claim("finish"):
                    study.finish(at, order["command"])
                return None
            unit = next(u for u in study.units(settings) if u.name == order["unit"])
            at.run.unit(unit.name, lambda: unit.compute(at))
        except InputError as error:
            return " ".join(str(error).splitlines())
        except Exception as error:
            traceback.print_exc()
            first = (str(error).splitlines() or ["no message"])[0]
            return f"{type(error).__name__}: {first}"
        return None

    def process(self) -> int:
        """The number of the process this desk is in."""
        return os.getpid()

    def close(self) -> None:
        """Let go of the open run."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
        self._key = self._context = self._at = None

    def _open(self, study: str, settings: Any, folder: Path) -> Any:
        key = f"{study} {settings} {folder}"
        if key != self._key:
            self.close()
            context = STUDIES[study].opened(settings, folder, shared=True)
            self._at = context.__enter__()
            self._key, self._context = key, context
        return self._at


def main() -> None:
    """Do orders from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the work prints goes to the log, not among the answers
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    desk = Desk()
    while True:
        error = desk.perform(json.loads(orders.get()))
        print(json.dumps({"error": error}), file=answers, flush=True)


def _read(orders: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
