"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

from pathlib import Path

import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import KINDS
from mechprobe.locate.masks import check_sparsity
from mechprobe.models.load import packaged_minilm
from mechprobe.studies import option
from mechprobe.studies.heuristic_core.settings import PAIRS, Settings

AT_LEAST_ONE = (
    "n_models", "train_steps", "train_batch", "mask_accumulation", "n_random_sets", "n_null",
    "n_layers", "n_heads", "d_model", "d_mlp",
)
AT_LEAST = {
    "n_train": (2, "a mask needs 2 examples or more"),
    "n_dev": (2, "a batch to score needs 2 examples or more"),
    "n_ood": (2, "a sub-case needs 2 examples or more, to select on one half and report the other"),
    "max_length": (5, "a pair of words with its 3 special tokens needs 5 or more"),
    "n_masks": (2, "a spread needs 2 subnetworks or more"),
    "mask_batch": (2, "a mask step needs 2 examples or more"),
    "mask_examples": (2, "a mask needs 2 examples or more"),
}
NOT_NEGATIVE = ("seed", "threads", "n_masks_others", "mask_steps", "n_eval")
ABOVE_ZERO = ("train_lr", "mask_lr", "mask_lambda_lr", "equal_token_init")
SHARES = ("overlap_predicts", "hans_train_share", "train_warmup")


def check(settings: Settings) -> None:
    """Raise InputError for the first setting that cannot work, saying what to give instead."""
    if settings.pair not in PAIRS:
        raise InputError(f"unknown pair {settings.pair!r}; one of {', '.join(PAIRS)}")
    check_numbers(settings)
    if settings.arch not in ("encoder", "decoder"):
        raise InputError(f"unknown --arch {settings.arch!r}; expected 'encoder' or 'decoder'")
    if settings.arch == "decoder" and settings.encoder is not None:
        raise InputError(
            f"--arch decoder builds a model from scratch, but --encoder is {settings.encoder}; "
            "give one of them (a pretrained decoder goes to --encoder as well)"
        )
    if not settings.sparsities:
        raise InputError("no sparsities given; give at least one, such as --sparsities 0.5")
    for name in ("sparsities", "checkpoint_sparsities"):
        given = getattr(settings, name)
        for sparsity in given:
            check_sparsity(sparsity)
        if len(set(given)) < len(given):
            raise InputError(f"{option(name)} names a sparsity twice: {given}; give each once")
    if settings.checkpoint_sparsities and settings.n_masks_checkpoint < 1:
        raise InputError(
            f"--n-masks-checkpoint is {settings.n_masks_checkpoint}; give 1 or more, or no "
            "--checkpoint-sparsities"
        )
    for share in settings.checkpoints:
        if not 0 < share <= 1:
            raise InputError(f"checkpoint {share} is not a share of training in (0, 1]")
    if settings.rule not in ("expected", "published"):
        raise InputError(f"unknown rule {settings.rule!r}; expected 'expected' or 'published'")
    if settings.baseline not in KINDS or settings.baseline == "paired":
        raise InputError(
            f"baseline {settings.baseline!r} cannot be used here; one of zero, mean, "
            "mean_position, resample"
        )
    if settings.precision not in ("float32", "bfloat16"):
        raise InputError(f"precision {settings.precision!r}; expected float32 or bfloat16")
    if settings.encoder is None and settings.d_model % settings.n_heads:
        raise InputError(
            f"d_model {settings.d_model} is not a multiple of n_heads {settings.n_heads}"
        )
    check_places(settings)


def check_numbers(settings: Settings) -> None:
    """Raise InputError for the first number out of its range."""
    for name in AT_LEAST_ONE:
        if getattr(settings, name) < 1:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 1 or more")
    for name, (least, why) in AT_LEAST.items():
        if getattr(settings, name) < least:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; {why}")
    for name in NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 0 or more")
    for name in ABOVE_ZERO:
        if not getattr(settings, name) > 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give more than 0")
    for name in SHARES:
        if not 0 <= getattr(settings, name) <= 1:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give a share, 0 to 1")


def check_places(settings: Settings) -> None:
    """The encoder's folder, the data folder and the device, as far as they can be seen now."""
    if settings.encoder == "minilm":
        packaged_minilm()
    elif settings.encoder is not None and settings.encoder.startswith((".", "/", "~")):
        folder = Path(settings.encoder).expanduser()
        if not any((folder / name).is_file() for name in ("config.json", "mechprobe.json")):
            raise InputError(
                f"no model in {settings.encoder} (no config.json); give a folder that "
                "save_pretrained or mechprobe wrote, or a hub name"
            )
    if settings.data_dir is not None and not Path(settings.data_dir).expanduser().is_dir():
        raise InputError(
            f"no data folder {settings.data_dir}; give --data-dir an existing folder, or leave it "
            "out to download from the hub"
        )
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); "
            "give --device cpu, or a GPU that torch sees"
        ) from None
