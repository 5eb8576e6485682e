"""Run a sweep: its tasks on workers of this machine or a cluster, or a share of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.runs import finished, progress
from mechprobe.studies.sweep.cluster import LOCAL, RayWorkers
from mechprobe.studies.sweep.plan import Plan, keep_plan, shard, tasks_of
from mechprobe.studies.sweep.processes import Processes
from mechprobe.studies.sweep.schedule import Task, run_tasks

LOGS = "logs"


@dataclass(frozen=True)
class Engine:
    """Where tasks are done.

    Attributes:
        name: "local" (processes of this machine) or "ray".
        workers: processes or actors at a time.
        address: of the Ray cluster; "local" starts one here.
        gpus: of each Ray actor; a part of one lets actors share it.
    """

    name: str = "local"
    workers: int = 1
    address: str = LOCAL
    gpus: float = 0.0

    def start(self, logs: Path, threads: int) -> AbstractContextManager[Processes | RayWorkers]:
        """The workers, for a ``with`` block."""
        if self.workers < 1 or self.gpus < 0:
            raise InputError(f"{self.workers} workers with {self.gpus:g} GPUs each; give 1 or more "
                             "workers, and 0 GPUs or more")
        if self.name == "ray":
            return RayWorkers(self.workers, address=self.address, gpus=self.gpus, cpus=threads)
        return Processes(self.workers, logs, threads=threads)


def run_sweep(
    plan: Plan, out: Path, engine: Engine, *, command: str | None = None,
    part: tuple[int, int] | None = None,
) -> dict[str, str]:
    """Compute what is not there yet of every run of a sweep, and (without ``part``) their reports.

    Args:
        out: folder of the sweep; each run has a folder of its own in it.
        part: (i, n) for the i-th of n shares; ``gather`` then makes the reports.

    Returns:
        What failed, in a line each, by run/unit; empty when all went well.

    Raises:
        InputError: before any work, for settings that cannot work, or for a folder with another
            sweep.
    """
    for job in plan.jobs:
        plan.study.check(job.settings)
    keep_plan(plan, out)
    tasks = tasks_of(plan, out, command, report=part is None)
    if part is not None:
        tasks = shard(tasks, *part)
    threads = max(job.settings.threads for job in plan.jobs)
    return do_tasks(tasks, engine, out / LOGS, threads)


def do_tasks(tasks: Sequence[Task], engine: Engine, logs: Path, threads: int) -> dict[str, str]:
    """Do the tasks that are not done yet; what failed, by key."""
    left = [task for task in tasks if not is_done(task)]
    runs = len({task.group for task in tasks})
    print(f"mechprobe: {len(tasks)} units of {runs} runs, {len(tasks) - len(left)} of them there; "
          f"{engine.workers} at a time", file=sys.stderr, flush=True)
    with (
        engine.start(logs, threads) as workers,
        progress(len(left), "units", unit="unit") as bar,
    ):
        return run_tasks(left, workers, lambda task: bar.update(1))


def is_done(task: Task) -> bool:
    """Whether a unit's result is kept whole; a damaged one is not, and its worker names it."""
    if task.order["unit"] is None:
        return False
    try:
        return finished(Path(task.order["folder"]), task.order["unit"]) is not None
    except InputError:
        return False
