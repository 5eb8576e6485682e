"""What a run would cost: a model of each size with random weights, one step of each kind timed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel
from mechprobe.models.token_logprobs import token_logprobs
from mechprobe.studies.task_spaces.regime import methods
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.timing import device_name, timed, use_threads
from mechprobe.training.pretrain_settings import SIZES

KNOWN = {
    "gpt2": (12, 12, 768, 50_257), "EleutherAI/pythia-70m-deduped": (6, 8, 512, 50_304),
    "EleutherAI/pythia-160m-deduped": (12, 12, 768, 50_304),
    "EleutherAI/pythia-410m-deduped": (24, 16, 1024, 50_304),
}
"""Layers, heads, width and vocabulary of public models, so that nothing is downloaded."""
LENGTH, SENTENCES = 12, 64


def dry_run(settings: Settings) -> str:
    """Time scoring and tuning of 64 sentences of 12 tokens on every model, and add them up.

    Nothing is downloaded or read; times are for this machine and device.
    """
    use_threads(settings)
    n_tasks = len(settings.paradigms) or (19 if settings.pairs == "own" else 67)
    n_pairs = settings.n_pairs if settings.pairs == "own" else 1_000
    tune = min(settings.n_tune or n_pairs, n_pairs // 4)
    evaluate = min(settings.n_eval or n_pairs, n_pairs // 10)
    per_step = min(settings.batch or tune, tune)
    lines = [f"dry run of task-space, preset {settings.preset}, {n_tasks} paradigms, on "
             f"{device_name(settings.device)}",
             f"{'model':<32}{'weights':>10}{'train h':>9}{'spaces h':>10}{'kinds h':>9}"
             f"{'memory GiB':>12}"]
    whole = 0.0
    for name in settings.models or settings.sizes:
        model = shaped(settings, name)
        weights = sum(p.numel() for p in model.parameters())
        forward, backward = timings(settings, model)
        each = 2 * per_step / SENTENCES * backward * settings.steps
        scored = 2 * evaluate * n_tasks / SENTENCES * forward
        points = 1 if settings.models else settings.n_checkpoints
        spaces = 1 if settings.models else min(settings.n_spaces, points)
        gradient = 2 * 2 * tune * n_tasks / SENTENCES * backward
        space = spaces * n_tasks * (each + scored) + points * gradient
        kinds = settings.regime_tasks * len(methods(settings)) * len(settings.regime_lrs)
        compare = kinds * (each + scored)
        train = 0.0 if settings.models else (
            settings.train_steps * settings.train_batch * settings.n_ctx / (SENTENCES * LENGTH)
            * backward
        )
        hours = [seconds / 3600 for seconds in (train, space, compare)]
        whole += sum(hours)
        memory = 4 * weights * (4 * n_tasks + 4) / 2**30
        lines.append(f"{name:<32}{weights / 1e6:>8.1f} M{hours[0]:>9.2f}{hours[1]:>10.2f}"
                     f"{hours[2]:>9.2f}{memory:>12.1f}")
    lines.append(f"total: {whole:.2f} h; memory is that of every task's gradients side by side")
    return "\n".join(lines)


def shaped(settings: Settings, name: str) -> HookedModel:
    """A decoder of a model's shape; of an unknown hub name GPT-2's shape."""
    size: dict[str, Any]
    if name in SIZES and not settings.models:
        size, vocabulary = SIZES[name], settings.n_vocabulary
    else:
        layers, heads, width, vocabulary = KNOWN.get(name, KNOWN["gpt2"])
        size = {"n_layers": layers, "n_heads": heads, "d_model": width}
    model = build_decoder(d_vocab=vocabulary, n_ctx=max(16, settings.n_ctx), **size)
    return model.to(settings.device, print_details=False)


def timings(settings: Settings, model: HookedModel) -> tuple[float, float]:
    """Seconds of one forward pass and of one with backward, after a first that is not counted."""
    tokens = torch.randint(0, model.cfg.d_vocab, (SENTENCES, LENGTH), device=settings.device)
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:, : LENGTH // 2] = False

    def forward() -> Tensor:
        with torch.no_grad():
            return token_logprobs(model, tokens, scored)

    def backward() -> None:
        token_logprobs(model, tokens, scored).sum().backward()

    return timed(forward, settings.device), timed(backward, settings.device)
