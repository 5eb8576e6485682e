"""The units of a run: models, what the full ones answer, their masks, and the analyses."""

from __future__ import annotations

from collections.abc import Callable

from mechprobe.runs import Run, Unit
from mechprobe.studies.heuristic_core import analysis, search
from mechprobe.studies.heuristic_core.data import StudyData
from mechprobe.studies.heuristic_core.models import checkpoint_steps, train_model
from mechprobe.studies.heuristic_core.parity import soft_unit
from mechprobe.studies.heuristic_core.search import OpenModel, Plan, plans
from mechprobe.studies.heuristic_core.settings import Settings

Analysis = Callable[[OpenModel, Run, Plan], dict]
ANALYSES: dict[str, Analysis] = {
    "core": analysis.core_unit,
    "edits": analysis.edits_unit,
    "attention": analysis.attention_unit,
    "dependence": analysis.dependence_unit,
}


class StudyRun:
    """What the units of a run share in one process: settings, data, the run, one open model."""

    def __init__(self, settings: Settings, data: StudyData, run: Run) -> None:
        self.settings, self.data, self.run = settings, data, run
        self._opened: dict[tuple[int, int], OpenModel] = {}

    def model(self, index: int, step: int) -> OpenModel:
        """A point of a model's trajectory; the one opened before it is let go."""
        if (index, step) not in self._opened:
            self._opened.clear()
            self._opened[index, step] = OpenModel(
                self.settings, self.data, self.run, index, step
            )
        return self._opened[index, step]


def units(settings: Settings) -> list[Unit]:
    """Every unit of a run, in an order in which each comes after what it needs."""
    last = checkpoint_steps(settings)[-1]
    main = Plan(0, last, settings.sparsities[0], settings.n_masks)
    return [
        *(_train(index) for index in range(settings.n_models)),
        *(_full(index, step) for index, step in points(settings)),
        *(_search(plan) for plan in sorted(plans(settings), key=lambda p: (p.model, p.step))),
        *(_soft(Plan(0, last, s, settings.n_masks)) for s in settings.sparsities),
        *(_analysis(name, analyse, main) for name, analyse in ANALYSES.items()),
    ]


def points(settings: Settings) -> list[tuple[int, int]]:
    """Models and steps at which the full model is scored, sorted."""
    steps = checkpoint_steps(settings)
    return sorted(
        {(plan.model, plan.step) for plan in plans(settings)}
        | {(index, steps[-1]) for index in range(settings.n_models)}
        | {(0, step) for step in steps}
    )


def _train(index: int) -> Unit:
    return Unit(
        f"train-{index}", lambda at: train_model(at.settings, at.data, at.run, index)
    )


def _full(index: int, step: int) -> Unit:
    return Unit(
        search.full_name(index, step),
        lambda at: search.full_outcomes(at.model(index, step), at.run), (f"train-{index}",),
    )


def _search(plan: Plan) -> Unit:
    return Unit(
        f"search-{plan.name}",
        lambda at: search.find(at.model(plan.model, plan.step), at.run, plan),
        (f"train-{plan.model}",),
    )


def _soft(plan: Plan) -> Unit:
    return Unit(
        f"soft-sparsity-{plan.sparsity:g}",
        lambda at: soft_unit(at.model(plan.model, plan.step), at.run, plan),
        (f"search-{plan.name}",),
    )


def _analysis(name: str, analyse: Analysis, plan: Plan) -> Unit:
    return Unit(
        f"{name}-sparsity-{plan.sparsity:g}",
        lambda at: analyse(at.model(plan.model, plan.step), at.run, plan),
        (f"search-{plan.name}",),
    )
