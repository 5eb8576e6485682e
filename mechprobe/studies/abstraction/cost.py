"""What a run would cost: built with random weights, one step of each kind is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel, forward, site_grid
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.studies.abstraction.borrowed import BORROWERS, borrows
from mechprobe.studies.abstraction.models import moved
from mechprobe.studies.abstraction.settings import STARTS, Settings
from mechprobe.studies.abstraction.timeline import point_steps
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table
from mechprobe.tasks.seq2seq_rows import SequenceRows
from mechprobe.tasks.word_ids import SPECIAL, WordIds
from mechprobe.training.seq2seq import sequence_loss

SHAPES = {
    "t5-small": (6, 8, 512), "t5-base": (12, 12, 768), "t5-large": (24, 16, 1024),
    "gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024),
}
"""Layers, heads and width of the models of the paper, for a dry run without their weights."""
LONGEST = {"mod": (24, 44), "com": (64, 128)}
"""Source and target tokens of the longest pairs, by probe."""


def dry_run(settings: Settings) -> str:
    """Build the run's model with random weights, time one step of each kind, and add them up.

    Nothing is downloaded or read. Pairs are random tokens of the longest length, so real runs,
    which pad to the batch, are cheaper. A pretrained model not of the paper's has the shape that
    --n-layers, --n-heads and --d-model say. Times are for this machine and device.
    """
    use_threads(settings)
    model = random_model(settings)
    parts = estimate(settings, model)
    weights = sum(p.numel() for p in model.parameters())
    return "\n".join([
        f"dry run of abstraction, preset {settings.preset}, probe {settings.probe}, "
        f"on {device_name(settings.device)}",
        f"model: {settings.model or settings.arch}, {model.cfg.n_layers} layers x "
        f"{model.cfg.n_heads} heads, d_model {model.cfg.d_model}, {weights / 1e6:.1f} M "
        f"parameters, {site_grid(model).n_head_sites} heads (random weights)",
        *work_table(parts),
        f"memory: {16 * weights / 2**30:.1f} GiB for weights, gradients and AdamW's moments",
        f"disk: {4 * weights * kept_models(settings) / 2**30:.1f} GiB for "
        f"{kept_models(settings)} kept models",
    ])


def kept_models(settings: Settings) -> int:
    """Models whose weights a run keeps."""
    two = borrows(settings) and settings.adapt[-1] != "words"
    a_set = 3 + two + len(point_steps(settings)) + 2 * bool(settings.generic_steps)
    return settings.n_sets * (a_set + len(settings.mutations))


def random_model(settings: Settings) -> HookedModel:
    """A model of the run's shape with random weights."""
    shape = (settings.n_layers, settings.n_heads, settings.d_model)
    vocabulary = 2_600
    if settings.model is not None:
        shape = SHAPES.get(settings.model, shape)
        vocabulary = 32_128 if settings.arch == "encoder-decoder" else 50_257
    given: dict[str, Any] = dict(zip(("n_layers", "n_heads", "d_model"), shape, strict=True))
    given |= {"d_vocab": vocabulary, "seed": 0}
    if settings.arch == "encoder-decoder":
        return moved(build_encoder_decoder(**given), settings)
    return moved(build_decoder(n_ctx=sum(LONGEST[settings.probe]) + 2, **given), settings)


def random_rows(settings: Settings, vocabulary: int, n: int) -> SequenceRows:
    """n pairs of random tokens, each as long as the longest."""
    rng = np.random.default_rng(0)
    words = WordIds((*SPECIAL, *map(str, range(vocabulary - len(SPECIAL)))), False)
    sources, targets = (
        tuple(tuple(row) for row in rng.integers(3, vocabulary, (n, size)).tolist())
        for size in LONGEST[settings.probe]
    )
    return SequenceRows(sources, targets, words, settings.arch == "decoder", "random")


def estimate(settings: Settings, model: HookedModel) -> list[Part]:
    """Time one step of each kind of work and count how often the run does it."""
    rows = random_rows(settings, model.cfg.d_vocab, settings.batch)
    chosen = np.arange(settings.batch)
    batch, answers = rows.batch(chosen), rows.answers(chosen).to(settings.device)

    def train() -> None:
        sequence_loss(forward(model, batch), answers, settings.label_smoothing).backward()
        model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def score() -> None:
        forward(model, batch)

    train_seconds, score_seconds = timed(train, settings.device), timed(score, settings.device)
    sets, n = settings.n_sets, settings.batch
    first = 2 * sets * settings.auxiliary_steps
    first += sets * (settings.auxiliary_steps + settings.generic_steps) * bool(
        settings.generic_steps
    )
    second = (len(STARTS) + 2 * bool(settings.generic_steps)) * len(settings.adapt)
    points = len(point_steps(settings))
    target = sets * second * settings.finetune_steps
    if "full" in settings.adapt:
        target += sets * (settings.control_steps - settings.finetune_steps)
    target += sets * (points + bool(points)) * settings.point_steps
    mutations = len(settings.mutations)
    mutated = sets * mutations * (settings.auxiliary_steps + settings.finetune_steps)
    tests = sets * (second + points + bool(points) + mutations)
    written = max(1, settings.beams * (LONGEST[settings.probe][1] if settings.beams else 1))
    # every answer is also scored by its log probability; first tasks and borrowed words only once
    once = sets * (2 + points + bool(settings.generic_steps) + mutations)
    once += sets * len(BORROWERS) * borrows(settings)
    scored = -(-(settings.n_test + settings.n_ood) // n) * (tests * (written + 1) + once)
    heads = site_grid(model).n_head_sites
    closed = 2 * (len(settings.baselines) + 2) * heads + 2 * settings.n_random * 24
    masks = settings.mask_steps * settings.mask_seeds * sets
    return [
        Part("auxiliary and contrast steps", first, train_seconds),
        Part("target task steps", target, train_seconds),
        Part("mutations", mutated, train_seconds),
        Part("scoring", scored, score_seconds),
        Part("heads closed", sets * closed * -(-settings.n_heads_eval // n), score_seconds),
        Part("mask steps", masks, 3 * score_seconds),
    ]
