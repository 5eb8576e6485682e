"""What a sweep consists of, as its folder keeps it, and the tasks that its runs' units are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs import atomic_write
from mechprobe.runs.files import read_json, to_json
from mechprobe.studies import STUDIES, Study, choose
from mechprobe.studies.sweep.grid import Job
from mechprobe.studies.sweep.schedule import Task

FILE = "sweep.json"
REPORT = "report"
"""The last task of a run: its tables, figures and report."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep: a study, and the runs of it that stand in folders side by side."""

    study: Study
    jobs: tuple[Job, ...]


def keep_plan(plan: Plan, out: Path) -> Plan:
    """Write a sweep's plan into its folder, added to the runs that are there already.

    Raises:
        InputError: the folder holds a sweep of another study, or a run of the same name with other
            settings.
    """
    path = out / FILE
    jobs = {job.name: job for job in read_plan(out).jobs} if path.exists() else {}
    for job in plan.jobs:
        _refuse_other(out, plan.study, jobs.get(job.name), job)
    whole = Plan(plan.study, tuple({**jobs, **{job.name: job for job in plan.jobs}}.values()))
    atomic_write(path, to_json({
        "study": plan.study.name,
        "jobs": [
            {"name": j.name, "values": j.values, "settings": dataclasses.asdict(j.settings)}
            for j in whole.jobs
        ],
    }))
    return whole


def read_plan(out: Path) -> Plan:
    """The plan of a sweep's folder.

    Raises:
        InputError: there is none, it is damaged, or another version of mechprobe wrote it.
    """
    if not (out / FILE).is_file():
        raise InputError(f"{out} holds no sweep (no {FILE}); give the folder of `mechprobe sweep`")
    kept = read_json(out / FILE)
    try:
        study = choose(kept["study"], STUDIES, "study")
        jobs = [
            Job(j["name"], _tuples(j["values"]), settings_from(study, j["settings"]))
            for j in kept["jobs"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{out / FILE} is damaged, or of another version of mechprobe ({error}); delete it and "
            "give the sweep's command again"
        ) from None
    return Plan(study, tuple(jobs))


def settings_from(study: Study, values: dict[str, Any]) -> Any:
    """Settings as JSON keeps them."""
    return study.settings(**_tuples(values))


def tasks_of(plan: Plan, out: Path, command: str | None, *, report: bool = True) -> list[Task]:
    """Every unit of every run; ``report`` adds each run's report, which needs all its units."""
    found = []
    for job in plan.jobs:
        shared = {
            "study": plan.study.name, "settings": dataclasses.asdict(job.settings),
            "folder": str(out / job.name), "command": command,
        }
        units = plan.study.units(job.settings)
        found += [
            Task(_key(job, unit.name), job.name, tuple(_key(job, need) for need in unit.needs),
                 {**shared, "unit": unit.name})
            for unit in units
        ]
        if report:
            every = tuple(_key(job, unit.name) for unit in units)
            found.append(Task(_key(job, REPORT), job.name, every, {**shared, "unit": None}))
    return found


def shard(tasks: Sequence[Task], index: int, n: int) -> list[Task]:
    """The tasks of one of n equal shares, with all that they need.

    Whole runs go round where there are at least n of them, else units do; what several shares need
    is computed by the one that comes to it first, where they share the sweep's folder.
    """
    groups = list(dict.fromkeys(task.group for task in tasks))
    if len(groups) >= n:
        mine = set(groups[index - 1 :: n])
        return [task for task in tasks if task.group in mine]
    by_key = {task.key: task for task in tasks}
    wanted, left = set[str](), [task.key for task in tasks[index - 1 :: n]]
    while left:
        if (now := left.pop()) not in wanted:
            wanted.add(now)
            left += by_key[now].needs
    return [task for task in tasks if task.key in wanted]


def _key(job: Job, unit: str) -> str:
    return f"{job.name}/{unit}"


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _refuse_other(out: Path, study: Study, old: Job | None, new: Job) -> None:
    kept = read_plan(out).study if old is not None else study
    if kept.name != study.name:
        raise InputError(f"{out} holds a sweep of {kept.name}, not of {study.name}; give another "
                         "folder with --out")
    if old is None or old.settings == new.settings:
        return
    before, now = dataclasses.asdict(old.settings), dataclasses.asdict(new.settings)
    shown = ", ".join(f"{k}: {before[k]!r} -> {now[k]!r}" for k in now if before[k] != now[k])
    raise InputError(
        f"{out} holds a sweep whose run {new.name} has other settings ({shown}); give the same "
        "settings, or another folder with --out"
    )
