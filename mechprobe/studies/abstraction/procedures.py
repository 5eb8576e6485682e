"""MainExp, ControlExp and ContrastExp: train on a task or none, learn the target task, test."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from mechprobe.models.edits import HookedModel
from mechprobe.models.generate_beams import beam_exact_matches
from mechprobe.runs import Run, progress
from mechprobe.studies.abstraction.data import SetData, prepare
from mechprobe.studies.abstraction.models import fresh_model, keep_model, open_model, pretrained
from mechprobe.studies.abstraction.new_words import (
    borrow,
    new_prepositions,
    new_words,
    written_words,
)
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.tasks.seen_words import SeenWords
from mechprobe.tasks.seq2seq_rows import SequenceRows
from mechprobe.training.seq2seq import (
    SequenceFit,
    answer_log_probability,
    exact_matches,
    fit_sequences,
)


@dataclass
class SetRun:
    """One set of a run: its data, opened when first needed."""

    settings: Settings
    run: Run
    index: int
    mutation: str | None = None
    _data: SetData | None = None

    @property
    def data(self) -> SetData:
        """The set's tasks."""
        if self._data is None:
            model = None if self.settings.model is None else pretrained(self.settings)
            self._data = prepare(self.settings, self.index, model, self.mutation)
        return self._data

    @property
    def seed(self) -> int:
        """Decides this set's weights and the order of its batches."""
        return 1_000 * self.settings.seed + self.index


def first_fit(settings: Settings, steps: int | None = None) -> SequenceFit:
    """How the auxiliary and the contrast task are learnt."""
    return SequenceFit(
        steps=steps or settings.auxiliary_steps, batch_size=settings.batch,
        lr=settings.auxiliary_lr, warmup=settings.warmup, decay=settings.decay,
        label_smoothing=settings.label_smoothing,
    )


def target_fit(
    settings: Settings, start: str, adapt: str, steps: int | None = None
) -> SequenceFit:
    """How the target task is learnt: by all weights when ``full``, else by embeddings alone."""
    scratch, full = start == "control" and adapt == "full", adapt == "full"
    rate = settings.control_lr if scratch else settings.finetune_lr
    return SequenceFit(
        steps=steps or (settings.control_steps if scratch else settings.finetune_steps),
        batch_size=settings.batch, lr=rate if full else settings.embedding_lr,
        embedding_lr=settings.finetune_embedding_lr if full and not scratch else None,
        warmup=settings.warmup, decay=settings.decay, label_smoothing=settings.label_smoothing,
        learns="all" if full else "embeddings",
    )


def generic_unit(at: SetRun) -> dict:
    """Generic pretraining: the grammar in other vocabularies."""
    data = at.data
    assert data.generic is not None
    model = begin(at, None)
    fit = first_fit(at.settings, at.settings.generic_steps)
    _fit(at, f"generic-{at.index}", model, data.rows(data.generic), fit)
    keep_model(at.run, f"generic-{at.index}", model)
    return {"steps": fit.steps, "pairs": len(data.generic)}


def begin(at: SetRun, source: str | None) -> HookedModel:
    """The model kept as ``source``; None: the one before any training here."""
    if source is None:
        return fresh_model(at.settings, at.data, at.seed)
    return open_model(at.settings, at.data, at.run, source)


def first_unit(
    at: SetRun, start: str, name: str, points: Collection[int] = (), source: str | None = None
) -> dict:
    """Learn the auxiliary or the contrast task, and keep the model (and points on the way).

    Returns:
        memory: exact match on training pairs, at the end and at each of ``points``; dev and ood:
        per pair, in distribution and on new pairs with the generalisation.
    """
    splits = at.data.auxiliary if start == "auxiliary" else at.data.contrast
    model, fit = begin(at, source), first_fit(at.settings)
    memory = splits["train"].take(
        np.random.default_rng(0).permutation(len(splits["train"]))[: at.settings.n_test]
    )

    def at_point(step: int) -> str:
        return f"{name}-step-{step:06d}"

    def on_checkpoint(step: int) -> None:
        keep_model(at.run, at_point(step), model)

    _fit(at, name, model, splits["train"], fit, points, on_checkpoint)
    keep_model(at.run, name, model)
    return {
        "memory": float(exact_matches(model, memory).mean()),
        "dev": exact_matches(model, splits["dev"]).tolist(),
        "ood": exact_matches(model, splits["ood"]).tolist(),
        "points": [
            {"step": step, "memory": float(exact_matches(begin(at, at_point(step)), memory).mean())}
            for step in sorted(points)
        ],
    }


def target_unit(
    at: SetRun, start: str, adapt: str, name: str, source: str | None, *, keep: bool = False,
    steps: int | None = None,
) -> dict:
    """Learn the target task from the model ``source`` (None: from nothing) and test.

    Returns:
        Per test pair: exact match in distribution (``test``) and in generalisation (``ood``), and
        the mean log probability of the answers there.
    """
    data = at.data
    model = begin(at, source)
    fit = target_fit(at.settings, start, adapt, steps)
    words = set(new_words(data)) if adapt in ("words", "content") else None
    if words is not None and adapt == "content" and source is not None:
        # lent by the auxiliary, contrast or generic task, which have the same prepositions
        given = new_prepositions(data)
        borrow(model, given, written_words(data))
        words -= given.keys()
    _fit(at, name, model, data.target["train"], fit, rows=words)
    if keep:
        keep_model(at.run, name, model)
    return {
        split: right(at, model, data.target[split]).tolist() for split in ("test", "ood")
    } | {
        f"{split}_log_probability": answer_log_probability(model, data.target[split]).tolist()
        for split in ("test", "ood")
    }


def right(at: SetRun, model: HookedModel, rows: SequenceRows) -> np.ndarray:
    """Whether each whole answer is right: greedy by teacher forcing, or written by beams."""
    settings = at.settings
    if not settings.beams:
        return exact_matches(model, rows)
    seen = SeenWords.of_targets(at.data.target["train"]) if settings.constrained else None
    return beam_exact_matches(model, rows, settings.beams, seen)


def _fit(
    at: SetRun, name: str, model: HookedModel, data: SequenceRows, fit: SequenceFit,
    points: Collection[int] = (), on_checkpoint: Callable[[int], None] | None = None,
    rows: Collection[int] | None = None,
) -> None:
    store = at.run.checkpoint(name)
    with progress(fit.steps, name) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % 20 == 0:
                at.run.log(name, step, loss=loss)

        fit_sequences(
            model, data, fit, seed=at.seed, rows=rows, trajectory=points,
            on_checkpoint=on_checkpoint, on_step=on_step, store=store,
        )
