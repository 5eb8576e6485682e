"""The smallest runs of the studies that still pass every unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mechprobe.studies import STUDIES

MICRO: dict[str, dict[str, Any]] = {
    "heuristic-core": {
        "n_train": 60, "n_dev": 30, "n_ood": 6, "mask_examples": 40, "n_layers": 2, "n_heads": 2,
        "d_model": 16, "d_mlp": 12, "train_steps": 12, "checkpoints": (0.5, 1.0), "n_masks": 2,
        "mask_steps": 4, "n_eval": 4, "n_random_sets": 3, "n_null": 40,
    },
    "abstraction": {
        "n_train": 60, "n_test": 8, "n_ood": 8, "auxiliary_steps": 8, "control_steps": 4,
        "finetune_steps": 4, "point_steps": 2, "d_model": 16, "n_heads": 2, "n_heads_eval": 8,
        "n_random": 3, "n_boot": 40, "mask_steps": 3, "mask_seeds": 2,
    },
    "topology": {
        "n_train": 30, "n_dev": 12, "n_test": 14, "d_model": 16, "d_mlp": 32, "n_pretrain": 60,
        "pretrain_steps": 12, "probe_epochs": 1, "distance_rank": 4, "n_head_sentences": 6,
        "n_turns": 1, "finetune_seeds": 1, "n_finetune": 40, "finetune_steps": 3, "n_boot": 40,
    },
    "hierarchy": {
        "q": 3, "depth": 2, "d_model": 16, "d_mlp": 16, "max_masks": 2,
        "models": ("root-k0", "masked-k0-heads4"), "root_steps": 12, "masked_steps": 12,
        "n_checkpoints": 3, "n_eval": 40, "n_attention": 30, "n_null": 40, "n_probe": 20,
        "probe_epochs": 1, "n_locate": 24, "mask_seeds": 2, "mask_steps": 2,
    },
    "task-space": {
        "n_pairs": 40, "n_text": 2_500, "train_steps": 8, "n_checkpoints": 2, "steps": 1,
        "batch": 8, "regime_tasks": 1, "regime_lrs": (0.01,), "n_null": 40, "n_boot": 30,
        "paradigms": ("agreement_copula", "agreement_verb", "npi_ever", "npi_any"),
    },
}


@pytest.fixture(scope="session")
def micro() -> Callable[[str], Any]:
    """The smallest settings of a study, by its name."""
    return lambda name: replace(STUDIES[name].presets["tiny"], threads=1, **MICRO[name])


@pytest.fixture(scope="session")
def micro_order(micro) -> Callable[..., str]:
    """The same as JSON for another process, with changes."""
    return lambda name, **changes: json.dumps(asdict(replace(micro(name), **changes)))


@pytest.fixture(scope="session")
def tables() -> Callable[[Path], dict[str, bytes]]:
    """The content of every table and metric line of a run."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = [*sorted((folder / "tables").glob("*.csv")), *folder.glob("metrics.jsonl")]
        return {path.name: path.read_bytes() for path in paths}

    return read
