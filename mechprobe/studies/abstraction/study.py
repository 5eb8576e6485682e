"""The abstraction study end to end: train, learn the target task, analyse, judge, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mechprobe.runs import Run, complete
from mechprobe.runs.inputs import refuse_other_inputs
from mechprobe.show.report import build_report
from mechprobe.studies.abstraction.check import check, check_inputs
from mechprobe.studies.abstraction.data import inputs
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.studies.abstraction.units import StudyRun, units
from mechprobe.studies.abstraction.write import write_results
from mechprobe.studies.timing import use_threads


def run(settings: Settings, out: Path, *, command: str | None = None) -> Path:
    """Run (or resume) the study in a folder and return the path of its report.

    Args:
        settings: a preset of ``PRESETS``, changed at will.
        out: run directory; finished units in it are not computed again.
        command: the command line to print in the report.

    Raises:
        InputError: before any long work, for settings or data that cannot work; or when the folder
            holds a run with other settings.
    """
    with opened(settings, out) as at:
        complete(at.run, units(settings), at)
        return finish(at, command)


@contextmanager
def opened(settings: Settings, out: Path, *, shared: bool = False) -> Iterator[StudyRun]:
    """The run of a folder, for one process or several; raises as ``run``."""
    check(settings)
    read = inputs(check_inputs(settings))
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    config = {"study": "abstraction", **dataclasses.asdict(settings)}
    with Run.open(out, config, shared=shared) as run_dir:
        refuse_other_inputs(run_dir, read)
        yield StudyRun(settings, run_dir)


def finish(at: StudyRun, command: str | None = None) -> Path:
    """Tables, figures and the report, from units that are all there; the report's path."""
    names = [unit.name for unit in units(at.settings)]
    at.run.order_metrics(names)
    found = {name: at.run.result(name) for name in names}
    write_results(at.settings, at.run, found, command)
    return build_report(at.run.folder)
