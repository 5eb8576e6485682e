"""The topology study end to end: train, probe, close heads, fine-tune, judge, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.timing import use_threads
from mechprobe.studies.topology.check import check
from mechprobe.studies.topology.data import prepare, refuse_other_data
from mechprobe.studies.topology.gather import compute
from mechprobe.studies.topology.settings import Settings
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
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    data = prepare(settings)
    config = {"study": "topology", **dataclasses.asdict(settings)}
    with Run.open(out, config) as run_dir:
        refuse_other_data(data, run_dir)
        results = compute(settings, data, run_dir)
        write_results(results, run_dir, command)
        return build_report(run_dir.folder)
