"""A small model and data of the study, opened from a real run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.gates.reference import gated_logits
from mechprobe.locate.subnetworks import Subnetwork
from mechprobe.models.edits import forward
from mechprobe.models.save import save_model
from mechprobe.runs import Run
from mechprobe.sites import SiteGrid
from mechprobe.studies.heuristic_core.data import Split, open_task, prepare
from mechprobe.studies.heuristic_core.models import fresh_model, model_folder
from mechprobe.studies.heuristic_core.search import OpenModel
from mechprobe.studies.heuristic_core.settings import PRESETS
from mechprobe.tasks.examples import PairExamples

LABELS = ("entailment", "non-entailment")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="session")
def settings():
    return replace(
        PRESETS["tiny"], n_train=60, n_dev=40, n_ood=10, mask_examples=40, n_layers=2, n_heads=2,
        d_model=16, d_mlp=12, train_steps=1, checkpoints=(1.0,), n_null=200,
    )  # fmt: skip


@pytest.fixture(scope="session")
def opened(settings, tmp_path_factory) -> Iterator[OpenModel]:
    """A model with random weights large enough, and logits near a tie, so that heads decide."""
    data = prepare(settings, open_task(settings), None)
    model = fresh_model(settings, data, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        logits = torch.cat([forward(model, batch) for batch in data.ood.batches])
        model.classifier.bias -= logits.median(0).values
    with Run.open(tmp_path_factory.mktemp("run"), {"study": "heuristic-core"}) as run:
        save_model(model, model_folder(run, 0, 1))
        yield OpenModel(settings, data, run, 0, 1)


@pytest.fixture(scope="session")
def accuracies():
    """Accuracy of one gate vector by sub-case, counted example by example."""

    def count(opened: OpenModel, gates: np.ndarray, split: Split) -> dict[str, float]:
        right: dict[str, list[bool]] = {}
        row = torch.from_numpy(gates).float()[None]
        for batch in split.batches:
            with torch.no_grad():
                logits = gated_logits(opened.model, batch, row, opened.grid, opened.baseline)[0]
            for index, guess in zip(batch.index.tolist(), logits.argmax(-1).tolist(), strict=True):
                group = split.examples.group[index]
                right.setdefault(group, []).append(bool(split.accept[index, guess]))
        return {group: float(np.mean(values)) for group, values in right.items()}

    return count


@pytest.fixture(scope="session")
def make_split():
    """A split without batches, for functions of outcomes: one group name an example."""

    def make(groups: str) -> Split:
        names = tuple(groups.split())
        examples = PairExamples(
            first=names, second=names, label=np.zeros(len(names), dtype=int), labels=LABELS,
            group=names, name="made",
        )  # fmt: skip
        return Split(examples, (), torch.ones(len(names), 2, dtype=torch.bool))

    return make


@pytest.fixture(scope="session")
def make_net():
    """A subnetwork that keeps the sites named."""

    def make(
        kept: str, grid: SiteGrid, seed: int = 0, target: float = 0.5
    ) -> Subnetwork:
        binary = grid.mask(kept=kept.split())
        return Subnetwork(
            soft=binary.astype(np.float32), binary=binary, log_alpha=binary.astype(np.float32),
            sites=grid, sparsity_target=target, sparsity=float(1 - binary.mean()), seed=seed,
        )  # fmt: skip

    return make
