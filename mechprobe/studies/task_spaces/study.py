"""The task-space study end to end: train, score, take gradients, tune, judge, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.task_spaces.check import check
from mechprobe.studies.task_spaces.models import Point, load_pairs, train_models
from mechprobe.studies.task_spaces.regime import compute_regime, regime_point
from mechprobe.studies.task_spaces.results import gather
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import OpenPoint, compute_point
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
        kinds = compute(settings, pairs, points, run_dir)
        write_results(settings, gather(settings, pairs, points, kinds, run_dir), run_dir, command)
        return build_report(run_dir.folder)


def compute(
    settings: Settings, pairs: MinimalPairs, points: list[Point], run: Run
) -> pd.DataFrame:
    """Every unit of the run that is not there yet, one model at a time; the kinds of tuning."""
    for point in points:
        compute_point(OpenPoint(settings, pairs, point), run)
    if not settings.regime_tasks:
        return pd.DataFrame()
    return compute_regime(OpenPoint(settings, pairs, regime_point(settings, points)), run)


def check_pairs(pairs: MinimalPairs) -> None:
    """Raise InputError for pairs between which nothing can be compared."""
    kinds = pairs.phenomena
    if len(set(kinds)) < 2 or len(set(kinds)) == len(kinds) or len(kinds) < 4:
        raise InputError(
            f"{len(kinds)} paradigms of {len(set(kinds))} phenomena cannot be compared within and "
            "across phenomena; give 4 or more, of 2 phenomena or more, one of them with two"
        )
