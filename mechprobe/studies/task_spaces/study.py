"""The task-space study end to end: train, score, take gradients, tune, judge, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from mechprobe.errors import InputError
from mechprobe.runs import Run, complete
from mechprobe.runs.config import CONFIG
from mechprobe.runs.inputs import refuse_other_inputs
from mechprobe.show.report import build_report
from mechprobe.studies.task_spaces.check import check
from mechprobe.studies.task_spaces.models import inputs, load_pairs
from mechprobe.studies.task_spaces.readable import check_readable
from mechprobe.studies.task_spaces.results import gather
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.units import StudyRun, units
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
    with opened(settings, out) as at:
        complete(at.run, units(settings), at)
        return finish(at, command)


@contextmanager
def opened(settings: Settings, out: Path, *, shared: bool = False) -> Iterator[StudyRun]:
    """The run of a folder with its pairs, for one process or several; raises as ``run``."""
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    pairs = load_pairs(settings)
    check_pairs(pairs)
    if not (out / CONFIG).exists():
        check_readable(settings, pairs)
    read = inputs(settings, pairs)
    config = {"study": "task-space", **dataclasses.asdict(settings)}
    with Run.open(out, config, shared=shared) as run_dir:
        refuse_other_inputs(run_dir, read)
        yield StudyRun(settings, pairs, run_dir)


def finish(at: StudyRun, command: str | None = None) -> Path:
    """Tables, figures and the report, from units that are all there; the report's path."""
    names = [unit.name for unit in units(at.settings)]
    at.run.order_metrics(names)
    rows = [at.run.result(name)["rows"] for name in names if name.startswith("kinds-")]
    kinds = pd.DataFrame([row for task in rows for row in task])
    results = gather(at.settings, at.pairs, at.points, kinds, at.run)
    write_results(at.settings, results, at.run, command)
    return build_report(at.run.folder)


def check_pairs(pairs: MinimalPairs) -> None:
    """Raise InputError for pairs between which nothing can be compared."""
    kinds = pairs.phenomena
    if len(set(kinds)) < 2 or len(set(kinds)) == len(kinds) or len(kinds) < 4:
        raise InputError(
            f"{len(kinds)} paradigms of {len(set(kinds))} phenomena cannot be compared within and "
            "across phenomena; give 4 or more, of 2 phenomena or more, one of them with two"
        )
