"""Which masks the study trains, where they are kept, and how each one scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from mechprobe.gates.baselines import Baseline, make_baseline
from mechprobe.gates.evaluate import evaluate
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    full_model_logits,
)
from mechprobe.locate.search import rule_settings, search
from mechprobe.locate.subnetworks import SET_FILE, SubnetworkSet
from mechprobe.models.decoder_classifier import Classifier
from mechprobe.models.edits import site_grid
from mechprobe.runs import Run, progress
from mechprobe.sites import SiteGrid
from mechprobe.studies.heuristic_core.data import Split, StudyData
from mechprobe.studies.heuristic_core.models import checkpoint_steps, model_seed, open_model
from mechprobe.studies.heuristic_core.settings import Settings


@dataclass(frozen=True)
class Plan:
    """A group of masks trained together: one model, one point of training, one sparsity."""

    model: int
    step: int
    sparsity: float
    n_masks: int

    @property
    def name(self) -> str:
        """Name of the unit and of its folder."""
        return f"model-{self.model}-step-{self.step:06d}-sparsity-{self.sparsity:g}"


def plans(settings: Settings) -> list[Plan]:
    """All groups of masks of a run, the first model's final ones first."""
    *early, last = checkpoint_steps(settings)
    found = [Plan(0, last, s, settings.n_masks) for s in settings.sparsities]
    if settings.n_masks_others:
        found += [
            Plan(i, last, s, settings.n_masks_others)
            for i in range(1, settings.n_models) for s in settings.sparsities
        ]
    known = {(p.model, p.step, p.sparsity) for p in found}
    found += [
        Plan(0, step, s, settings.n_masks_checkpoint)
        for step in (*early, last) for s in settings.checkpoint_sparsities
        if (0, step, s) not in known
    ]
    return found


def mask_settings(settings: Settings, sparsity: float) -> MaskSettings:
    """Mask settings of the run for one sparsity; ``mask_steps`` 0 keeps the rule's own number."""
    return replace(
        rule_settings(settings.rule, sparsity, settings.mask_steps or None),
        lr=settings.mask_lr, lambda_lr=settings.mask_lambda_lr,
        accumulation=settings.mask_accumulation,
    )


class OpenModel:
    """A point of a model's trajectory with what its searches share; each is computed once."""

    def __init__(
        self, settings: Settings, data: StudyData, run: Run, index: int, step: int
    ) -> None:
        self.settings, self.data, self.index, self.step = settings, data, index, step
        self.model: Classifier = open_model(settings, run, index, step)
        self.grid: SiteGrid = site_grid(self.model)

    @cached_property
    def baseline(self) -> Baseline:
        """The study's baseline, from the mask examples."""
        return make_baseline(
            self.settings.baseline, self.model, self.data.mask_batches, self.grid,
            seed=self.settings.seed,
        )

    @cached_property
    def full_logits(self) -> list[torch.Tensor]:
        """The full model's logits on the mask batches."""
        return full_model_logits(self.model, self.data.mask_batches)

    def correct(
        self, gates: np.ndarray | None, split: Split, description: str = "evaluate"
    ) -> np.ndarray:
        """Outcomes [k, example] of gate vectors [k, site] (None: the full model)."""
        rows = None
        if gates is not None:
            rows = torch.as_tensor(np.atleast_2d(gates)).float().to(self.settings.device)
        with progress(len(split.batches), description) as bar:
            return evaluate(
                self.model, split.batches, rows, self.grid, self.baseline, split.correct,
                on_batch=lambda: bar.update(1),
            )


def find(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Train a plan's masks, score them on both splits and keep everything; a unit of the run."""
    settings, data = opened.settings, opened.data
    own = mask_settings(settings, plan.sparsity)
    first = model_seed(settings, 0)
    members = [Member(first + i, plan.sparsity) for i in range(plan.n_masks)]

    def on_step(step: int, report: dict[str, list[float]]) -> None:
        if step % 20 == 0 or step == own.steps:
            means = {name: float(np.mean(values)) for name, values in report.items()}
            run.log(f"search-{plan.name}", step, **means)

    store = run.checkpoint(f"search-{plan.name}")
    found = search(
        opened.model, data.mask_batches, members, opened.grid, opened.baseline, own,
        full_logits=opened.full_logits, order_seed=settings.seed, store=store, on_step=on_step,
        description=f"masks {plan.name}",
    )
    gates = np.stack([member.gates("binary") for member in found])
    dev = opened.correct(gates, data.dev, "score in domain")
    ood = opened.correct(gates, data.ood, "score out of domain")
    run.write_arrays(outcome_file(plan.name), {"dev": dev > 0, "ood": ood > 0})
    SubnetworkSet(tuple(found)).save(run.path(set_file(plan)).parent)
    return {"model": plan.model, "step": plan.step, "sparsity": plan.sparsity,
            "seeds": [m.seed for m in found]}


def outcome_file(name: str) -> str:
    """Where the per-example outcomes of a plan, or of a full model, are kept."""
    return f"arrays/correct-{name}.safetensors"


def full_outcomes(opened: OpenModel, run: Run) -> dict:
    """Per-example outcomes of the full model on both splits; a unit of the run."""
    data = opened.data
    outcomes = {
        "dev": opened.correct(None, data.dev, "full model in domain") > 0,
        "ood": opened.correct(None, data.ood, "full model out of domain") > 0,
    }
    run.write_arrays(outcome_file(full_name(opened.index, opened.step)), outcomes)
    return {"model": opened.index, "step": opened.step}


def full_name(model: int, step: int) -> str:
    """Name of a full model's unit."""
    return f"full-model-{model}-step-{step:06d}"


def read_outcomes(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes (dev [k, example], ood [k, example]) as float64."""
    arrays = run.read_arrays(outcome_file(name))
    return arrays["dev"].astype(float), arrays["ood"].astype(float)


def set_file(plan: Plan) -> str:
    """Where the subnetworks of a plan are kept."""
    return f"subnetworks/{plan.name}/{SET_FILE}"


def read_set(run: Run, plan: Plan) -> SubnetworkSet:
    """The subnetworks of a plan."""
    return SubnetworkSet.load(run.path(set_file(plan)).parent)
