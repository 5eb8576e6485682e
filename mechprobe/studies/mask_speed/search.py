"""Time to subnetworks of equal quality: the published search beside ours, on one trained model.

The published search (Bhaskar et al. 2024, section 3) runs one subnetwork at a time, with the full
model and one masked model in every micro-batch, 4 micro-batches a step. What its masks are worth is
known from complete runs of its rule and schedule, which the engine does with the same numbers; what
a run costs is its number of steps times the measured seconds of a step as published. Quality is the
KL from the full model of the binary subnetworks on held-out examples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechprobe.locate.hard_concrete import sample, uniform_noise
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    batch_at,
    published_settings,
    scaled,
    train_masks,
)
from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.files import atomic_write
from mechprobe.studies.mask_speed.laptop import Laptop, clock
from mechprobe.studies.mask_speed.rivals import Published

Row = dict[str, Any]


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
    settings = published_settings(sparsity)
    step = Published(laptop.model, laptop.grid, laptop.stands)
    found = []
    for draw in range(n + 2):
        batch = laptop.batches[batch_at(draw, len(laptop.batches), 0)]
        alpha = torch.full((len(laptop.grid),), settings.init, requires_grad=True)
        optimiser = torch.optim.AdamW([alpha], lr=settings.lr)
        began = clock()
        gates = sample(alpha, uniform_noise(0, draw, len(laptop.grid)))
        _, slope = step(gates.detach(), batch)
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
