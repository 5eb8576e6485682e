"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

import torch

from mechprobe.errors import InputError
from mechprobe.studies import option
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import grammar_of, read_specs

AT_LEAST = {
    "depth": 1, "q": 2, "arity": 2, "n_heads": 1, "d_model": 1, "d_mlp": 1, "batch": 1,
    "max_masks": 1, "root_steps": 1, "root_filtered_steps": 1, "masked_steps": 1,
    "masked_filtered_steps": 1, "n_checkpoints": 2, "n_eval": 20, "n_attention": 10, "n_null": 20,
    "n_probe": 20, "probe_epochs": 1, "n_locate": 20, "mask_seeds": 1, "mask_steps": 1,
    "seed": 0, "threads": 0, "grammar_seed": 0, "sigma": 0, "n_layers": 0, "warmup": 0,
    "n_train": 0, "variant_steps": 0,
}
MOST_LEAVES = 4_096


def check(settings: Settings) -> None:
    """Raise InputError for the first setting that cannot work, saying what to give instead."""
    for name, least in AT_LEAST.items():
        if getattr(settings, name) < least:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give {least} or more")
    if not settings.lr > 0:
        raise InputError(f"--lr is {settings.lr}; give more than 0")
    if settings.norm not in ("pre", "post"):
        raise InputError(f"--norm {settings.norm!r}; expected 'pre' or 'post'")
    if settings.positions not in ("learned", "sinusoidal"):
        raise InputError(f"--positions {settings.positions!r}; expected 'learned' or 'sinusoidal'")
    for spec in read_specs(settings):
        grammar = grammar_of(settings, spec)
        if grammar.n_leaves > MOST_LEAVES:
            raise InputError(
                f"model {spec.name!r}: {grammar.n_leaves} leaves; attention over more than "
                f"{MOST_LEAVES} does not fit, give a smaller --depth or --arity"
            )
        if settings.max_masks >= grammar.n_leaves and spec.kind == "masked":
            raise InputError(
                f"--max-masks is {settings.max_masks}, but model {spec.name!r} reads "
                f"{grammar.n_leaves} leaves; give fewer"
            )
        if settings.d_model % spec.n_heads:
            raise InputError(
                f"--d-model {settings.d_model} is not a multiple of the {spec.n_heads} heads of "
                f"model {spec.name!r}"
            )
    if settings.n_train and settings.n_train < settings.batch:
        raise InputError(
            f"--n-train is {settings.n_train}, less than --batch {settings.batch}; give more, or 0"
        )
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); "
            "give --device cpu, or a GPU that torch sees"
        ) from None
