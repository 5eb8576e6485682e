"""A trained classifier of a recorded run, on which searches are compared."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.masks import MaskSettings, Member, full_model_logits
from mechprobe.locate.search import binarise, score_members
from mechprobe.models import HookedClassifier, load_model, site_grid
from mechprobe.sites import Site
from mechprobe.studies.heuristic_core.data import open_task, prepare
from mechprobe.studies.heuristic_core.settings import Settings


class Laptop:
    """A trained classifier of a heuristic-core run, its search data and its held-out data."""

    def __init__(self, run: Path) -> None:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))["settings"]
        names = {field.name for field in fields(Settings)}
        values = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names
        }
        settings = Settings(**cast(dict[str, Any], values))
        last = sorted((run / "models" / "model-0").iterdir())[-1]
        model = load_model(last)
        assert isinstance(model, HookedClassifier)
        self.model = model.requires_grad_(False)
        tokenizer: Any = model.tokenizer
        self.data = prepare(settings, open_task(settings), tokenizer)
        self.batches = list(self.data.mask_batches)
        self.grid = site_grid(self.model)
        self.baseline = mean_baseline(self.model, self.batches, self.grid)
        self.full = full_model_logits(self.model, self.batches)

    @property
    def stands(self) -> Mapping[Site, Tensor]:
        """What closed gates put in place; the mean is the same in every batch."""
        return self.baseline.values(self.model, self.batches[0], self.grid)

    def score(self, log_alpha: Tensor, members: Sequence[Member], settings: MaskSettings
              ) -> list[dict[str, float]]:
        """KL and accuracy of each binary subnetwork on held-out in-domain examples."""
        found = [
            binarise(row, member, self.grid, settings, "mean")
            for row, member in zip(log_alpha, members, strict=True)
        ]
        dev = self.data.dev
        return score_members(self.model, dev.batches, found, self.baseline, dev.accept)


def clock() -> float:
    """CPU seconds of the process with one thread, else seconds by the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()
