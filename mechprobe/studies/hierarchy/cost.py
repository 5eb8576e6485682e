"""What a run would cost: one step of each kind is timed on models with random weights."""

from __future__ import annotations

from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.probes.ancestors import ancestor_task, fit_ancestor_probes, leaf_vectors
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.studies.hierarchy.models import fresh_model, training_task
from mechprobe.studies.hierarchy.ranking import MASK_BATCH, N_SETS
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, checkpoint_steps, grammar_of, read_specs
from mechprobe.studies.hierarchy.units import work_of
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table
from mechprobe.training.tree_tasks import random_masks, seeded, tree_log_probs
from mechprobe.trees import block_ladder, bp_ladder, sample

MOST_TIMED = 1_000
"""Sequences that a step is timed on at most."""


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
        "not counted: exact parts, the constructed network and its probes, tables, figures",
    ]
    return "\n".join(lines)


def estimate(settings: Settings, spec: Spec, model: HookedFixedLengthEncoder) -> list[Part]:
    """Time one step of each kind of work of a model and count how often the run does it."""
    grammar, task = grammar_of(settings, spec), training_task(settings, spec)
    one = min(settings.n_eval, MOST_TIMED)
    leaves = sample(grammar, one, spec.k, settings.seed).leaves
    mask = None
    if spec.kind == "masked":
        mask = random_masks(one, grammar.n_leaves, 1, seeded("cpu", settings.seed))

    def train_step() -> None:
        task.loss(model, 0).backward()
        model.zero_grad(set_to_none=True)

    def score_step() -> None:
        tree_log_probs(model, leaves, mask)

    def infer_step() -> None:
        bp_ladder(grammar, leaves, mask)
        if mask is not None:
            block_ladder(grammar, leaves, mask)

    filtered = (grammar.depth + 1) / 2 if spec.kind == "root" else 0
    sets = (2 + filtered) * settings.n_eval / one
    scored = sets * len(checkpoint_steps(settings, spec)) + read_inside(settings, spec) / one
    parts = [
        Part(f"{spec.name}, training steps", spec.steps, timed(train_step, settings.device)),
        Part(f"{spec.name}, scoring {one:,} sequences", round(scored),
             timed(score_step, settings.device)),
        Part(f"{spec.name}, inference on {one:,}", round(sets), timed(infer_step, "cpu")),
    ]
    return parts + probes_part(settings, spec, model)


def read_inside(settings: Settings, spec: Spec) -> int:
    """Sequences that pass through a trained model to look inside it, a gradient as two passes."""
    inside, depth = work_of(settings, spec), spec.depth
    read = 2 * settings.n_attention
    if "blocks" in inside:
        read += 2 * (depth + 1) * settings.n_eval
    if "ranking" in inside:
        closed = (3 * spec.n_heads * spec.n_layers + N_SETS + 2) * settings.n_locate
        read += depth * (closed + 3 * settings.mask_seeds * settings.mask_steps * MASK_BATCH)
    return read


def probes_part(settings: Settings, spec: Spec, model: HookedFixedLengthEncoder) -> list[Part]:
    """Epochs of ancestor probes, which four banks of each height go through at most."""
    if "probes" not in work_of(settings, spec):
        return []
    grammar, n = grammar_of(settings, spec), min(settings.n_probe, MOST_TIMED)
    samples = sample(grammar, n + 20, 0, settings.seed, ancestors=True)
    data = leaf_vectors(model, samples)
    task, train, dev = ancestor_task(data, grammar.q, 1), data.part(0, n), data.part(n, n + 20)
    fit = ProbeSettings(lr=5e-3, batch_size=20, epochs=1)

    def epoch() -> None:
        fit_ancestor_probes(task, train, dev, settings=fit, device=settings.device)

    count = round(4 * grammar.depth * settings.probe_epochs * settings.n_probe / n)
    return [Part(f"{spec.name}, probes on {n:,}", count, timed(epoch, settings.device))]


def activation_memory(settings: Settings, specs: list[Spec]) -> int:
    """Bytes that backward keeps for the largest model's batch, from the sizes of what is stored."""
    most = 0
    for spec in specs:
        pos = grammar_of(settings, spec).n_leaves
        a_token = 10 * settings.d_model + 3 * settings.d_mlp + 3 * spec.n_heads * pos
        most = max(most, 4 * settings.batch * pos * spec.n_layers * a_token)
    return most
