"""Encoders of other shapes: more heads, one layer fewer or more, trained equally long."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from mechprobe.studies.claims import Claim, judge
from mechprobe.studies.hierarchy.results import ModelResults, Results
from mechprobe.studies.hierarchy.rows import records
from mechprobe.studies.hierarchy.sequences import IN
from mechprobe.studies.hierarchy.verdict_training import TASKS, absent, interval, nearest
from mechprobe.trees import closest_rung


def equally_trained(results: Results, kind: str) -> list[ModelResults]:
    """Models of a task on the full hierarchy that saw the same sequences, by layers and heads.

    Where lengths of training differ, those of the length that most models have.
    """
    found = results.trained(kind, 0)
    lengths = Counter(m.spec.steps for m in found)
    if not lengths:
        return []
    length = max(lengths, key=lambda steps: (lengths[steps], steps))
    same = [m for m in found if m.spec.steps == length]
    return sorted(same, key=lambda m: (m.spec.n_layers, m.spec.n_heads))


def shape_table(results: Results) -> pd.DataFrame:
    """One row a shape: accuracy, KL from exact inference, closest observers, E_h; held out."""
    rows = []
    for kind in TASKS:
        models = equally_trained(results, kind)
        for model in models if len(models) > 1 else ():
            accuracy, kl = model.final_accuracy(IN), model.final_kl(IN)
            row = {
                "model": model.spec.name, "layers": model.spec.n_layers,
                "heads": model.spec.n_heads, "sequences": accuracy["sequences"],
                "accuracy": accuracy["accuracy"], "accuracy_low": accuracy["low"],
                "accuracy_high": accuracy["high"], "kl": kl[0]["kl"], "kl_low": kl[0]["low"],
                "kl_high": kl[0]["high"], "closest_BP": nearest(kl),
            }
            if kind == "masked":
                blocks = model.final_kl(IN, "B_s")
                row["closest_B"] = closest_rung(
                    [r["kl"] for r in blocks.values()], list(blocks)
                ).rung
            strongest = records(model.strongest, by="height", weights="trained")
            rows.append(row | {f"E_{r['height']}": r["enrichment"] for r in strongest})
    return pd.DataFrame(rows)


def layers_needed_claims(results: Results) -> list[Claim]:
    """Claim 6 seen from training, for each task that has models of l - 1, l and l + 1 layers."""
    found = [layers_needed(results, kind) for kind in TASKS]
    return [claim for claim in found if claim is not None] or [
        absent("One layer a level", "no models of l - 1, l and l + 1 layers trained equally long")
    ]


def layers_needed(results: Results, kind: str) -> Claim | None:
    """Whether l - 1 layers are farther from exact inference than l, and l + 1 are no nearer."""
    models = {
        m.spec.n_layers: m for m in reversed(equally_trained(results, kind))
    }  # of the fewest heads
    depth = next(iter(models.values())).spec.depth if models else 0
    if not {depth - 1, depth, depth + 1} <= set(models):
        return None
    fewer, own, more = (models[depth + by].final_kl(IN)[0] for by in (-1, 0, 1))
    further = (own["kl"] - more["kl"]) / max(fewer["kl"] - own["kl"], 1e-9)
    return Claim(
        f"One layer a level ({TASKS[kind]}): with one layer fewer than levels a model stays "
        "farther from exact inference, with one more it comes no nearer",
        judge(bool(fewer["low"] > own["high"] and further <= 0.1)),
        f"KL(BP_0 || model) after {int(own['sequences']):,} sequences: {depth - 1} layers "
        f"{interval(fewer)}, {depth} layers {interval(own)}, {depth + 1} layers {interval(more)}; "
        f"the last brings {further:.2f} of what the one before brought (asked: at most 0.1) "
        "(one training each on the same sequences: how far trainings differ is not measured)",
        "existence argument for l layers; probes with 1, 2, 3 and 4 layers, no divergences",
    )
