"""The heuristic-core study end to end: train, search, score, analyse, judge, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.heuristic_core import analysis, search
from mechprobe.studies.heuristic_core.check import check
from mechprobe.studies.heuristic_core.data import (
    StudyData,
    open_task,
    prepare,
    refuse_other_data,
)
from mechprobe.studies.heuristic_core.models import (
    check_encoder,
    checkpoint_steps,
    precision,
    train_model,
)
from mechprobe.studies.heuristic_core.parity import soft_unit
from mechprobe.studies.heuristic_core.search import OpenModel, Plan, plans
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.heuristic_core.write import write_results
from mechprobe.studies.timing import use_threads


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
    task = open_task(settings)
    data = prepare(settings, task, check_encoder(settings, task.labels))
    config = {"study": "heuristic-core", **dataclasses.asdict(settings)}
    with Run.open(out, config) as run_dir, precision(settings):
        refuse_other_data(data.task, run_dir)
        compute(settings, data, run_dir)
        write_results(settings, data, run_dir, command)
        return build_report(run_dir.folder)


def compute(settings: Settings, data: StudyData, run: Run) -> None:
    """Every unit of the run that is not there yet."""
    for index in range(settings.n_models):
        run.unit(f"train-{index}", lambda i=index: train_model(settings, data, run, i))
    opened: dict[tuple[int, int], OpenModel] = {}

    def at(index: int, step: int) -> OpenModel:
        if (index, step) not in opened:
            opened.clear()  # one model at a time in memory
            opened[index, step] = OpenModel(settings, data, run, index, step)
        return opened[index, step]

    last = checkpoint_steps(settings)[-1]
    points = sorted({(p.model, p.step) for p in plans(settings)} | {
        (i, last) for i in range(settings.n_models)
    } | {(0, step) for step in checkpoint_steps(settings)})
    for index, step in points:
        run.unit(
            search.full_name(index, step),
            lambda i=index, s=step: search.full_outcomes(at(i, s), run),
        )
    for plan in sorted(plans(settings), key=lambda p: (p.model, p.step)):
        run.unit(
            f"search-{plan.name}",
            lambda p=plan: search.find(at(p.model, p.step), run, p),
        )
    for sparsity in settings.sparsities:
        run.unit(
            f"soft-sparsity-{sparsity:g}",
            lambda s=sparsity: soft_unit(at(0, last), run, Plan(0, last, s, settings.n_masks)),
        )
    main = Plan(0, last, settings.sparsities[0], settings.n_masks)
    for name, analyse in ANALYSES.items():
        run.unit(
            f"{name}-sparsity-{main.sparsity:g}", lambda a=analyse: a(at(0, last), run, main)
        )


ANALYSES: dict[str, Callable[[OpenModel, Run, Plan], dict]] = {
    "core": analysis.core_unit,
    "edits": analysis.edits_unit,
    "attention": analysis.attention_unit,
    "dependence": analysis.dependence_unit,
}
