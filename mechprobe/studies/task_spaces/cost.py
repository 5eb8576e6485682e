"""What a run would cost: a model of each size with random weights, one step of each kind timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel
from mechprobe.models.token_logprobs import token_logprobs
from mechprobe.studies.task_spaces.models import given_points, open_point
from mechprobe.studies.task_spaces.regime import methods
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.timing import device_name, timed, use_threads
from mechprobe.training.pretrain_settings import SIZES
from mechprobe.training.task_gradients import gradient_bytes, held_gradients

KNOWN = {
    "gpt2": (12, 12, 768, 50_257), "EleutherAI/pythia-70m-deduped": (6, 8, 512, 50_304),
    "EleutherAI/pythia-160m-deduped": (12, 12, 768, 50_304),
    "EleutherAI/pythia-410m-deduped": (24, 16, 1024, 50_304),
}
"""Layers, heads, width and vocabulary of public models, so that nothing is downloaded."""
LENGTH, FEW, MANY, LARGE = 12, 8, 64, 20_000_000
"""Tokens of a sentence; sentences timed of a model with more weights than LARGE, and of others."""


@dataclass(frozen=True)
class Amounts:
    """Sentences of every kind of work; as many for each model."""

    n_tasks: int
    tune: int
    evaluate: int
    per_step: int

    @classmethod
    def of(cls, settings: Settings) -> Amounts:
        """The numbers of a run, of parts as large as the default shares make them."""
        n_tasks = len(settings.paradigms) or (19 if settings.pairs == "own" else 67)
        n_pairs = settings.n_pairs if settings.pairs == "own" else 1_000
        tune = min(settings.n_tune or n_pairs, n_pairs // 4)
        evaluate = min(settings.n_eval or n_pairs, n_pairs // 10)
        return cls(n_tasks, 2 * tune, 2 * evaluate, 2 * min(settings.batch or tune, tune))


def dry_run(settings: Settings) -> str:
    """Time scoring and tuning of a few sentences of 12 tokens on every model, and add them up.

    Nothing is downloaded; models that lie here are opened, others stood in for by their shape.
    Times are for this machine and device.
    """
    use_threads(settings)
    amounts = Amounts.of(settings)
    lines = [
        f"dry run of task-space, preset {settings.preset}, {amounts.n_tasks} paradigms, on "
        f"{device_name(settings.device)}",
        f"{'model':<32}{'weights':>10}{'train h':>9}{'gradients h':>13}{'tuning h':>10}"
        f"{'heads h':>9}{'kinds h':>9}{'memory GiB':>12}{'passes':>8}",
    ]
    whole = 0.0
    for name in settings.models or settings.sizes:
        model = shaped(settings, name)
        weights = sum(p.numel() for p in model.parameters())
        share = settings.top_overlap
        held = held_gradients(weights, amounts.n_tasks, share, settings.gradient_gib * 2**30)
        passes = gradient_passes(amounts.n_tasks, held)
        hours = work_hours(settings, amounts, model, name, passes)
        memory = gradient_bytes(weights, amounts.n_tasks, share, held) + 4 * weights
        whole += sum(hours)
        lines.append(
            f"{name:<32}{weights / 1e6:>8.1f} M{hours[0]:>9.2f}{hours[1]:>13.2f}{hours[2]:>10.2f}"
            f"{hours[3]:>9.2f}{hours[4]:>9.2f}{memory / 2**30:>12.1f}{passes:>8.1f}"
        )
    lines += [
        f"total: {whole:.2f} h",
        f"memory: of the model and the gradients, for which --gradient-gib is "
        f"{settings.gradient_gib:g}; passes: how often each gradient is taken for it",
    ]
    return "\n".join(lines)


def work_hours(
    settings: Settings, amounts: Amounts, model: HookedModel, name: str, passes: float
) -> list[float]:
    """Hours of training, gradients, tuning on every task, closing heads, and kinds of tuning."""
    forward, backward = sentence_seconds(settings, model)
    points, spaces = counted_points(settings, name)
    scored = amounts.evaluate * amounts.n_tasks * forward
    row = amounts.per_step * settings.steps * backward + scored
    compared = (settings.regime_model or (settings.models or settings.sizes)[-1]) == name
    ways = len(methods(settings)) * len(settings.regime_lrs) * settings.regime_tasks * compared
    tokens = settings.train_steps * settings.train_batch * settings.n_ctx
    seconds = (
        0.0 if settings.models else tokens / LENGTH * backward,
        points * amounts.tune * amounts.n_tasks * (1 + passes) * backward,
        spaces * amounts.n_tasks * row,
        spaces * model.cfg.n_layers * model.cfg.n_heads * scored,
        ways * row,
    )
    return [s / 3600 for s in seconds]


def counted_points(settings: Settings, name: str) -> tuple[int, int]:
    """Points of training of a model, and how many of them get a whole transfer space."""
    if settings.models:
        given = given_points(settings, name)
        return len(given), sum(point.whole for point in given)
    return settings.n_checkpoints, min(settings.n_spaces, settings.n_checkpoints)


def gradient_passes(n_tasks: int, held: int) -> float:
    """How often a task's whole gradient is taken, on average, when so many are held at once."""
    return sum(n_tasks - start for start in range(0, n_tasks, held)) / n_tasks


def shaped(settings: Settings, name: str) -> HookedModel:
    """A decoder of a model's shape: itself where it lies here, GPT-2's of an unknown hub name."""
    if settings.models and Path(name).expanduser().exists():
        return open_point(settings, given_points(settings, name)[-1]).requires_grad_(True)
    size: dict[str, Any]
    if name in SIZES and not settings.models:
        size, vocabulary = SIZES[name], settings.n_vocabulary
    else:
        layers, heads, width, vocabulary = KNOWN.get(name, KNOWN["gpt2"])
        size = {"n_layers": layers, "n_heads": heads, "d_model": width}
    model = build_decoder(d_vocab=vocabulary, n_ctx=max(16, settings.n_ctx), **size)
    return model.to(settings.device, print_details=False)


def sentence_seconds(settings: Settings, model: HookedModel) -> tuple[float, float]:
    """Seconds a sentence takes, and takes with its gradient, half of its tokens scored."""
    large = sum(p.numel() for p in model.parameters()) > LARGE
    n = FEW if large and torch.device(settings.device).type == "cpu" else MANY
    tokens = torch.randint(0, model.cfg.d_vocab, (n, LENGTH), device=settings.device)
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:, : LENGTH // 2] = False

    def forward() -> Tensor:
        with torch.no_grad():
            return token_logprobs(model, tokens, scored)

    def backward() -> None:
        token_logprobs(model, tokens, scored).sum().backward()

    return timed(forward, settings.device) / n, timed(backward, settings.device) / n
