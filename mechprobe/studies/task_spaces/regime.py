"""Kinds of tuning side by side: gain on the task, cost in perplexity, effect on other tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mechprobe.runs import Run, progress
from mechprobe.studies.task_spaces.check import tuning
from mechprobe.studies.task_spaces.models import Point, encode, held_out_rows, open_point
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.minimal_pairs import MinimalPairs
from mechprobe.tasks.pair_tokens import subset
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, ordinary, tune
from mechprobe.training.pair_scores import pair_margins, task_accuracy
from mechprobe.training.perplexity import perplexity

FINE_TUNING, PLAIN, HINGED = "fine-tuning", "difference", "hinged difference"
HINGE = 2.0


@dataclass(frozen=True)
class Method:
    """A kind of tuning and the factor on the learning rate that its step sizes ask for."""

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


def chosen_tasks(accuracy: np.ndarray, phenomena: list[str], n: int) -> list[int]:
    """At most n tasks with something to gain, the hardest of each phenomenon in turn."""
    order = sorted(range(len(accuracy)), key=lambda t: accuracy[t])
    rank: dict[str, int] = {}
    keyed = []
    for t in order:
        rank[phenomena[t]] = rank.get(phenomena[t], -1) + 1
        keyed.append((accuracy[t] > 0.95, rank[phenomena[t]], accuracy[t], t))
    return sorted(t for *_, t in sorted(keyed)[:n])


def regime_unit(settings: Settings, pairs: MinimalPairs, point: Point, run: Run) -> dict:
    """Tune chosen tasks in every way at every learning rate; a unit of the run."""
    model = open_point(settings, point)
    encoded = encode(settings, pairs, model)
    text = held_out_rows(settings, point, pairs, model)
    phenomena, rows = pairs.phenomena, []
    base = task_accuracy(pair_margins(model, encoded.evaluate), encoded.evaluate)
    tasks = chosen_tasks(base, phenomena, settings.regime_tasks)
    ways = methods(settings)
    with flat_weights(model) as weights:
        start = perplexity(model, text)
        with progress(len(tasks) * len(ways) * len(settings.regime_lrs), "kinds of tuning") as bar:
            for t in tasks:
                mine = subset(encoded.tune, encoded.tune.of_task(t))
                same = np.array([p == phenomena[t] for p in phenomena])
                same[t] = False
                other = ~same
                other[t] = False
                for way in ways:
                    for lr in settings.regime_lrs:
                        row = {"task": pairs.names[t], "phenomenon": phenomena[t],
                               "method": way.name, "lr": lr, "accuracy_before": base[t]}
                        try:
                            tuned = tune(
                                model, weights, mine, replace(way.settings, lr=lr),
                                seed=settings.seed + t,
                            )
                        except FloatingPointError:
                            row |= {"gain": np.nan, "perplexity_ratio": np.inf}
                        else:
                            with weights.applied(tuned.delta):
                                after = task_accuracy(
                                    pair_margins(model, encoded.evaluate), encoded.evaluate
                                )
                                ratio = perplexity(model, text) / start
                            change = after - base
                            row |= {
                                "gain": change[t], "perplexity_ratio": ratio,
                                "same_phenomenon": change[same].mean() if same.any() else np.nan,
                                "other_phenomena": change[other].mean() if other.any() else np.nan,
                                "changed": tuned.delta.share,
                            }
                        rows.append(row)
                        bar.update(1)
    run.write_table(f"tables/kinds-of-tuning-{point.name}.csv", pd.DataFrame(rows))
    return {"tasks": [pairs.names[t] for t in tasks], "rows": len(rows)}
