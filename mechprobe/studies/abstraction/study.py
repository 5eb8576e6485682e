"""The abstraction study end to end: train, learn the target task, analyse, judge, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.abstraction.check import check, check_inputs
from mechprobe.studies.abstraction.heads import heads_unit
from mechprobe.studies.abstraction.procedures import (
    SetRun,
    first_unit,
    generic_unit,
    target_unit,
)
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.studies.abstraction.timeline import point_steps, point_unit
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
    check(settings)
    check_inputs(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    config = {"study": "abstraction", **dataclasses.asdict(settings)}
    with Run.open(out, config) as run_dir:
        found = compute(settings, run_dir)
        write_results(settings, run_dir, found, command)
        return build_report(run_dir.folder)


def compute(settings: Settings, run: Run) -> dict[str, dict]:
    """Every unit of the run, computed or read; by name."""
    found: dict[str, dict] = {}
    for index in range(settings.n_sets):
        one_set(SetRun(settings, run, index), found)
    for mutation in settings.mutations:
        one_mutation(SetRun(settings, run, 0, mutation), found)
    return found


def one_set(at: SetRun, found: dict[str, dict]) -> None:
    """MainExp, ControlExp and ContrastExp of one set, and the analyses of its models."""
    settings, run, i = at.settings, at.run, at.index
    points = point_steps(settings)
    for start in ("auxiliary", "contrast"):
        name = f"{start}-{i}"
        wanted = points if start == "auxiliary" else []
        found[name] = run.unit(name, lambda s=start, n=name, w=wanted: first_unit(at, s, n, w))
    for adapt in settings.adapt:
        for start in ("auxiliary", "control", "contrast"):
            name = f"target-{start}-{adapt}-{i}"
            source = None if start == "control" else f"{start}-{i}"
            keep = start == "auxiliary" and adapt == settings.adapt[-1]
            found[name] = run.unit(name, lambda s=start, a=adapt, n=name, src=source, k=keep:
                                   target_unit(at, s, a, n, src, keep=k))
    if points:
        for step in (0, *points):
            name = f"point-{i}-{step:06d}"
            source = None if step == 0 else f"auxiliary-{i}-step-{step:06d}"
            found[name] = run.unit(name, lambda s=step, src=source: point_unit(at, s, src))
    if settings.generic_steps:
        after_generic(at, found)
    main = f"target-auxiliary-{settings.adapt[-1]}-{i}"
    found[f"heads-{i}"] = run.unit(f"heads-{i}", lambda: heads_unit(at, main))


def after_generic(at: SetRun, found: dict[str, dict]) -> None:
    """MainExp and ControlExp of a model that first learnt the grammar in other vocabularies."""
    i, unit, adapt = at.index, at.run.unit, at.settings.adapt[-1]
    first, then = f"generic-{i}", f"auxiliary-after-generic-{i}"
    found[first] = unit(first, lambda: generic_unit(at))
    found[then] = unit(then, lambda: first_unit(at, "auxiliary", then, source=first))
    for start, source in (("control", first), ("auxiliary", then)):
        name = f"target-{start}-after-generic-{adapt}-{i}"
        found[name] = unit(name, lambda n=name, s=source: target_unit(at, "auxiliary", adapt, n, s))


def one_mutation(at: SetRun, found: dict[str, dict]) -> None:
    """The auxiliary task with one concept changed, and what then transfers."""
    settings, run, mutation = at.settings, at.run, at.mutation
    name = f"mutated-{mutation}-{at.index}"
    found[name] = run.unit(name, lambda: first_unit(at, "auxiliary", name))
    adapt = settings.adapt[-1]
    after = f"target-{name}-{adapt}"
    found[after] = run.unit(after, lambda: target_unit(at, "auxiliary", adapt, after, name))
