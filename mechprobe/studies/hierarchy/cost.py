"""What a run would cost: one step of each kind is timed on models with random weights."""

from __future__ import annotations

import torch

from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.studies.hierarchy.models import fresh_model, training_task
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, checkpoint_steps, grammar_of, read_specs
from mechprobe.studies.hierarchy.units import work_of
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table
from mechprobe.training.tree_tasks import tree_log_probs
from mechprobe.trees import bp_ladder, sample


def dry_run(settings: Settings) -> str:
    """Build each model with random weights, time one step of each kind, and add them up.

    Times are for this machine and device, to compare presets by; other work on it lengthens them.

    Returns:
        Text with steps, unit costs, memory and hours.
    """
    use_threads(settings)
    specs = read_specs(settings)
    parts, weights, disk = [], 0, 0
    for spec in specs:
        model = fresh_model(settings, spec)
        own = sum(p.numel() for p in model.parameters())
        weights, disk = max(weights, own), disk + 4 * own * len(checkpoint_steps(settings, spec))
        parts += estimate(settings, spec, model)
    lines = [
        f"dry run of hierarchy, preset {settings.preset}, on {device_name(settings.device)}",
        f"models: {len(specs)}, up to {weights / 1e6:.2f} M parameters (random weights); batches "
        f"of {settings.batch} sequences",
        *work_table(parts, count="times"),
        f"training sequences: {settings.batch * sum(spec.steps for spec in specs):,}",
        f"memory: {16 * weights / 2**20:.0f} MiB for training state, about "
        f"{activation_memory(settings, specs) / 2**20:.0f} MiB of activations",
        f"disk: {disk / 2**20:.0f} MiB for the trajectories",
    ]
    return "\n".join(lines)


def estimate(settings: Settings, spec: Spec, model: HookedFixedLengthEncoder) -> list[Part]:
    """Time one step of each kind of work of a model and count how often the run does it."""
    grammar, task = grammar_of(settings, spec), training_task(settings, spec)
    leaves = sample(grammar, min(settings.n_eval, 1_000), spec.k, settings.seed).leaves

    def train_step() -> None:
        task.loss(model, 0).backward()
        model.zero_grad(set_to_none=True)

    def score_step() -> None:
        mask = None if spec.kind == "root" else torch.zeros_like(leaves, dtype=torch.bool)
        tree_log_probs(model, leaves, mask)

    def infer_step() -> None:
        bp_ladder(grammar, leaves)

    one = min(settings.n_eval, 1_000)
    filtered = (grammar.depth + 1) / 2 if spec.kind == "root" else 0
    sets = (2 + filtered) * settings.n_eval / one
    forward = timed(score_step, settings.device)
    passes = round(sets * len(checkpoint_steps(settings, spec)))
    inside = work_of(settings, spec)
    heads = spec.n_heads * spec.n_layers
    ranking = heads * 3 + 122 + 3 * settings.mask_seeds * settings.mask_steps
    located = round(grammar.depth * ranking * settings.n_locate / one) if "ranking" in inside else 0
    blocks = 2 * (grammar.depth + 1) if "blocks" in inside else 0
    return [
        Part(f"{spec.name}, training steps", spec.steps, timed(train_step, settings.device)),
        Part(f"{spec.name}, scoring {one:,} sequences", passes + 2 * round(
            settings.n_attention / one
        ) + blocks + located, forward),
        Part(f"{spec.name}, inference on {one:,}", round(sets), timed(infer_step, settings.device)),
    ]


def activation_memory(settings: Settings, specs: list[Spec]) -> int:
    """Bytes that backward keeps for the largest model's batch, from the sizes of what is stored."""
    most = 0
    for spec in specs:
        pos = grammar_of(settings, spec).n_leaves
        a_token = 10 * settings.d_model + 3 * settings.d_mlp + 3 * spec.n_heads * pos
        most = max(most, 4 * settings.batch * pos * spec.n_layers * a_token)
    return most
