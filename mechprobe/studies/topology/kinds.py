"""The kinds of probe the study trains: what each learns, on which streams, its scores' names."""

from __future__ import annotations

from mechprobe.probes import (
    Objective,
    control_task,
    depth_objective,
    distance_objective,
    linear_objective,
    mlp_objective,
    tag_task,
    topology_objective,
)
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.models import TRAINED
from mechprobe.studies.topology.settings import Settings

TOPOLOGY = {
    "ssp": ("ssp", "exact"), "ssp-greedy": ("ssp", "greedy"), "essp": ("essp", "exact"),
    "sp": ("sp", "exact"),
}
"""Topology probes of every stream by name: metric and kind of labels."""
EVERY_MODEL = ("distance", "sp", "ssp", "upos", "upos-control")
TRAINED_ONLY = ("essp", "ssp-greedy", "depth", "mlp", "mlp-control")
_OF_RANK = "ssp-rank-"
_SCORES = {
    "distance": ("uuas", "dspr"), "depth": ("nspr", "root"),
    "sp": ("x_sp", "sp_nspr", "sp_root", "x_ssp_at_sp"),
}


def kinds_of(settings: Settings, model: str) -> list[str]:
    """The probes a model gets; some only the trained one."""
    kinds = [*EVERY_MODEL, *(rank_kind(rank) for rank in settings.topology_ranks),
             *(TRAINED_ONLY if model == TRAINED else ())]
    return [k for k in kinds if settings.mlp_probes or not k.startswith("mlp")]


def rank_kind(rank: int) -> str:
    """The X_ssp probe with another number of columns of B."""
    return f"{_OF_RANK}{rank}"


def on_residual(kind: str) -> bool:
    """Whether a kind reads the residual stream alone: the largest probes, and other ranks."""
    return kind.startswith(("mlp", _OF_RANK))


def topology_of(kind: str) -> tuple[str, str] | None:
    """Metric and labels of a kind of topology probe, None for other kinds."""
    return TOPOLOGY["ssp"] if kind.startswith(_OF_RANK) else TOPOLOGY.get(kind)


def scores_named(kind: str) -> tuple[str, ...]:
    """Names of the scores of a kind of probe."""
    return _SCORES.get(kind, (f"x_{kind}",) if topology_of(kind) else (kind,))


def objective_of(settings: Settings, data: StudyData, kind: str) -> Objective:
    """What a kind of probe learns."""
    if topology := topology_of(kind):
        metric, labels = topology
        own = int(kind.removeprefix(_OF_RANK)) if kind.startswith(_OF_RANK) else 0
        return topology_objective(metric, labels=labels, rank=own or settings.topology_rank or None)
    if kind == "distance":
        return distance_objective(settings.distance_rank)
    if kind == "depth":
        return depth_objective(settings.distance_rank)
    train = data.parts["train"]
    task = tag_task(train)
    if kind.endswith("-control"):
        task = control_task(task, train, seed=settings.seed)
    return mlp_objective(task) if kind.startswith("mlp") else linear_objective(task)
