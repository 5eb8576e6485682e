"""The hierarchy study end to end: train, score, look inside, judge, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mechprobe.runs import Run, complete
from mechprobe.runs.inputs import digest_of, refuse_other_inputs
from mechprobe.show.report import build_report
from mechprobe.studies.hierarchy.check import check
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import grammar_of
from mechprobe.studies.hierarchy.units import StudyRun, units
from mechprobe.studies.hierarchy.write import write_results
from mechprobe.studies.timing import use_threads


def run(settings: Settings, out: Path, *, command: str | None = None) -> Path:
    """Run (or resume) the study in a folder and return the path of its report.

    Args:
        settings: a preset of ``PRESETS``, changed at will.
        out: run directory; finished units in it are not computed again, and training that was
            stopped goes on where it was.
        command: the command line to print in the report.

    Raises:
        InputError: before any long work, for settings that cannot work; or when the folder holds a
            run with other settings.
    """
    with opened(settings, out) as at:
        complete(at.run, units(settings), at)
        return finish(at, command)


@contextmanager
def opened(settings: Settings, out: Path, *, shared: bool = False) -> Iterator[StudyRun]:
    """The run of a folder, for one process or several; raises as ``run``."""
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    read = inputs(settings)
    config = {"study": "hierarchy", **dataclasses.asdict(settings)}
    with Run.open(out, config, shared=shared) as run_dir:
        refuse_other_inputs(run_dir, read)
        yield StudyRun(settings, run_dir)


def finish(at: StudyRun, command: str | None = None) -> Path:
    """Tables, figures and the report, from units that are all there; the report's path."""
    at.run.order_metrics([unit.name for unit in units(at.settings)])
    write_results(at.settings, at.run, command)
    return build_report(at.run.folder)


def inputs(settings: Settings) -> dict[str, str]:
    """A digest of the rules (of a --rules file, or random)."""
    return {"rules": digest_of(grammar_of(settings).transition.tolist())}
