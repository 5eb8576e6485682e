"""Time to subnetworks of equal quality: the published search beside ours, on one trained model.

The published search (Bhaskar et al. 2024, section 3) runs one subnetwork at a time, with the full
model and one masked model in every micro-batch, 4 micro-batches a step. What its masks are worth is
known from complete runs of its rule and schedule, which the engine does with the same numbers; what
a run costs is its number of steps times the measured seconds of a step as published. Quality is the
KL from the full model of the binary subnetworks on held-out examples.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.hard_concrete import sample, uniform_noise
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    batch_at,
    full_model_logits,
    published_settings,
    scaled,
    train_masks,
)
from mechprobe.locate.search import binarise, score_members
from mechprobe.models import HookedClassifier, load_model, site_grid
from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.files import atomic_write
from mechprobe.studies.heuristic_core.data import open_task, prepare
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.mask_speed.rivals import Published
from mechprobe.studies.mask_speed.shapes import Case, Shape

Row = dict[str, Any]


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


def learn(
    laptop: Laptop, settings: MaskSettings, seeds: Sequence[int], sparsity: float,
    store: Checkpoint | None = None,
) -> Row:
    """Masks of some seeds trained together: their quality, and seconds of the search."""
    members = [Member(seed, sparsity) for seed in seeds]
    began = clock()
    log_alpha = train_masks(
        laptop.model, laptop.batches, members, laptop.grid, laptop.baseline, settings,
        full_logits=laptop.full, store=store,
    )
    seconds = clock() - began
    scores = laptop.score(log_alpha, members, settings)
    return {
        "steps": settings.steps, "members": len(members), "seconds": seconds,
        "kl": [s["kl"] for s in scores], "accuracy": [s["accuracy"] for s in scores],
    }


def published_step(laptop: Laptop, sparsity: float, n: int = 24) -> list[float]:
    """Seconds of each of n micro-batches of one subnetwork as published: both models, autograd."""
    cfg, settings = laptop.model.cfg, published_settings(sparsity)
    found = []
    for draw in range(n + 2):
        batch = laptop.batches[batch_at(draw, len(laptop.batches), 0)]
        case = Case.__new__(Case)
        case.shape = Shape("laptop", cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.n_ctx, len(batch))
        case.model, case.batch, case.grid = laptop.model, batch, laptop.grid
        case.baseline = laptop.baseline
        step = Published(case)
        alpha = torch.full((len(laptop.grid),), settings.init, requires_grad=True)
        optimiser = torch.optim.AdamW([alpha], lr=settings.lr)
        began = clock()
        gates = sample(alpha, uniform_noise(0, draw, len(laptop.grid)))
        _, slope = step(gates.detach())
        torch.autograd.backward([gates, 1 - gates.mean()], [slope, torch.tensor(1.0)])
        optimiser.step()
        if draw > 1:
            found.append(clock() - began)
    return found


def quality(
    run: Path, out: Path, sparsity: float, budgets: Sequence[int], n_published: int = 3,
    n_ours: int = 12,
) -> None:
    """Write ours, the published runs and the seconds of a published step, each when it is done."""
    laptop = Laptop(run)
    done: dict[str, Any] = {"sparsity": sparsity, "sites": len(laptop.grid)}

    def keep() -> None:
        atomic_write(out / "search.json", json.dumps(done, indent=1).encode())

    done["published_step"] = published_step(laptop, sparsity)
    done["ours"] = []
    for steps in budgets:
        own = scaled(MaskSettings(), steps)
        done["ours"].append(learn(laptop, own, range(n_ours), sparsity))
        keep()
    store = Checkpoint(out / "published.safetensors")
    settings = published_settings(sparsity)
    done["published"] = learn(laptop, settings, range(n_published), sparsity, store)
    done["published"]["accumulation"] = settings.accumulation
    keep()


def summary(found: dict[str, Any]) -> Row:
    """Seconds to 12 subnetworks, ours at the fewest steps with no higher mean KL."""
    published = found["published"]
    step = float(np.median(found["published_step"])) * published["accumulation"]
    theirs = 12 * published["steps"] * step
    kl = float(np.mean(published["kl"]))
    fit = [row for row in found["ours"] if np.mean(row["kl"]) <= kl]
    best = min(fit, key=lambda row: row["seconds"]) if fit else None
    return {"published_seconds": theirs, "published_kl": kl, "ours": best,
            "ratio": theirs / best["seconds"] if best else None}  # fmt: skip
