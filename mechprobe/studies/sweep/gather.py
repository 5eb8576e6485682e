"""Put the shares of a sweep together: units from other folders, reports, and tables of all runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.errors import InputError
from mechprobe.runs import atomic_path, finished
from mechprobe.runs.files import read_json
from mechprobe.runs.tables import read_table, write_table
from mechprobe.runs.unit_file import UNITS
from mechprobe.studies.sweep.plan import REPORT, Plan, tasks_of
from mechprobe.studies.sweep.schedule import Task
from mechprobe.studies.sweep.sweep import LOGS, Engine, do_tasks, is_done

METRICS = "metrics"


def gather(
    plan: Plan, out: Path, engine: Engine, *, sources: Sequence[Path] = (),
    command: str | None = None,
) -> dict[str, str]:
    """Make the reports of a sweep whose units are all there, and the tables of all its runs.

    Args:
        sources: folders of other machines' shares of the same sweep, copied in first.

    Returns:
        What failed, in a line each, by run/unit.

    Raises:
        InputError: units are missing, or two folders have different results of one unit.
    """
    for source in sources:
        for job in plan.jobs:
            bring(source / job.name, out / job.name)
    tasks = tasks_of(plan, out, command)
    missing = [task for task in tasks if task.order["unit"] is not None and not is_done(task)]
    if missing:
        raise InputError(
            f"{out} lacks {len(missing)} of {len(tasks) - len(plan.jobs)} units (first: "
            f"{missing[0].key}); run the shares that are missing, or name their folders too"
        )
    threads = max(job.settings.threads for job in plan.jobs)
    errors = do_tasks(reports(tasks), engine, out / LOGS, threads)
    if not errors:
        join_tables(plan, out)
    return errors


def reports(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that make reports."""
    return [task for task in tasks if task.key.endswith(f"/{REPORT}")]


def bring(source: Path, target: Path) -> int:
    """Copy the finished units of a run that another folder lacks, with their files; how many.

    Raises:
        InputError: both have a unit, with different results.
    """
    count = 0
    for path in sorted((source / UNITS).glob("*.json")):
        name = path.stem
        theirs, ours = finished(source, name), finished(target, name)
        if theirs is None:
            continue
        if ours is not None:
            _refuse_difference(name, source, target, theirs, ours)
            continue
        for rel in (*theirs["wrote"], f"{METRICS}/{name}.jsonl"):
            _copy(source / rel, target / rel)
        _copy(path, target / UNITS / path.name)  # last: a unit counts once this file is there
        count += 1
    if not (target / "config.json").exists() and (source / "config.json").exists():
        _copy(source / "config.json", target / "config.json")
    return count


def join_tables(plan: Plan, out: Path) -> list[Path]:
    """Tables of all runs in ``tables/``: each run's rows, the values that tell it from others."""
    by_name: dict[str, list[pd.DataFrame]] = {}
    for job in plan.jobs:
        folder = out / job.name
        found = {path.stem: read_table(path) for path in sorted((folder / "tables").glob("*.csv"))}
        found["claims"] = pd.DataFrame(read_json(folder / "report.json")["claims"])
        for name, table in found.items():
            by_name.setdefault(name, []).append(_marked(table, job.values))
    paths = []
    for name, tables in by_name.items():
        paths.append(out / "tables" / f"{name}.csv")
        write_table(paths[-1], pd.concat(tables, ignore_index=True))
    return paths


def _marked(table: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    columns = {
        (f"run {name}" if name in table else name): " ".join(map(str, value))
        if isinstance(value, tuple) else value for name, value in values.items()
    }
    marks = pd.DataFrame({name: [value] * len(table) for name, value in columns.items()})
    return pd.concat([marks, table.reset_index(drop=True)], axis=1)


def _refuse_difference(
    name: str, source: Path, target: Path, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    if theirs["sha256"] != ours["sha256"]:
        raise InputError(
            f"{source} and {target} have different results of unit {name} (other versions or other "
            "threads?); delete one of them and run it again"
        )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                _copy(path, target / path.relative_to(source))
    elif source.exists():
        with atomic_path(target) as draft:
            shutil.copyfile(source, draft)
