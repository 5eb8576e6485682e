"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

import torch

from mechprobe.errors import InputError
from mechprobe.studies import option
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of, read_specs

AT_LEAST = {
    "depth": 1, "q": 2, "arity": 2, "n_heads": 1, "d_model": 1, "d_mlp": 1, "batch": 1,
    "max_masks": 1, "root_steps": 1, "root_filtered_steps": 1, "masked_steps": 1,
    "masked_filtered_steps": 1, "n_checkpoints": 2, "n_eval": 20, "n_attention": 10, "n_null": 20,
    "n_probe": 20, "probe_epochs": 1, "n_locate": 20, "mask_seeds": 1, "mask_steps": 1,
    "seed": 0, "threads": 0, "grammar_seed": 0, "sigma": 0, "n_layers": 0, "warmup": 0,
    "n_train": 0, "variant_steps": 0,
}
MOST_LEAVES = 4_096
MOST_RULES = 2**26
"""Entries of a table of rules: 512 MiB."""
MOST_ATTENTION = 8 * 2**30
"""Bytes of the attention weights of a model that are looked at together."""
BYTES_A_WEIGHT = 20
"""As read, in float64, and weighted by queries."""


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
        check_model(settings, spec)
    if settings.n_train and settings.n_train < settings.batch:
        raise InputError(
            f"--n-train is {settings.n_train}, less than --batch {settings.batch}; give more, or 0"
        )
    check_device(settings.device)


def check_model(settings: Settings, spec: Spec) -> None:
    """Raise InputError for a model whose grammar, masks, heads or attention cannot work."""
    if settings.rules is None and (rules := spec.q ** (settings.arity + 1)) > MOST_RULES:
        raise InputError(
            f"model {spec.name!r}: q={spec.q} and --arity {settings.arity} make a table of "
            f"{rules:.2g} rules; give a smaller --q or --arity"
        )
    leaves = grammar_of(settings, spec).n_leaves
    if leaves > MOST_LEAVES:
        raise InputError(
            f"model {spec.name!r}: {leaves} leaves; attention over more than {MOST_LEAVES} does "
            "not fit, give a smaller --depth or --arity"
        )
    if settings.max_masks >= leaves and spec.kind == "masked":
        raise InputError(
            f"--max-masks is {settings.max_masks}, but model {spec.name!r} reads {leaves} leaves; "
            "give fewer"
        )
    if settings.d_model % spec.n_heads:
        raise InputError(
            f"--d-model {settings.d_model} is not a multiple of the {spec.n_heads} heads of model "
            f"{spec.name!r}"
        )
    a_sequence = BYTES_A_WEIGHT * spec.n_heads * spec.n_layers * leaves**2
    if settings.n_attention * a_sequence > MOST_ATTENTION:
        raise InputError(
            f"--n-attention {settings.n_attention}: that attention of model {spec.name!r} takes "
            f"{settings.n_attention * a_sequence / 2**30:.0f} GiB, {MOST_ATTENTION // a_sequence} "
            "sequences fit; give fewer, or a smaller --depth"
        )


def check_device(device: str) -> None:
    """Raise InputError for a device that torch cannot use, or that has no float64."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); give --device cpu, "
            "or a GPU that torch sees"
        ) from None
