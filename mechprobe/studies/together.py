"""A study in several processes: the first does it, the others train with it.

Another process has no part in the run's folder. Called to a unit, it works in a copy of the folder
that is made of links and thrown away, does the unit up to the fit as the first one did, and trains.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mechprobe.runs.crew import at_unit, dismiss, joined, launched, told
from mechprobe.studies import Study


def run_launched(study: Study, settings: Any, out: Path, command: str | None) -> Path | None:
    """As ``Study.run``, in each of the processes that were launched; None in all but the first.

    Raises:
        InputError: as ``Study.run``.
    """
    if launched() == 1:
        return study.run(settings, out, command=command)
    with joined(settings.device) as place:
        if place.rank > 0:
            help_with(study, settings, out)
            return None
        page = study.run(settings, out, command=command)
        dismiss()
        return page


def help_with(study: Study, settings: Any, out: Path) -> None:
    """Train wherever the first process calls to, until it has no more."""
    os.environ["MECHPROBE_PROGRESS"] = "0"
    units = {unit.name: unit for unit in study.units(settings)}
    while (name := told()) is not None:
        with TemporaryDirectory(prefix="mechprobe-") as place:
            link(out, Path(place))
            with study.opened(settings, Path(place)) as at, at_unit(name, called=True):
                at.run.unit(name, lambda at=at, name=name: units[name].compute(at))


def link(source: Path, target: Path) -> None:
    """A folder of links to a run's files, in which writing changes none of them.

    Files of a run are replaced, not written into, but for metrics, which are copied; hidden files,
    locks and drafts, are left out.
    """
    for folder, inner, files in os.walk(source):
        inner[:] = [name for name in inner if not name.startswith(".")]
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            path = (Path(folder) / name).resolve()
            if name.endswith(".jsonl"):
                shutil.copyfile(path, here / name)
            elif not name.startswith("."):
                (here / name).symlink_to(path)
