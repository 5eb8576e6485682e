"""What a run would cost: built with random weights, one step of each kind is timed."""

from __future__ import annotations

import dataclasses

import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.gates.engine import engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.masks import frozen
from mechprobe.models.classifier import build_classifier
from mechprobe.models.decoder_classifier import Classifier, build_decoder_classifier
from mechprobe.models.edits import forward, site_grid
from mechprobe.studies.heuristic_core.models import (
    checkpoint_steps,
    precision,
)
from mechprobe.studies.heuristic_core.search import mask_settings, plans
from mechprobe.studies.heuristic_core.settings import PAIRS, Settings
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.metrics import label_loss
from mechprobe.tasks.templates import read_groups

VOCABULARY = 30_522  # BERT's; only decides the memory of the embeddings


def dry_run(settings: Settings) -> str:
    """Build the run's model with random weights, time one step of each kind, and add them up.

    Nothing is downloaded or read. Batches are random tokens of the longest length, so real runs,
    which pad to the batch, are cheaper. Times are for this machine and device.

    Returns:
        Text with units, forwards, memory and hours.
    """
    use_threads(settings)
    model = random_model(settings)
    with precision(settings):
        parts = estimate(settings, model)
    weights = sum(p.numel() for p in model.parameters())
    optimiser = 4 * 4 * weights  # weights, gradients and two moments in float32
    kept = len(checkpoint_steps(settings)) + settings.n_models - 1
    lines = [
        f"dry run of heuristic-core, preset {settings.preset}, pair {settings.pair}, "
        f"on {device_name(settings.device)}",
        f"model: {model.cfg.n_layers} layers x {model.cfg.n_heads} heads, d_model "
        f"{model.cfg.d_model}, {weights / 1e6:.1f} M parameters, {len(site_grid(model))} gates "
        "(random weights)",
        f"subnetworks: {sum(p.n_masks for p in plans(settings))} in {len(plans(settings))} groups",
        *work_table(parts),
        f"forwards: {sum(p.count for p in parts):,} (batches through the model)",
        f"memory: {optimiser / 2**30:.1f} GiB for fine-tuning state, about "
        f"{activation_memory(settings, model) / 2**30:.1f} GiB of activations at the largest batch",
        f"disk: {kept * 4 * weights / 2**30:.1f} GiB for {kept} saved models",
    ]
    return "\n".join(lines)


def random_model(settings: Settings) -> Classifier:
    """A classifier of the run's shape (the preset's sizes stand in for a pretrained encoder's)."""
    shaped = settings
    if settings.encoder == "minilm":
        shaped = dataclasses.replace(settings, n_layers=6, n_heads=12, d_model=384, d_mlp=1536)
    labels = ("entailment", "neutral", "contradiction")
    build = build_decoder_classifier if settings.arch == "decoder" else build_classifier
    return build(
        labels[: 2 if settings.pair != "mnli-hans" else 3], n_layers=shaped.n_layers,
        n_heads=shaped.n_heads, d_model=shaped.d_model, d_mlp=shaped.d_mlp,
        n_ctx=settings.max_length, d_vocab=VOCABULARY,
    ).to(settings.device)


def estimate(settings: Settings, model: Classifier) -> list[Part]:
    """Time one step of each kind of work and count how often the run does it."""
    train = random_batch(settings, settings.train_batch)
    mask = random_batch(settings, settings.mask_batch)
    score = random_batch(settings, 128)
    grid = site_grid(model)

    def train_step() -> None:
        label_loss(forward(model, train), train.labels).mean().backward()
        model.zero_grad(set_to_none=True)

    train_seconds = timed(train_step, settings.device)
    with frozen(model):
        baseline = mean_baseline(model, [mask], grid)
        engine = engine_for(model, grid, baseline)

        def mask_step() -> None:
            gates = torch.rand(1, len(grid), device=settings.device, requires_grad=True)
            if engine is not None:
                engine.gradients(mask, gates, lambda logits, _: logits.sum())
            else:
                gated_logits(model, mask, gates, grid, baseline).sum().backward()

        @torch.no_grad()
        def score_step() -> None:
            forward(model, score)

        mask_seconds = timed(mask_step, settings.device)
        score_seconds = timed(score_step, settings.device)
    groups = plans(settings)
    steps = sum(
        p.n_masks * mask_settings(settings, p.sparsity).steps * settings.mask_accumulation
        for p in groups
    )
    points = {(p.model, p.step) for p in groups}
    shared = -(-min(settings.mask_examples, settings.n_train) // settings.mask_batch)
    examples = settings.n_dev + n_ood_groups(settings) * settings.n_ood
    scored = -(-examples // 128) * (
        sum(p.n_masks for p in groups) + len(checkpoint_steps(settings)) + settings.n_models - 1
    )
    heads = model.cfg.n_layers * model.cfg.n_heads
    small = -(-(4 * settings.n_eval + 4 * settings.n_eval) // 128) or -(-examples // 128)
    effects = len(settings.sparsities) * small * (2 * heads + 4 * settings.n_random_sets + 5)
    return [
        Part("fine-tuning steps", settings.n_models * settings.train_steps, train_seconds),
        Part("mask steps (one gate vector)", steps, mask_seconds),
        Part("full model on mask examples", 2 * shared * len(points),
             score_seconds * settings.mask_batch / 128),
        Part("scoring batches of 128", scored, score_seconds),
        Part("head edits, core tests (128)", effects, score_seconds),
    ]


def n_ood_groups(settings: Settings) -> int:
    """Out-of-domain sub-cases of a pair, without reading its data."""
    if settings.pair == "overlap":
        groups = read_groups(read_card(PAIRS["overlap"]))
        return len(settings.ood_groups) or sum(group.ood for group in groups)
    return {"mnli-hans": 30, "qqp-paws": 2}[settings.pair]


def random_batch(settings: Settings, n: int) -> Batch:
    """n random pairs of the longest length."""
    shape, device = (n, settings.max_length), settings.device
    tokens = torch.randint(0, VOCABULARY, shape, device=device)
    one = torch.ones(shape, dtype=torch.long, device=device)
    index = torch.arange(n, device=device)
    return Batch(tokens=tokens, segments=0 * one, attention_mask=one, labels=0 * index, index=index)


def activation_memory(settings: Settings, model: Classifier) -> int:
    """Bytes that backward keeps for the largest batch, from the sizes of what is stored."""
    cfg, rows = model.cfg, max(settings.train_batch, settings.mask_batch)
    d_mlp = cfg.d_mlp or 0
    a_token = 10 * cfg.d_model + 3 * d_mlp + 3 * cfg.n_heads * settings.max_length
    return 4 * rows * settings.max_length * cfg.n_layers * a_token
