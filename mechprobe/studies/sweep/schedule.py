"""Tasks handed to workers: each once, after what it needs, again where its worker died."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

MOST_DEATHS = 3
"""How often a task may take its worker with it before it counts as failed."""


@dataclass(frozen=True)
class Task:
    """A piece of work for a worker.

    Attributes:
        key: its name, unique in the sweep.
        group: tasks of one group share what is opened for them, so one worker had better do them.
        needs: keys of the tasks that come first; those that are not in the list are done already.
        order: what a worker is told, as JSON values.
    """

    key: str
    group: str
    needs: tuple[str, ...]
    order: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What became of a task: nothing went wrong, an error in one line, or the worker's death."""

    error: str | None = None
    died: bool = False


@runtime_checkable
class Workers(Protocol):
    """Processes that do tasks, numbered from 0; one that died is replaced at its next task."""

    @property
    def count(self) -> int: ...

    def give(self, worker: int, order: dict[str, Any]) -> None:
        """Let a worker begin a task."""

    def wait(self) -> tuple[int, Reply]:
        """The next worker that ended its task, and what became of it."""
        ...


def run_tasks(
    tasks: Sequence[Task], workers: Workers, on_done: Callable[[Task], None] = lambda task: None
) -> dict[str, str]:
    """Do every task that can be done; errors by key, of those that failed and those left out."""
    left = {task.key: task for task in tasks}
    at: dict[int, Task] = {}
    last: dict[int, str] = {}
    errors: dict[str, str] = {}
    deaths: dict[str, int] = {}
    while left or at:
        for worker in range(workers.count):
            if worker not in at and (task := _choose(left, at, last.get(worker))) is not None:
                at[worker] = left.pop(task.key)
                last[worker] = task.group
                workers.give(worker, task.order)
        worker, reply = workers.wait()
        task = at.pop(worker)
        if reply.died:
            deaths[task.key] = deaths.get(task.key, 0) + 1
            if deaths[task.key] < MOST_DEATHS:
                print(f"mechprobe: {reply.error} at {task.key}; it is begun again",
                      file=sys.stderr, flush=True)
                left = {task.key: task, **left}
                continue
        if reply.error is None:
            on_done(task)
        else:
            errors[task.key] = reply.error
            errors |= _leave_out(left, task.key)
    return errors


def _choose(left: dict[str, Task], at: dict[int, Task], group: str | None) -> Task | None:
    """A task that waits for nothing: of the worker's last group, of one nobody is at, or any."""
    waiting = left.keys() | {task.key for task in at.values()}
    ready = [task for task in left.values() if not any(need in waiting for need in task.needs)]
    taken = {task.group for task in at.values()}
    ready.sort(key=lambda task: 0 if task.group == group else 1 if task.group not in taken else 2)
    return ready[0] if ready else None


def _leave_out(left: dict[str, Task], failed: str) -> dict[str, str]:
    """Remove what needs a failed task, itself or through others; why, by key."""
    gone, found = {failed}, {}
    while True:
        now = [task for task in left.values() if gone.intersection(task.needs)]
        if not now:
            return found
        for task in now:
            del left[task.key]
            gone.add(task.key)
            found[task.key] = f"left out, for it needs {failed}"
