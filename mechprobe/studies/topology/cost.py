"""What a run would cost: built with random weights, one step of each kind is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from mechprobe.models.build import build_encoder
from mechprobe.models.classifier import build_classifier
from mechprobe.models.edits import HookedModel, forward
from mechprobe.models.streams import Stream, run_with_streams, streams
from mechprobe.probes import ProbeSettings, WordVectors, fit_bank
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.finetune import conditions
from mechprobe.studies.topology.kinds import kinds_of, objective_of, on_residual, topology_of
from mechprobe.studies.topology.models import CONTEXT, model_names
from mechprobe.studies.topology.published import published_finetuning, published_metrics
from mechprobe.studies.topology.settings import Settings
from mechprobe.tasks.acceptability import LABELS
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.metrics import label_loss
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.treebank_grammar import generate_treebank

VOCABULARY = 30_522  # BERT's; only decides the memory of the embeddings
WORDS, TOKENS = 17, 24  # of a sentence of EWT, in the mean
MINILM = {"n_layers": 6, "n_heads": 12, "d_model": 384, "d_mlp": 1_536}
_FEW = 20  # sentences of one timed epoch


def dry_run(settings: Settings) -> str:
    """Build a model of the run's shape with random weights, time one step of each kind, add up.

    Nothing is downloaded or read. Probes are timed on random vectors for one epoch and counted for
    all epochs allowed, so real runs, whose probes stop early, are cheaper.

    Returns:
        Text with streams, probes, memory and hours.
    """
    use_threads(settings)
    if settings.encoder == "minilm":
        settings = dataclasses.replace(settings, **MINILM)
    model = build_encoder(
        n_layers=settings.n_layers, n_heads=settings.n_heads, d_model=settings.d_model,
        d_mlp=settings.d_mlp, n_ctx=CONTEXT, d_vocab=VOCABULARY, init_std=0.02,
    ).requires_grad_(False)
    if settings.device != "cpu":
        model = model.to(settings.device)
    found = streams(model, settings.parts)
    parts = estimate(settings, model, found)
    weights = sum(p.numel() for p in model.parameters())
    n_read = settings.n_train + settings.n_dev + settings.n_test
    n_read += settings.n_second if settings.second else 0
    room = 4 * n_read * WORDS * len(found) * settings.d_model
    lines = [
        f"dry run of topology, preset {settings.preset}, on {device_name(settings.device)}",
        f"model: {settings.n_layers} layers x {settings.n_heads} heads, d_model "
        f"{settings.d_model}, {weights / 1e6:.1f} M parameters (random weights, shape of the "
        f"preset); {len(found)} streams probed together",
        f"probes: {sum(len(kinds_of(settings, n)) for n in model_names(settings))} banks of "
        f"{len(found)} (MLP probes and other ranks: the residual stream)",
        *work_table(parts, count="times"),
        f"vectors: {room / 2**30:.1f} GiB a model, memory-mapped above 2 GiB a part",
        f"memory: {16 * weights / 2**30:.1f} GiB for fine-tuning state",
        "published, to set beside: X of BERT-large by block (train and val, the authors' logs)",
        published_metrics().to_string(index=False),
        "CoLA Matthews' correlation of BERT-large, 10 seeds (the authors' logs)",
        published_finetuning().to_string(index=False),
    ]
    return "\n".join(lines)


def estimate(settings: Settings, model: HookedModel, found: list[Stream]) -> list[Part]:
    """Time one step of each kind of work and count how often the run does it."""
    batch = random_batch(32, settings)
    n_read = settings.n_train + settings.n_dev + settings.n_test
    n_read += settings.n_second if settings.second else 0
    names = model_names(settings)
    read = timed(lambda: run_with_streams(model, batch, found), settings.device)
    parts = [Part("read 32 sentences", len(names) * -(-n_read // 32), read)]
    sentences = generate_treebank(_FEW, seed=0)
    once = ProbeSettings(batch_size=settings.probe_batch, epochs=1)
    data = StudyData({"train": tuple(sentences)})
    for kind in dict.fromkeys(k for n in names for k in kinds_of(settings, n)):
        n_models = sum(kind in kinds_of(settings, n) for n in names)
        each = [s for s in found if s.part == "resid"] if on_residual(kind) else found
        vectors = random_vectors(sentences, each, settings)
        objective = objective_of(settings, data, kind)
        seconds = timed(
            lambda o=objective, v=vectors: fit_bank(o, v, v, once, device=settings.device),
            settings.device,
        ) * settings.n_train * WORDS / len(vectors.words)
        made = topology_of(kind) is not None and kind != "sp"
        label = f"epoch of {kind}" + (" (labels made)" if made else "")
        parts.append(Part(label, n_models * settings.probe_epochs, seconds))
    if settings.n_heads_tested >= 0:
        heads = settings.n_layers * settings.n_heads
        heads = min(heads, settings.n_heads_tested) if settings.n_heads_tested else heads
        count = heads * (1 + settings.n_turns) * -(-settings.n_head_sentences // 32)
        parts.append(Part("32 sentences with a head closed or turned", count, read))
    if settings.encoder is None:
        seconds = timed(train_step(settings, settings.pretrain_batch), settings.device)
        parts.append(Part("step of training the encoder", settings.pretrain_steps, seconds))
    if n_tuned := len(conditions(settings)) * settings.finetune_seeds:
        seconds = timed(train_step(settings, settings.finetune_batch), settings.device)
        parts.append(Part("step of fine-tuning", n_tuned * settings.finetune_steps, seconds))
    return parts


def train_step(settings: Settings, n: int) -> Callable[[], None]:
    """One forward and backward pass of a classifier of the run's shape."""
    model = build_classifier(
        LABELS, n_layers=settings.n_layers, n_heads=settings.n_heads, d_model=settings.d_model,
        d_mlp=settings.d_mlp, n_ctx=CONTEXT, d_vocab=VOCABULARY,
    ).to(settings.device)
    batch = random_batch(n, settings)

    def step() -> None:
        label_loss(forward(model, batch), batch.labels).mean().backward()
        model.zero_grad(set_to_none=True)

    return step


def random_batch(n: int, settings: Settings) -> Batch:
    """n random sentences of the mean length."""
    tokens = torch.randint(0, VOCABULARY, (n, TOKENS), device=settings.device)
    one, index = torch.ones_like(tokens), torch.arange(n, device=settings.device)
    return Batch(tokens=tokens, segments=0 * one, attention_mask=one, labels=0 * index, index=index)


def random_vectors(
    sentences: list[Sentence], found: list[Stream], settings: Settings
) -> WordVectors:
    """Random vectors for the words of some sentences."""
    lengths = [len(s) for s in sentences]
    return WordVectors(
        streams=tuple(found), storage=torch.randn(sum(lengths), len(found), settings.d_model),
        starts=np.cumsum([0, *lengths]), sentences=tuple(sentences),
        words=np.concatenate([np.arange(n) for n in lengths]), index=tuple(range(len(sentences))),
    )  # fmt: skip
