"""The tables of a run, gathered from its finished units; no model runs here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.hierarchy.attention import layer_table, strongest
from mechprobe.studies.hierarchy.rows import records
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of, read_specs
from mechprobe.studies.hierarchy.trajectory import (
    BLOCKS,
    FILTERS,
    changes,
    samples_to_level,
    staircase,
)


@dataclass(frozen=True)
class ModelResults:
    """What is known about one model; tables that do not apply to it are None.

    Attributes:
        spec: what it is.
        divergence: one row a checkpoint, kind of sequences, ladder and rung.
        accuracy: one row a checkpoint and kind of sequences.
        stairs: staircase of held-out sequences by ladder.
        attention: mass by height of every head.
        layers: mass by height of every layer.
        strongest: E_h of the trained and the untrained model.
        probes: accuracy of ancestor probes.
        reach: divergence of probes from observers of every reach.
        blocks: attention limited to blocks against B_s.
        heads, agreement, sets: rankings of heads, their agreement, sets closed together.
        arity: children of a node of its trees.
    """

    spec: Spec
    divergence: pd.DataFrame
    accuracy: pd.DataFrame
    stairs: dict[str, pd.DataFrame]
    attention: pd.DataFrame
    layers: pd.DataFrame
    strongest: pd.DataFrame
    probes: pd.DataFrame | None = None
    reach: pd.DataFrame | None = None
    blocks: pd.DataFrame | None = None
    heads: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None
    sets: pd.DataFrame | None = None
    arity: int = 2

    def final_accuracy(self, drawn: str) -> dict[str, Any]:
        """The last checkpoint's row for one kind of sequences."""
        return records(self.accuracy, by="step", drawn=drawn)[-1]

    def final_kl(self, drawn: str, ladder: str = FILTERS) -> dict[int, dict[str, Any]]:
        """The last checkpoint's divergences by rung, for one kind of sequences."""
        last = self.divergence["step"].max()
        rows = records(self.divergence, by="rung", step=last, drawn=drawn, ladder=ladder)
        return {int(row["rung"]): row for row in rows}

    def path(self, ladder: str = FILTERS) -> list[int]:
        """Closest rungs of all checkpoints after the first step."""
        return [int(p["closest"]) for p in records(self.stairs[ladder]) if p["step"] > 0]


@dataclass(frozen=True)
class Results:
    """Everything the report shows.

    Attributes:
        models: by name, in the order they were trained.
        exact: largest errors: "enumeration", "sampler", "oracle", and of binary trees
            "construction".
        planted: measures on the constructed network beside what is true of it.
        changes: change points of every staircase.
        scaling: sequences seen until each level, for models of the full hierarchy.
    """

    models: dict[str, ModelResults]
    exact: dict[str, float]
    planted: pd.DataFrame
    changes: pd.DataFrame
    scaling: pd.DataFrame

    def main(self, kind: str, k: int) -> ModelResults | None:
        """The model of the main size for a task and filter level; else one of another shape."""
        fitting = sorted(self.trained(kind, k), key=lambda model: model.spec.variant)
        return fitting[0] if fitting else None

    def trained(self, kind: str, k: int | None = None) -> list[ModelResults]:
        """Models of a task (and filter level) on the main grammar, of any shape."""
        return [
            m for m in self.models.values()
            if m.spec.kind == kind and (k is None or m.spec.k == k)
            and m.spec.own_grammar
        ]

    def of_main_shape(self, kind: str) -> list[ModelResults]:
        """Models of a task on the main grammar; those of other shapes only where all are."""
        models = self.trained(kind)
        return [m for m in models if not m.spec.variant] or models


def gather(settings: Settings, run: Run) -> Results:
    """Read every finished unit and derive the tables."""
    models = {spec.name: gather_model(settings, spec, run) for spec in read_specs(settings)}
    stairs = [s for m in models.values() for s in m.stairs.values()]
    turns = [changes(table) for table in stairs]
    full = [m for m in models.values() if m.spec.full]
    scaling = [
        samples_to_level(m.stairs[FILTERS], m.spec.depth).assign(
            task=m.spec.kind, depth=m.spec.depth, q=grammar_of(settings, m.spec).q,
            heads=m.spec.n_heads, layers=m.spec.n_layers,
        )
        for m in full
    ]
    return Results(
        models=models, exact=exact_errors(run), planted=run.read_table(
            "tables/planted.csv"
        ) if run.path("tables/planted.csv").exists() else pd.DataFrame(),
        changes=pd.concat(turns, ignore_index=True),
        scaling=pd.concat(scaling, ignore_index=True) if scaling else pd.DataFrame(),
    )


def exact_errors(run: Run) -> dict[str, float]:
    """Largest error of each exact part that there is (no construction for trees not binary)."""
    found = run.result("exact") | run.result("oracle")
    return {name: error for name, error in found.items() if error is not None}


def gather_model(settings: Settings, spec: Spec, run: Run) -> ModelResults:
    """The tables of one model."""

    def table(name: str) -> pd.DataFrame | None:
        rel = f"tables/{name}-{spec.name}.csv"
        return run.read_table(rel) if run.path(rel).exists() else None

    divergence, accuracy = table("divergence"), table("accuracy")
    attention = table("attention")
    assert divergence is not None
    assert accuracy is not None
    assert attention is not None
    ladders = [FILTERS] + [BLOCKS] * (spec.kind == "masked")
    queries = "all" if spec.kind == "root" else "masked"
    return ModelResults(
        spec=spec, divergence=divergence, accuracy=accuracy,
        stairs={ladder: staircase(divergence, ladder) for ladder in ladders},
        attention=attention, layers=layer_table(attention),
        strongest=pd.concat(
            [strongest(attention, queries, w) for w in ("trained", "untrained")],
            ignore_index=True,
        ),
        probes=table("probes"), reach=table("reach"), blocks=table("blocks"),
        heads=table("heads"), agreement=table("head-agreement"), sets=table("head-sets"),
        arity=grammar_of(settings, spec).arity,
    )


def accuracy_curve(model: ModelResults) -> pd.DataFrame:
    """Accuracy on the test set of each filter level, one row a checkpoint."""
    rows = []
    for step in sorted(set(model.accuracy["step"])):
        found = records(model.accuracy, step=step)
        rows.append({"sequences": found[0]["sequences"], **{
            r["drawn"]: r["accuracy"] for r in found if r["drawn"].startswith("k=")
        }})
    return pd.DataFrame(rows)


def divergence_curve(model: ModelResults, drawn: str, ladder: str = FILTERS) -> pd.DataFrame:
    """KL to each rung, one row a checkpoint: columns sequences, rung_0, rung_1, ..."""
    rows = []
    for step in sorted(set(model.divergence["step"])):
        found = records(model.divergence, by="rung", step=step, drawn=drawn, ladder=ladder)
        rows.append({"sequences": found[0]["sequences"], **{
            f"rung_{r['rung']}": r["kl"] for r in found
        }})
    return pd.DataFrame(rows)


def rise_then_fall(model: ModelResults) -> pd.DataFrame:
    """On each filtered test set: highest accuracy over training, final accuracy, their gap."""
    curve, rows = accuracy_curve(model), []
    for name in curve.columns:
        if name in ("sequences", "k=0"):
            continue
        found = curve[name].to_numpy(float)
        best = int(np.argmax(found))
        rows.append({"test set": name, "peak": found[best], "final": found[-1],
                     "fall": found[best] - found[-1],
                     "peak_at": int(curve["sequences"].to_numpy()[best])})
    return pd.DataFrame(rows)

