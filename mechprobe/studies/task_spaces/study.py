"""The task-space study end to end: train, score, take gradients, tune, judge, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.task_spaces.check import check
from mechprobe.studies.task_spaces.models import Point, load_pairs, train_models
from mechprobe.studies.task_spaces.regime import regime_unit
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import point_unit
from mechprobe.studies.task_spaces.write import write_results
from mechprobe.studies.timing import use_threads
from mechprobe.tasks.minimal_pairs import MinimalPairs


def run(settings: Settings, out: Path, *, command: str | None = None) -> Path:
    """Run (or resume) the study in a folder and return the path of its report.

    Args:
        settings: a preset of ``PRESETS``, changed at will.
        out: run directory; finished units in it are not computed again.
        command: the command line to print in the report.

    Raises:
        InputError: before any long work, for settings or data that cannot work; or when the
            folder holds a run with other settings.
    """
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    pairs = load_pairs(settings)
    check_pairs(pairs)
    config = {"study": "task-space", **dataclasses.asdict(settings)}
    with Run.open(out, config) as run_dir:
        points = train_models(settings, pairs, run_dir)
        compute(settings, pairs, points, run_dir)
        write_results(settings, pairs, points, run_dir, command)
        return build_report(run_dir.folder)


def compute(settings: Settings, pairs: MinimalPairs, points: list[Point], run: Run) -> None:
    """Every unit of the run that is not there yet."""
    for point in points:
        run.unit(f"space-{point.name}", lambda p=point: point_unit(settings, pairs, p, run))
    if settings.regime_tasks:
        for point in regime_points(points):
            run.unit(f"kinds-{point.name}", lambda p=point: regime_unit(settings, pairs, p, run))


def regime_points(points: list[Point]) -> list[Point]:
    """Where kinds of tuning are compared: the first whole point of the last model."""
    whole = [p for p in points if p.whole and p.model == points[-1].model]
    return whole[:1]


def check_pairs(pairs: MinimalPairs) -> None:
    """Raise InputError for pairs between which nothing can be compared."""
    kinds = pairs.phenomena
    if len(set(kinds)) < 2 or len(set(kinds)) == len(kinds) or len(kinds) < 4:
        raise InputError(
            f"{len(kinds)} paradigms of {len(set(kinds))} phenomena cannot be compared within and "
            "across phenomena; give 4 or more, of 2 phenomena or more, one of them with two"
        )
