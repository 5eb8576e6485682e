"""Workers that are processes of this machine, each started anew, none with a share in another."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mechprobe.studies.sweep.schedule import Reply


class Processes:
    """Local worker processes; use ``with``, at the end of which they are stopped.

    Args:
        count: how many there are at a time; each is started when it first gets a task.
        logs: folder of what they print, a file each.
        threads: CPU threads of the libraries under torch.
    """

    def __init__(self, count: int, logs: Path, *, threads: int = 1) -> None:
        self.count = count
        self._logs, self._threads = logs, threads
        self._started: dict[int, subprocess.Popen[str]] = {}
        self._ready = selectors.DefaultSelector()

    def give(self, worker: int, order: dict[str, Any]) -> None:
        """Let a worker begin a task; it is started, or started again, when need be."""
        process = self._started.get(worker)
        if process is not None and process.poll() is not None:
            self._close(process)
            process = None
        process = process or self._start(worker)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died between two tasks; ``wait`` sees that
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()

    def wait(self) -> tuple[int, Reply]:
        """The next worker that ended its task, and what became of it."""
        key = self._ready.select()[0][0]
        worker, process = key.data, self._started[key.data]
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return worker, Reply(json.loads(line)["error"])
        why = _ending(process.wait())
        self._close(process)
        return worker, Reply(f"worker {worker} {why}", died=True)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started.values():
            if process.poll() is None:
                process.kill()  # what is unfinished goes on from its checkpoint another time
            process.wait()
            self._close(process)
        self._ready.close()

    def _start(self, worker: int) -> subprocess.Popen[str]:
        self._logs.mkdir(parents=True, exist_ok=True)
        threads = str(self._threads)
        with (self._logs / f"worker-{os.getpid()}-{worker}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mechprobe.studies.sweep.worker"], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=1,
                start_new_session=True,  # Ctrl-C is for the sweep, which then stops its workers
                env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
                     "MECHPROBE_PROGRESS": "0"},
            )
        assert process.stdout is not None
        self._started[worker] = process
        self._ready.register(process.stdout, selectors.EVENT_READ, worker)
        return process

    def _close(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.closed:
            self._ready.unregister(process.stdout)
            process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    more = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{more}"
