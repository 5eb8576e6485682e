"""Train the study's classifiers, keep their trajectory, and open any point of it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models.classifier import HookedClassifier, build_classifier
from mechprobe.models.decoder_classifier import (
    Classifier,
    HookedDecoderClassifier,
    build_decoder_classifier,
)
from mechprobe.models.load import load_model, packaged_minilm
from mechprobe.models.mimetic import attend_to_equal_tokens
from mechprobe.models.save import save_model
from mechprobe.runs import Run, progress
from mechprobe.studies.heuristic_core.data import StudyData
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.training.fit import FitSettings, fit_classifier


def encoder_source(settings: Settings) -> str | None:
    """Where the pretrained encoder is: its folder or hub name; None when built from scratch."""
    if settings.encoder == "minilm":
        return str(packaged_minilm())
    return settings.encoder


def fresh_model(settings: Settings, data: StudyData, seed: int) -> Classifier:
    """The classifier before training: from scratch, or a pretrained encoder with a new head."""
    source = encoder_source(settings)
    if source is not None:
        model = load_model(
            source, labels=data.task.labels, device=settings.device, seed=seed
        )
        assert isinstance(model, HookedClassifier | HookedDecoderClassifier)
        return model
    build = build_decoder_classifier if settings.arch == "decoder" else build_classifier
    model = build(
        data.task.labels, data.tokenizer, n_layers=settings.n_layers, n_heads=settings.n_heads,
        d_model=settings.d_model, d_mlp=settings.d_mlp, n_ctx=settings.max_length, seed=seed,
    )
    return attend_to_equal_tokens(model, settings.equal_token_init).to(settings.device)


def check_encoder(settings: Settings, labels: Sequence[str]) -> PreTrainedTokenizerFast | None:
    """Open the pretrained encoder once, before long work, and return its tokenizer.

    None when the encoder is built from scratch. Raises InputError for a model that is no encoder,
    that has no tokenizer or one without [CLS] and [SEP], or whose context is shorter than
    ``max_length``.
    """
    source = encoder_source(settings)
    if source is None:
        return None
    model = load_model(source, labels=labels)
    if not isinstance(model, HookedClassifier | HookedDecoderClassifier):
        raise InputError(
            f"{settings.encoder} is a {type(model).__name__}; this study classifies sentence pairs "
            "with an encoder or a decoder: give the folder or hub name of one"
        )
    if not isinstance(model.tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{settings.encoder} has no fast tokenizer; add its tokenizer.json")
    if model.tokenizer.cls_token_id is None or model.tokenizer.sep_token_id is None:
        raise InputError(
            f"the tokenizer of {settings.encoder} names no [CLS] and [SEP], so the sentences of a "
            "pair would run into each other; give its tokenizer a cls_token and a sep_token"
        )
    if settings.max_length > model.cfg.n_ctx:
        raise InputError(
            f"--max-length is {settings.max_length}, but {settings.encoder} reads at most "
            f"{model.cfg.n_ctx} tokens; give {model.cfg.n_ctx} or fewer"
        )
    return model.tokenizer


def checkpoint_steps(settings: Settings) -> list[int]:
    """Training steps of the trajectory, ascending; the last is the end of training."""
    steps = {max(1, round(share * settings.train_steps)) for share in settings.checkpoints}
    return sorted(steps | {settings.train_steps})


def model_seed(settings: Settings, index: int) -> int:
    """Seed of the index-th model."""
    return 1_000 * settings.seed + index


def model_folder(run: Run, index: int, step: int) -> Path:
    """Where a point of a model's trajectory is kept."""
    return run.path(f"models/model-{index}/step-{step:06d}")


def train_model(settings: Settings, data: StudyData, run: Run, index: int) -> dict:
    """Train one model and save its trajectory; resumes mid-way; a unit of the run."""
    seed = model_seed(settings, index)
    model = fresh_model(settings, data, seed)
    fit = FitSettings(
        steps=settings.train_steps, batch_size=settings.train_batch, lr=settings.train_lr,
        warmup=settings.train_warmup,
    )
    steps = checkpoint_steps(settings)
    store = run.checkpoint(f"train-{index}")
    with progress(settings.train_steps, f"train model {index}") as bar:

        def on_checkpoint(step: int, model: Classifier) -> None:
            save_model(model, model_folder(run, index, step))

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % 10 == 0:
                run.log(f"train-{index}", step, loss=loss)

        fit_classifier(
            model, data.train, fit, seed=seed, trajectory=steps, on_step=on_step, store=store,
            on_checkpoint=on_checkpoint,
        )
    return {"seed": seed, "steps": steps}


def open_model(settings: Settings, run: Run, index: int, step: int) -> Classifier:
    """A saved point of a model's trajectory, frozen and in evaluation mode."""
    model = load_model(model_folder(run, index, step), device=settings.device)
    assert isinstance(model, HookedClassifier | HookedDecoderClassifier)
    return model.requires_grad_(False).eval()


def precision(settings: Settings) -> torch.autocast:
    """Matrix products in bfloat16 inside the context, when the settings say so."""
    kind = torch.device(settings.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16")
