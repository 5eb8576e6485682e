"""The units of a run: the exact bars, the constructed network, and what is done with a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mechprobe.runs import Run, Unit
from mechprobe.studies.hierarchy.ancestors import probes_unit
from mechprobe.studies.hierarchy.attention import attention_unit
from mechprobe.studies.hierarchy.causal import blocks_unit
from mechprobe.studies.hierarchy.exact import exact_unit, oracle_unit
from mechprobe.studies.hierarchy.models import train
from mechprobe.studies.hierarchy.planted import planted_unit
from mechprobe.studies.hierarchy.ranking import ranking_unit
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, read_specs
from mechprobe.studies.hierarchy.trajectory import score_trajectory

FEWEST_HEADS = 6
Work = Callable[[Settings, Spec, Run], dict]


@dataclass(frozen=True)
class StudyRun:
    """What the units of a run are given."""

    settings: Settings
    run: Run


def units(settings: Settings) -> list[Unit]:
    """Every unit of a run, in an order in which each comes after what it needs."""
    return [
        Unit("exact", lambda at: exact_unit(at.settings)),
        Unit("oracle", lambda at: oracle_unit(at.settings)),
        Unit("planted", lambda at: planted_unit(at.settings, at.run)),
        *(
            _unit(name, spec, work)
            for spec in read_specs(settings) for name, work in work_of(settings, spec).items()
        ),
    ]


def _unit(name: str, spec: Spec, work: Work) -> Unit:
    needs = () if name == "train" else (f"train-{spec.name}",)
    return Unit(f"{name}-{spec.name}", lambda at: work(at.settings, spec, at.run), needs)


def work_of(settings: Settings, spec: Spec) -> dict[str, Work]:
    """What is done with a model, in order; heads are ranked where there are six or more."""
    found: dict[str, Work] = {
        "train": train, "score": score_trajectory, "attention": attention_unit,
    }
    mains = [other for other in read_specs(settings) if not other.variant]
    alone = not any(other.kind == spec.kind and other.full for other in mains)
    if spec.full and (not spec.variant or (alone and spec.own_grammar)):
        found["probes"] = probes_unit
        if spec.kind == "masked":
            found["blocks"] = blocks_unit
    if spec.full and spec.kind == "masked" and spec.own_grammar and (
        spec.n_heads * spec.n_layers >= FEWEST_HEADS
    ):
        found["ranking"] = ranking_unit
    return found
