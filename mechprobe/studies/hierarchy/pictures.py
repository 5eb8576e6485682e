"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe import figures
from mechprobe.runs import Run
from mechprobe.studies.hierarchy.results import (
    ModelResults,
    Results,
    accuracy_curve,
    divergence_curve,
)
from mechprobe.studies.hierarchy.rows import records, where
from mechprobe.studies.hierarchy.sequences import IN, OUT
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.trajectory import BLOCKS, FILTERS
from mechprobe.studies.hierarchy.verdict_training import model_label
from mechprobe.studies.report_parts import Gallery
from mechprobe.trees import sibling_attention


def draw(settings: Settings, results: Results, run: Run) -> dict[str, str]:
    """Draw every figure; returns name -> path of its PNG inside the run folder."""
    gallery = Gallery(run)
    draw_staircases(settings, results, gallery)
    for name, model in results.models.items():
        draw_training(model, name, gallery)
        draw_attention(model, name, gallery)
        if model.probes is not None:
            draw_probes(model, name, gallery)
    draw_enrichment(results, gallery)
    return gallery.drawn


def draw_staircases(settings: Settings, results: Results, gallery: Gallery) -> None:
    """Closest filter level of each task's models, and closest block observer."""
    for kind, ladder, name in (
        ("root", FILTERS, "staircase-root"), ("masked", FILTERS, "staircase-masked"),
        ("masked", BLOCKS, "staircase-blocks"),
    ):
        stairs = {model_label(m): m.stairs[ladder] for m in results.of_main_shape(kind)}
        if stairs:
            label = "closest filter level k" if ladder == FILTERS else "closest block height s"
            gallery.keep(name, figures.staircase(
                stairs, rungs=settings.depth + 1, ylabel=label,
            ), pd.concat(stairs.values(), ignore_index=True))


def draw_training(model: ModelResults, name: str, gallery: Gallery) -> None:
    """KL to every observer; of a root model also accuracy on every filter level's test set."""
    if model.spec.kind == "root":
        draw_accuracy(model, name, gallery)
    panels = {
        "KL to BP_k, held-out sequences": divergence_curve(model, IN),
        "KL to BP_k, uniform strings": divergence_curve(model, OUT),
    }
    if BLOCKS in model.stairs:
        panels["KL to B_s, held-out sequences"] = divergence_curve(model, IN, BLOCKS)
    letter = "k or s" if BLOCKS in model.stairs else "k"
    rungs = {c: f"{letter} = {c.split('_')[1]}" for c in panels["KL to BP_k, held-out sequences"]
             if c != "sequences"}
    data = pd.concat([t.assign(panel=title) for title, t in panels.items()], ignore_index=True)
    gallery.keep(f"divergence-{name}", figures.training_curves(
        panels, rungs, ylabel="nats", least=True, log_y=True,
    ), data)


def draw_accuracy(model: ModelResults, name: str, gallery: Gallery) -> None:
    """Accuracy on every filter level's test set."""
    accuracy = accuracy_curve(model)
    levels = {c: f"data {c}" for c in accuracy.columns if c != "sequences"}
    gallery.keep(f"accuracy-{name}", figures.training_curves(
        {f"{model_label(model)}: accuracy on filtered test sets": accuracy}, levels,
        ylabel="accuracy",
    ), accuracy)


def draw_attention(model: ModelResults, name: str, gallery: Gallery) -> None:
    """Mass by height layer by layer, and the mean maps above the ideal ones."""
    layers = where(model.layers, queries="all")
    shown = layers.assign(
        layer=[f"{n} ({w})" for n, w in zip(layers["layer"], layers["weights"], strict=True)]
    )
    gallery.keep(f"heights-{name}", figures.mass_by_height(
        shown, title=model_label(model)
    ), shown)
    maps = gallery.run.read_arrays(f"arrays/attention-{name}.safetensors")["trained"]
    ideal = sibling_attention(model.spec.depth, model.arity).numpy()
    n_layers, n_heads = maps.shape[:2]
    rows = {f"head {h}" if n_heads > 1 else "trained": [maps[i, h] for i in range(n_layers)]
            for h in range(n_heads)}
    rows["ideal"] = list(ideal[:n_layers])
    names = [f"layer {i + 1}" for i in range(n_layers)]
    layer, head, query, key = np.indices(maps.shape).reshape(4, -1)
    flat = pd.DataFrame({
        "layer": layer + 1, "head": head, "query": query, "key": key,
        "attention": maps.astype(np.float64).ravel(),
    })
    gallery.keep(f"maps-{name}", figures.attention_maps(
        rows, names, title=f"{model_label(model)}: mean attention (rows: queries)"
    ), flat)


def draw_probes(model: ModelResults, name: str, gallery: Gallery) -> None:
    """Probe accuracy, layers down, heights across."""
    assert model.probes is not None
    trained = records(model.probes, weights="trained")
    layers, heights = (max(row[axis] for row in trained) for axis in ("layer", "height"))
    values = np.full((layers + 1, heights), np.nan)
    for row in trained:
        values[row["layer"], row["height"] - 1] = row["mlp"]
    gallery.keep(f"probes-{name}", figures.head_map(
        values, title=f"{model_label(model)}: ancestor probes", unit="accuracy",
        limits=(0.0, 1.0), columns="height of the ancestor", first=1,
    ), model.probes)


def draw_enrichment(results: Results, gallery: Gallery) -> None:
    """E_h of each task's trained models."""
    for kind in ("root", "masked"):
        tables = {
            model_label(m): where(m.strongest, weights="trained")
            for m in results.of_main_shape(kind)
        }
        if tables:
            gallery.keep(f"enrichment-{kind}", figures.enrichment_by_height(tables), pd.concat(
                tables.values(), ignore_index=True
            ))
