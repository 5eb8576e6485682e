"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

from pathlib import Path

import torch

from mechprobe.errors import InputError
from mechprobe.models.load import packaged_minilm
from mechprobe.models.streams import PARTS, Stream
from mechprobe.studies import option
from mechprobe.studies.topology.settings import COLA, EWT, OWN, PUD, Settings
from mechprobe.tasks.acceptability import load_cola
from mechprobe.tasks.treebank_sources import TREEBANKS, find_treebank

AT_LEAST_ONE = (
    "n_train", "n_second", "n_layers", "n_heads", "d_model", "d_mlp", "n_pretrain",
    "pretrain_steps", "pretrain_batch", "n_untrained", "distance_rank", "probe_batch",
    "probe_epochs", "n_head_sentences", "n_turns", "n_finetune", "finetune_steps",
    "finetune_batch", "n_boot",
)
AT_LEAST_TWO = ("n_dev", "n_test")
NOT_NEGATIVE = ("seed", "threads", "topology_rank", "finetune_seeds", "finetune_weight")
ABOVE_ZERO = ("pretrain_lr", "probe_lr", "finetune_lr")


def check(settings: Settings) -> None:
    """Raise InputError for the first setting that cannot work, saying what to give instead."""
    for names, least in ((AT_LEAST_ONE, 1), (AT_LEAST_TWO, 2), (NOT_NEGATIVE, 0)):
        for name in names:
            if getattr(settings, name) < least:
                raise InputError(f"{option(name)} is {getattr(settings, name)}; give {least} or "
                                 "more")
    for name in ABOVE_ZERO:
        if not getattr(settings, name) > 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give more than 0")
    if settings.n_heads_tested < -1:
        raise InputError(
            f"--n-heads-tested is {settings.n_heads_tested}; give a number, 0 for all or -1 for "
            "none"
        )
    ranks = settings.topology_ranks
    if any(r < 1 or r == settings.topology_rank for r in ranks) or len(set(ranks)) < len(ranks):
        raise InputError(
            f"--topology-ranks {' '.join(map(str, ranks))}: give different numbers from 1 on, none "
            f"of them --topology-rank {settings.topology_rank}"
        )
    if settings.encoder is None and settings.d_model % settings.n_heads:
        raise InputError(
            f"d_model {settings.d_model} is not a multiple of n_heads {settings.n_heads}"
        )
    _check_streams(settings)
    _check_data(settings)
    _check_encoder(settings)
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); give "
            "--device cpu, or a GPU that torch sees"
        ) from None


def _check_streams(settings: Settings) -> None:
    """Parts that exist, the residual stream among them; where the regulariser acts is probed."""
    if unknown := [part for part in settings.parts if part not in PARTS]:
        raise InputError(f"{unknown[0]!r} is no part of a model; expected {', '.join(PARTS)}")
    if "resid" not in settings.parts or len(set(settings.parts)) < len(settings.parts):
        raise InputError(
            f"--parts {' '.join(settings.parts)}: name resid and others, each once; heads and "
            "claims are judged on the residual stream"
        )
    if settings.finetune not in (OWN, COLA, "none"):
        raise InputError(f"unknown --finetune {settings.finetune!r}; expected own, cola or none")
    if settings.finetune_probe not in ("frozen", "trained"):
        raise InputError(
            f"--finetune-probe {settings.finetune_probe!r}; expected frozen or trained"
        )
    if settings.finetune == "none":
        return
    if not settings.finetune_streams or not settings.finetune_seeds:
        raise InputError(
            "fine-tuning needs a stream and a seed; give --finetune-streams resid.2 and "
            "--finetune-seeds 3, or --finetune none"
        )
    for name in settings.finetune_streams:
        stream = Stream.parse(name)
        if stream.part not in settings.parts:
            raise InputError(
                f"the regulariser is to act at {name}, but {stream.part} is not probed; add it to "
                "--parts"
            )
        last = settings.n_layers - (stream.part != "resid")
        if settings.encoder is None and stream.layer > last:
            raise InputError(f"the regulariser is to act at {name}, but the last is "
                             f"{stream.part}.{last}")


def _check_data(settings: Settings) -> None:
    folder = settings.data_dir
    if folder is not None and not Path(folder).expanduser().is_dir():
        raise InputError(
            f"no data folder {folder}; give --data-dir an existing folder, or leave it out to "
            "download from the hub"
        )
    if settings.second == OWN:
        raise InputError("--second is own; give pud, ewt or the path of a .conllu file, or none")
    for name in (settings.treebank, settings.second):
        if name in (None, OWN):
            continue
        if name in TREEBANKS:
            parts = ("train", "dev", "test") if name == settings.treebank else ("test",)
            if name == PUD and name == settings.treebank:
                raise InputError("pud has test sentences only; give it as --second, or its file's "
                                 "path as --treebank")
            for part in parts:
                if folder is not None:
                    find_treebank(name, part, folder)
        elif not Path(name).expanduser().is_file():
            raise InputError(
                f"no treebank {name!r}; give own, {EWT}, {PUD} (as --second) or the path of a "
                ".conllu file"
            )
    if settings.finetune == COLA and folder is not None:
        load_cola("dev", data_dir=folder)


def _check_encoder(settings: Settings) -> None:
    if settings.encoder == "minilm":
        packaged_minilm()
    elif settings.encoder is not None and settings.encoder.startswith((".", "/", "~")):
        folder = Path(settings.encoder).expanduser()
        if not any((folder / name).is_file() for name in ("config.json", "mechprobe.json")):
            raise InputError(
                f"no model in {settings.encoder} (no config.json); give a folder that "
                "save_pretrained or mechprobe wrote, or a hub name"
            )
