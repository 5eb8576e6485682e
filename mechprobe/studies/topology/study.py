"""The topology study end to end: train, probe, close heads, fine-tune, judge, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mechprobe.runs import Run, complete
from mechprobe.runs.inputs import refuse_other_inputs
from mechprobe.show.report import build_report
from mechprobe.studies.timing import use_threads
from mechprobe.studies.topology.check import check
from mechprobe.studies.topology.data import inputs, prepare
from mechprobe.studies.topology.gather import gather
from mechprobe.studies.topology.models import check_encoder
from mechprobe.studies.topology.settings import Settings
from mechprobe.studies.topology.units import StudyRun, units
from mechprobe.studies.topology.write import write_results


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
    """The run of a folder with its data, for one process or several; raises as ``run``."""
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    data = prepare(settings)
    check_encoder(settings)
    config = {"study": "topology", **dataclasses.asdict(settings)}
    with Run.open(out, config, shared=shared) as run_dir:
        refuse_other_inputs(run_dir, inputs(settings, data))
        yield StudyRun(settings, data, run_dir)


def finish(at: StudyRun, command: str | None = None) -> Path:
    """Tables, figures and the report, from units that are all there; the report's path."""
    at.run.order_metrics([unit.name for unit in units(at.settings)])
    write_results(gather(at.settings, at.data, at.run), at.run, command)
    return build_report(at.run.folder)
