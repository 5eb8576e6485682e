"""The study's smallest run, made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mechprobe.studies.topology.settings import PRESETS
from mechprobe.studies.topology.study import run

MICRO = replace(
    PRESETS["tiny"], n_train=30, n_dev=12, n_test=14, d_model=16, d_mlp=32, n_pretrain=60,
    pretrain_steps=6, n_untrained=2, probe_epochs=1, distance_rank=4, n_head_sentences=6,
    n_turns=1, n_finetune=40, finetune_steps=3, n_boot=50, threads=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("topology") / "run"
    run(MICRO, folder, command="mechprobe run topology --preset tiny")
    return folder
