"""A study from Python, by its name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.studies import STUDIES, choose, nearest


def run_study(
    name: str, preset: str | None = None, out: str | Path | None = None, **settings: Any
) -> Path:
    """Run a study, or go on with one that was stopped, as ``mechprobe run`` does.

    Args:
        name: "heuristic-core", "hierarchy", ...
        preset: one of the study's; None: its default.
        out: the run's folder; None: ``runs/<name>-<preset>``.
        settings: over the preset's, by their names in Python (``n_masks=24``).

    Returns:
        The run's folder: ``tables/*.csv``, ``figures``, ``report.html`` and what made them.

    Raises:
        InputError: no such study, preset or setting, or settings that cannot work.
    """
    study = choose(name, STUDIES, "study")
    known = {field.name for field in fields(study.settings)} - {"preset"}
    for given in settings:
        if given not in known:
            raise InputError(f"{name} has no setting {given!r}; {nearest(given, sorted(known))}")
    preset = study.default_preset if preset is None else preset
    chosen = study.settle(preset, settings)
    folder = Path("runs") / f"{name}-{preset}" if out is None else Path(out).expanduser()
    study.check(chosen)
    study.run(chosen, folder)
    return folder
