"""What was asked of a run before it was made, bar by bar: the value, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from mechprobe.studies.hierarchy.results import ModelResults, Results, rise_then_fall
from mechprobe.studies.hierarchy.rows import records, values
from mechprobe.studies.hierarchy.sequences import IN
from mechprobe.studies.hierarchy.trajectory import BLOCKS
from mechprobe.studies.hierarchy.verdict_training import compressed, nearest
from mechprobe.trees import inversions


@dataclass(frozen=True)
class Bar:
    """One bar: about which model, what is measured, what was asked, the value, whether it is met.

    ``exact`` bars hold for every grammar and seed; the others are learned, and may be missed.
    """

    model: str
    bar: str
    asked: str
    value: float
    met: bool
    exact: bool = False


def bar_table(results: Results) -> pd.DataFrame:
    """Every bar that this run's models can be held to."""
    found = [*exact_bars(results)]
    for model in results.models.values():
        if model.spec.variant:
            continue
        found += [*learned_bars(model), *attention_bars(model), *inside_bars(model)]
    return pd.DataFrame([asdict(bar) for bar in found])


def exact_bars(results: Results) -> Iterator[Bar]:
    """Inference, the sampler, the table of observers' accuracies, the constructed network."""
    exact = results.exact
    yield Bar("", "inference against enumeration", "1e-10", exact["enumeration"],
              exact["enumeration"] < 1e-10, True)
    yield Bar("", "sampled against enumerated strings, total variation", "below .02",
              exact["sampler"], exact["sampler"] < 0.02, True)
    yield Bar("", "accuracy of BP_j on data of k, drawn against enumerated", "below .01",
              exact["oracle"], exact["oracle"] < 0.01, True)
    if "construction" in exact:
        yield Bar("", "constructed network against inference", "1e-8", exact["construction"],
                  exact["construction"] < 1e-8, True)


def learned_bars(model: ModelResults) -> Iterator[Bar]:
    """Accuracy, divergence, the closest observer and the staircase of one model."""
    spec, name = model.spec, model.spec.name
    row, kl = model.final_accuracy(IN), model.final_kl(IN)
    own = kl[spec.k]["kl"]
    if spec.kind == "root" and spec.full:
        yield _least(name, "accuracy", row["accuracy"], 0.97)
        yield _most(name, "KL(BP_0 || model)", own, 0.10)
        profile = [model.final_accuracy(f"k={k}") for k in range(spec.depth + 1)]
        yield _most(name, "accuracy on every test set, farthest from BP_0's",
                    max(abs(r["accuracy"] - r["BP_0"]) for r in profile), 0.04)
    elif spec.kind == "root" and spec.k >= 2:
        yield _least(name, "accuracy minus that of BP_k", row["accuracy"] - row[f"BP_{spec.k}"],
                     -0.03)
        yield _most(name, "KL(BP_k || model)", own, 0.08)
    elif spec.full:
        yield _least(name, "accuracy minus that of BP_0", row["accuracy"] - row["BP_0"], -0.04)
        top = max(0, spec.depth - 1)
        yield _most(name, f"KL(B_{top} || model)", model.final_kl(IN, BLOCKS)[top]["kl"], 0.03)
    if spec.k != 1 and (spec.kind == "root" or spec.k >= 2):
        others = min(r["kl"] for k, r in kl.items() if k != spec.k)
        met = nearest(kl) == spec.k and others >= 3 * own
        yield Bar(name, "next best observer, times as far as BP_k", "3 or more", others / own, met)
    if spec.full:
        yield from _stair_bars(model)


def _stair_bars(model: ModelResults) -> Iterator[Bar]:
    name, depth, path = model.spec.name, model.spec.depth, model.path()
    yield _most(name, "inversions of the staircase", inversions(path), 1)
    stages = len(set(compressed(path)))
    yield _least(name, "stages of the staircase", stages, depth if model.spec.kind == "root" else 3)
    if model.spec.kind == "root":
        falls = [r["fall"] for r in records(rise_then_fall(model)) if r["test set"] != "k=1"]
        if falls:
            yield _least(name, "rise then fall, least over k of 2 or more", min(falls), 0.10)


def attention_bars(model: ModelResults) -> Iterator[Bar]:
    """E_h up to height l - k, and above it."""
    name, reach = model.spec.name, model.spec.depth - model.spec.k
    for row in records(model.strongest, by="height", weights="trained"):
        height, value = row["height"], row["enrichment"]
        if height <= min(reach, 2):
            yield _least(name, f"E_{height}", value, 1.3)
        elif height > reach and model.spec.k >= 2:
            yield _most(name, f"E_{height}", value, 1.5 if reach == 0 else 1.1)
    if model.spec.full and model.spec.kind == "masked" and model.spec.n_layers >= 3:
        heights = values(
            model.layers, "mean_height", by="layer", queries="all", weights="trained"
        )[:3]
        yield Bar(name, "mean attended height, least step over layers 1 to 3", "above 0",
                  min(heights[1] - heights[0], heights[2] - heights[1]),
                  heights[0] < heights[1] < heights[2])


def inside_bars(model: ModelResults) -> Iterator[Bar]:
    """Probes and the causal test of models on the full hierarchy."""
    name, depth = model.spec.name, model.spec.depth
    if model.probes is not None:
        rows = {(r["weights"], r["layer"], r["height"]): r["mlp"] for r in records(model.probes)}
        for m in range(1, min(depth - 1, model.spec.n_layers) + 1):
            least = 0.95 if m == 1 else 0.70
            yield _least(name, f"probe of height {m} in layer {m}", rows["trained", m, m], least)
        yield _most(name, "probe of height 1 in layer 1, random weights",
                    rows["untrained", 1, 1], 0.75)
    if model.blocks is not None:
        for s in range(depth):
            (best,) = records(model.blocks, allowed="own block", s=s, closest=True)
            bar = f"attention limited to {model.arity}^{s} leaves: closest B_s"
            yield Bar(name, bar, f"s = {s}", float(best["rung"]), best["rung"] == s)


def _least(model: str, bar: str, value: float | int, least: float | int) -> Bar:
    return Bar(model, bar, f"{least:g} or more", float(value), bool(value >= least))


def _most(model: str, bar: str, value: float | int, most: float | int) -> Bar:
    return Bar(model, bar, f"{most:g} or less", float(value), bool(value <= most))
