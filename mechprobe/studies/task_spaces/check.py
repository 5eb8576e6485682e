"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

from pathlib import Path

import torch

from mechprobe.errors import InputError
from mechprobe.stats.ordination import MAPS
from mechprobe.studies import option
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.pair_tokens import UNKNOWN
from mechprobe.training.ftgd import TuneSettings
from mechprobe.training.pretrain_settings import SIZES, VOCABULARIES

AT_LEAST_ONE = (
    "n_pairs", "n_text", "n_vocabulary", "n_ctx", "train_steps", "train_batch", "n_checkpoints",
    "n_spaces", "steps", "batch_tokens", "n_null", "n_boot",
)
NOT_NEGATIVE = ("seed", "threads", "n_tune", "n_eval", "regime_tasks", "file_limit", "batch")
SHARES = ("first_checkpoint", "top_overlap", "top")
JUDGED = ("log_odds", "raw", "headroom")


def check(settings: Settings) -> None:
    """Raise InputError for the first setting that cannot work, saying what to give instead."""
    known = {
        "pairs": ("own", "blimp"), "scale": JUDGED, "vocabulary": VOCABULARIES,
        "precision": ("float32", "bfloat16"), "map": MAPS,
        "unknown": UNKNOWN,
    }
    for name, values in known.items():
        if getattr(settings, name) not in values:
            raise InputError(
                f"unknown {option(name)} {getattr(settings, name)!r}; one of {', '.join(values)}"
            )
    for name in AT_LEAST_ONE:
        if getattr(settings, name) < 1:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 1 or more")
    for name in NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 0 or more")
    for name in SHARES:
        if not 0 < getattr(settings, name) <= 1:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give a share, above 0")
    if not settings.train_lr > 0 or not settings.budget > 1:
        raise InputError(
            f"--train-lr is {settings.train_lr}, --budget {settings.budget}; give more than 0, and "
            "a ratio above 1"
        )
    if not settings.gradient_gib > 0:
        raise InputError(f"--gradient-gib is {settings.gradient_gib}; give more than 0")
    if settings.regime_model and not settings.models and (
        settings.regime_model not in settings.sizes
    ):
        raise InputError(f"--regime-model {settings.regime_model} is none of the sizes; give one "
                         f"of {', '.join(settings.sizes)}, or none for the last")
    if settings.regime_tasks and not settings.regime_lrs:
        raise InputError("no --regime-lrs; give learning rates, or --regime-tasks 0")
    for lr in settings.regime_lrs:
        tuning(settings, lr=lr)
    tuning(settings)
    check_models(settings)
    check_places(settings)


def tuning(settings: Settings, **changes: object) -> TuneSettings:
    """The settings of tuning, with changes; raises InputError where they cannot work."""
    values = {
        "objective": settings.objective, "hinge": settings.hinge, "top": settings.top,
        "remask": settings.remask, "optimiser": settings.optimiser, "lr": settings.lr,
        "steps": settings.steps, "batch": settings.batch, "per_token": settings.per_token,
        "exclude": settings.exclude, "stop": settings.stop, **changes,
    }
    return TuneSettings(**values)  # pyright: ignore[reportArgumentType]


def check_models(settings: Settings) -> None:
    """Raise InputError for models that cannot be there."""
    if settings.models:
        for name in settings.models:
            if name.startswith((".", "/", "~")) and not Path(name).expanduser().exists():
                raise InputError(f"no model {name}; give a folder of `mechprobe pretrain`, a model "
                                 "folder, a llama2.c checkpoint or a hub name")
        return
    if not settings.sizes:
        raise InputError("no models; give --sizes to train, or --models")
    for size in settings.sizes:
        if size not in SIZES:
            raise InputError(f"unknown size {size!r}; one of {', '.join(SIZES)}")
    if settings.pairs == "blimp" and not settings.text and settings.data_dir is None:
        raise InputError(
            "no text to train on; give --text, or --data-dir (MECHPROBE_DATA) with a folder text, "
            "or --models that are trained already"
        )


def check_places(settings: Settings) -> None:
    """The data folder and the device, as far as they can be seen now."""
    if settings.data_dir is not None and not Path(settings.data_dir).expanduser().is_dir():
        raise InputError(f"no data folder {settings.data_dir}; give --data-dir an existing folder")
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); "
            "give --device cpu, or a GPU that torch sees"
        ) from None
