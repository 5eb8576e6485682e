"""One point of training: what it knows, how its tasks' gradients relate, what tuning transfers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechprobe.gates.context import gated
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.parts import part_sums
from mechprobe.runs import Run, progress
from mechprobe.studies.task_spaces.check import tuning
from mechprobe.studies.task_spaces.models import (
    Encodings,
    Point,
    encode,
    held_out_rows,
    open_point,
)
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.minimal_pairs import MinimalPairs
from mechprobe.training.deltas import ResidentWeights, flat_weights
from mechprobe.training.pair_scores import by_task, pair_margins
from mechprobe.training.perplexity import perplexity
from mechprobe.training.task_gradients import (
    TaskGradients,
    alignment,
    cosine,
    half_mass_share,
    overlap,
    participation_ratio,
    task_gradients,
    top_sets,
)
from mechprobe.training.transfer import transfer_space


def point_unit(settings: Settings, pairs: MinimalPairs, point: Point, run: Run) -> dict:
    """Score, take gradients, and where the point asks for it tune on every task; a unit."""
    model = open_point(settings, point)
    encoded = encode(settings, pairs, model)
    text = held_out_rows(settings, point, pairs, model)
    with flat_weights(model) as weights:
        arrays = {"before": pair_margins(model, encoded.evaluate), "task": encoded.evaluate.task}
        gradients = task_gradients(model, weights, encoded.tune, seed=settings.seed)
        arrays |= gradient_arrays(settings, model, gradients)
        del gradients
        if point.whole:
            arrays |= space_arrays(settings, model, weights, encoded, point, text)
    if point.whole:
        arrays["closed"] = head_drops(model, encoded)
    run.write_arrays(arrays_file(point), arrays)
    return {
        "weights": sum(p.numel() for p in model.parameters()),
        "perplexity": perplexity(model, text),
        "eval_pairs": len(encoded.evaluate), "tune_pairs": len(encoded.tune),
    }


def arrays_file(point: Point) -> str:
    """Where a point's arrays are kept."""
    return f"arrays/{point.name}.safetensors"


def gradient_arrays(
    settings: Settings, model: HookedModel, gradients: TaskGradients
) -> dict[str, np.ndarray]:
    """How the tasks' gradients overlap and align, how spread they are, and in which heads."""
    share = settings.top_overlap
    sets = top_sets(gradients.whole, share)
    half = [top_sets(part, share) for part in gradients.halves]
    swapped = top_sets(gradients.swapped, share)
    parts = [part_sums(model, g.abs()) for g in gradients.whole]
    total = np.array([p.total for p in parts])
    return {
        "overlap": overlap(sets, sets), "cosine": cosine(gradients.whole, gradients.whole),
        "alignment": np.nan_to_num(alignment(gradients.whole, sets), nan=0.5),
        "overlap_halves": overlap(half[0], half[1]),
        "cosine_halves": cosine(gradients.halves[0], gradients.halves[1]),
        "overlap_swapped": overlap(swapped, swapped),
        "participation": participation_ratio(gradients.whole),
        "half_mass": half_mass_share(gradients.whole),
        "heads": np.array([p.heads for p in parts]) / total[:, None, None],
        "mlps": np.array([p.mlps for p in parts]) / total[:, None],
        "embeddings": np.array([
            sum(v for k, v in p.other.items() if "embed" in k) for p in parts
        ]) / total,
    }


def space_arrays(
    settings: Settings, model: HookedModel, weights: ResidentWeights, encoded: Encodings,
    point: Point, text: object,
) -> dict[str, np.ndarray]:
    """The transfer space of the point."""
    with progress(len(encoded.tune.names), f"tune {point.name}") as bar:
        space = transfer_space(
            model, weights, encoded.tune, encoded.evaluate, tuning(settings),
            text=text, seed=settings.seed,  # pyright: ignore[reportArgumentType]
            on_task=lambda task, delta: bar.update(task + 1 - bar.n),
        )
    return {
        "after": space.after.astype(np.float32),
        "perplexity_before": np.array(space.perplexity_before),
        "perplexity_after": space.perplexity_after, "changed": space.changed,
    }


def head_drops(model: HookedModel, encoded: Encodings) -> Float[np.ndarray, "layer head task"]:
    """Fall of the mean of log P(x+) - log P(x-) (nats) when a head is closed to zero."""
    before = pair_margins(model, encoded.evaluate)
    heads = [site for site in site_grid(model).sites if site.kind == "head"]
    out = np.zeros((model.cfg.n_layers, model.cfg.n_heads, len(encoded.evaluate.names)))
    for site in heads:
        with gated(model, closed=[site]):
            change = before - pair_margins(model, encoded.evaluate)
        out[site.layer, site.index] = by_task(change, encoded.evaluate)
    return out
