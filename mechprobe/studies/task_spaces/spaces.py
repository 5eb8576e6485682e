"""One point of training: what it knows, how its tasks' gradients relate, what tuning transfers."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.gates.context import gated
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.parts import PartSums, part_sums
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
from mechprobe.tasks.pair_tokens import EncodedPairs
from mechprobe.training.deltas import flat_weights
from mechprobe.training.pair_scores import by_task, pair_margins
from mechprobe.training.perplexity import perplexity
from mechprobe.training.task_gradients import GradientSpace, gradient_space, held_gradients
from mechprobe.training.transfer import transfer_row

GRADIENTS, HEADS = "gradients", "heads"


class OpenPoint:
    """A point of training whose model, pairs and text are opened when something asks for them."""

    def __init__(self, settings: Settings, pairs: MinimalPairs, point: Point) -> None:
        self.settings, self.pairs, self.point = settings, pairs, point

    @cached_property
    def model(self) -> HookedModel:
        """The model at the point."""
        return open_point(self.settings, self.point)

    @cached_property
    def encoded(self) -> Encodings:
        """The parts of the pairs in the model's tokens."""
        return encode(self.settings, self.pairs, self.model)

    @cached_property
    def text(self) -> Int[Tensor, "row pos"]:
        """Rows of held-out text."""
        return held_out_rows(self.settings, self.point, self.pairs, self.model)

    def margins(self, pairs: EncodedPairs | None = None) -> Float[np.ndarray, " pair"]:
        """log P(x+) - log P(x-) of pairs (those of evaluation) with the weights as they are now."""
        return pair_margins(
            self.model, pairs or self.encoded.evaluate, batch_tokens=self.settings.batch_tokens
        )


def arrays_file(point: Point, part: str | int) -> str:
    """Where a part of a point's arrays is kept: gradients, heads, or the row of a tuned task."""
    name = f"task-{part:03d}" if isinstance(part, int) else part
    return f"arrays/{point.name}/{name}.safetensors"


def gradient_unit(at: OpenPoint, run: Run) -> dict:
    """What the untuned model scores, and how its tasks' gradients relate; a unit of the run."""
    settings, tune = at.settings, at.encoded.tune
    parts: list[PartSums] = []
    with flat_weights(at.model) as weights, progress(len(tune.names), "gradients") as bar:
        budget = settings.gradient_gib * 2**30
        share, n = settings.top_overlap, len(tune.names)

        def on_task(task: int, gradient: Tensor) -> None:
            parts.append(part_sums(at.model, gradient.abs()))
            bar.update(1)

        space = gradient_space(
            at.model, weights, tune, share=share, seed=settings.seed, on_task=on_task,
            held=held_gradients(len(weights), n, share, budget),
        )
        size = len(weights)
    scored = at.encoded.whole if at.point.whole else at.encoded.evaluate
    known = {
        "before": at.margins(), "task": at.encoded.evaluate.task,
        "scores": at.margins(scored), "scored_task": scored.task,
        "perplexity": np.array(perplexity(at.model, at.text)), "weights": np.array(size),
    }
    run.write_arrays(
        arrays_file(at.point, GRADIENTS), known | relation_arrays(space) | part_arrays(parts)
    )
    return {"eval_pairs": len(at.encoded.evaluate), "tune_pairs": len(tune)}


def relation_arrays(space: GradientSpace) -> dict[str, np.ndarray]:
    """How gradients overlap, agree and are spread, as arrays by name."""
    relations = space.relations
    return {
        "overlap": relations.overlap, "cosine": space.cosine,
        "sign_agreement": relations.sign_agreement, "shared_cosine": relations.shared_cosine,
        "half_overlap": space.half_overlap, "half_cosine": space.half_cosine,
        "swapped_overlap": space.swapped_overlap, "participation": space.participation,
        "half_mass": space.half_mass,
    }


def part_arrays(parts: list[PartSums]) -> dict[str, np.ndarray]:
    """Share of the sum of |g| in each head, MLP layer, the embeddings and the rest, task by task.

    The rest: norms and the bias of attention's output.
    """
    total = np.array([p.total for p in parts])
    embedded = np.array([sum(v for k, v in p.other.items() if "embed" in k) for p in parts])
    every = np.array([sum(p.other.values()) for p in parts])
    return {
        "heads": np.array([p.heads for p in parts]) / total[:, None, None],
        "mlps": np.array([p.mlps for p in parts]) / total[:, None],
        "embeddings": embedded / total, "rest": (every - embedded) / total,
    }


def tuned_unit(at: OpenPoint, task: int, run: Run) -> dict:
    """Tune on a task, test on all; a unit of the run."""
    settings = at.settings
    with flat_weights(at.model) as weights:
        row = transfer_row(
            at.model, weights, at.encoded.tune, at.encoded.evaluate, task, tuning(settings),
            text=at.text, validation=at.encoded.validate if settings.stop else None,
            batch_tokens=settings.batch_tokens, seed=settings.seed,
        )
    run.write_arrays(arrays_file(at.point, task), {
        "after": row.after.astype(np.float32), "perplexity": np.array(row.perplexity),
        "changed": np.array(row.delta.share),
    })
    return {"task": at.pairs.names[task]}


def heads_unit(at: OpenPoint, run: Run) -> dict:
    """Fall of the mean of log P(x+) - log P(x-) (nats) when a head is closed to zero; a unit."""
    model, evaluate = at.model, at.encoded.evaluate
    before = at.margins()
    heads = [site for site in site_grid(model).sites if site.kind == "head"]
    out = np.zeros((model.cfg.n_layers, model.cfg.n_heads, len(evaluate.names)))
    for site in heads:
        with gated(model, closed=[site]):
            out[site.layer, site.index] = by_task(before - at.margins(), evaluate)
    run.write_arrays(arrays_file(at.point, HEADS), {"closed": out})
    return {"heads": len(heads)}
