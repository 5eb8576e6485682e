"""Kinds of tuning side by side: gain on the task, cost in perplexity, effect on other tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.studies.task_spaces.at_point import accuracies
from mechprobe.studies.task_spaces.check import tuning
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import GRADIENTS, OpenPoint, arrays_file
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, ordinary
from mechprobe.training.pair_scores import by_task
from mechprobe.training.perplexity import perplexity
from mechprobe.training.transfer import transfer_row

FINE_TUNING, PLAIN, HINGED = "fine-tuning", "difference", "hinged difference"
HINGE = 2.0


@dataclass(frozen=True)
class Method:
    """A kind of tuning: its name and its settings, whose learning rate is varied."""

    name: str
    settings: TuneSettings


def methods(settings: Settings) -> list[Method]:
    """The kinds compared: baselines, the plain difference, hinged ones of several sparsities."""
    hinge = settings.hinge if settings.hinge is not None else HINGE
    own = tuning(settings, objective="difference", hinge=hinge, top=1.0, remask=False)
    sparse = settings.top if settings.top < 1 else 0.01
    return [
        Method(FINE_TUNING, ordinary(own)),
        Method(PLAIN, replace(own, hinge=None)),
        Method(f"{PLAIN}, top {sparse:g}", replace(own, hinge=None, top=sparse)),
        Method(HINGED, own),
        Method(f"{HINGED}, top {sparse:g}", replace(own, top=sparse)),
        Method(f"{HINGED}, random {sparse:g}", replace(own, top=sparse, mask="random")),
    ]


def sparse_name(settings: Settings, kind: str = "top") -> str:
    """The name of the hinged sparse method."""
    return f"{HINGED}, {kind} {settings.top if settings.top < 1 else 0.01:g}"


def regime_point(settings: Settings, points: list[Point]) -> Point:
    """Where kinds of tuning are compared: the first whole point of --regime-model, or the last.

    Raises:
        InputError: no such model in the run.
    """
    name = settings.regime_model or points[-1].model
    for point in points:
        if point.whole and point.model == name:
            return point
    known = ", ".join(dict.fromkeys(point.model for point in points))
    raise InputError(f"--regime-model {name} is none of the run's models; give one of {known}")


def compared_tasks(settings: Settings, phenomena: list[str], point: Point, run: Run) -> list[int]:
    """The tasks of the comparison, chosen by what the untuned model gets right."""
    known = accuracies(run.read_arrays(arrays_file(point, GRADIENTS)))
    return chosen_tasks(known, phenomena, settings.regime_tasks)


def chosen_tasks(accuracy: np.ndarray, phenomena: list[str], n: int) -> list[int]:
    """At most n tasks with something to gain, the hardest of each phenomenon in turn."""
    order = sorted(range(len(accuracy)), key=lambda t: accuracy[t])
    rank: dict[str, int] = {}
    keyed = []
    for t in order:
        rank[phenomena[t]] = rank.get(phenomena[t], -1) + 1
        keyed.append((accuracy[t] > 0.95, rank[phenomena[t]], accuracy[t], t))
    return sorted(t for *_, t in sorted(keyed)[:n])


def kinds_unit(at: OpenPoint, place: int, run: Run) -> dict:
    """Tune the place-th compared task in every way at every learning rate; a unit of the run."""
    tasks = compared_tasks(at.settings, at.pairs.phenomena, at.point, run)
    return {"rows": regime_rows(at, tasks[place])}


def regime_rows(at: OpenPoint, task: int) -> list[dict[str, object]]:
    """A task tuned in every way at every learning rate: a row each, gains as shares."""
    base = by_task((at.margins() > 0).astype(float), at.encoded.evaluate)
    start = perplexity(at.model, at.text)
    return [
        {"task": at.pairs.names[task], "phenomenon": at.pairs.phenomena[task],
         "method": way.name, "lr": lr, "accuracy_before": base[task],
         **outcome(at, task, replace(way.settings, lr=lr), base, start)}
        for way in methods(at.settings) for lr in at.settings.regime_lrs
    ]


def outcome(
    at: OpenPoint, task: int, settings: TuneSettings, base: np.ndarray, start: float
) -> dict[str, float]:
    """What one tuning did to its task, to others and to the perplexity; no gain where it failed."""
    own = at.settings
    try:
        with flat_weights(at.model) as weights:
            row = transfer_row(
                at.model, weights, at.encoded.tune, at.encoded.evaluate, task, settings,
                text=at.text, validation=at.encoded.validate if own.stop else None,
                batch_tokens=own.batch_tokens, seed=own.seed,
            )
    except FloatingPointError:
        return {"gain": np.nan, "perplexity_ratio": np.inf}
    change = by_task((row.after > 0).astype(float), at.encoded.evaluate) - base
    kinds = np.array(at.pairs.phenomena)
    same = kinds == kinds[task]
    related = same & (np.arange(len(kinds)) != task)
    return {
        "gain": change[task], "perplexity_ratio": row.perplexity / start,
        "same_phenomenon": change[related].mean() if related.any() else np.nan,
        "other_phenomena": change[~same].mean() if (~same).any() else np.nan,
        "changed": row.delta.share,
    }
