"""Time to subnetworks of equal quality: the published search beside ours, on one trained model.

The published search (Bhaskar et al. 2024, section 3) runs one subnetwork at a time; complete runs
of it are timed, and 12 cost 12 times their mean. Ours trains 12 together. Quality is the KL from
the full model of the binary subnetworks on held-out examples, all with the same number of closed
gates, paired over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    batch_at,
    published_settings,
    train_masks,
)
from mechprobe.locate.search import rule_settings
from mechprobe.runs.files import atomic_write, read_json, to_json
from mechprobe.stats import jaccard_matrix
from mechprobe.studies.mask_speed.laptop import Laptop, clock
from mechprobe.studies.mask_speed.published import published_gradients, published_run

Row = dict[str, Any]
N_OURS = 12
FILE = "masks-search.json"


def searches(sparsity: float) -> dict[str, MaskSettings]:
    """What is measured, by name: the rule used by default first, and shorter and older ones."""
    return {
        f"{rule}, {steps} steps": rule_settings(rule, sparsity, steps)
        for rule, steps in (
            ("held", 250), ("held", 100), ("held", 50), ("expected", 500), ("expected", 100),
        )
    }  # fmt: skip


def learn(
    laptop: Laptop, settings: MaskSettings, seeds: Sequence[int], sparsity: float
) -> Row:
    """Masks of some seeds trained together: their quality, and seconds of the search."""
    members = [Member(seed, sparsity) for seed in seeds]
    began = clock()
    log_alpha = train_masks(
        laptop.model, laptop.batches, members, laptop.grid, laptop.baseline, settings,
    )
    seconds = clock() - began
    scores = laptop.score(log_alpha, members, settings)
    kept = hard_concrete.close_lowest(log_alpha, sparsity)
    pairs = np.triu_indices(len(members), 1)
    return {
        "steps": settings.steps, "members": len(members), "seconds": seconds,
        "seeds": list(seeds), "kl": [s["kl"] for s in scores],
        "accuracy": [s["accuracy"] for s in scores],
        "closed": (~kept).sum(-1).tolist(),
        "alike": float(jaccard_matrix(kept.numpy())[pairs].mean()) if len(members) > 1 else 1.0,
    }


def published_step(laptop: Laptop, sparsity: float, n: int = 24) -> list[float]:
    """Seconds of each of n micro-batches of one subnetwork as published: both models, autograd."""
    settings, n_sites = published_settings(sparsity), len(laptop.grid)
    gradients = published_gradients(laptop)
    alpha = torch.full((n_sites,), settings.init, requires_grad=True)
    optimiser = torch.optim.AdamW([alpha], lr=settings.lr)
    found = []
    for draw in range(n + 2):
        batch = laptop.batches[batch_at(draw, len(laptop.batches), 0)]
        began = clock()
        gates = hard_concrete.sample(alpha, hard_concrete.uniform_noise(0, draw, n_sites))
        _, slope = gradients(batch, gates.detach()[None], None)
        torch.autograd.backward([gates, 1 - gates.mean()], [slope[0], torch.tensor(1.0)])
        optimiser.step()
        optimiser.zero_grad()
        if draw > 1:
            found.append(clock() - began)
    return found


def compare_searches(
    laptop: Laptop, work: Path, *, sparsity: float = 0.5, n_published: int = 3, repeats: int = 3,
    done: Callable[[Row], object] = lambda found: None,
) -> Row:
    """Ours, its shorter and older forms, and complete published runs, which are resumed.

    Args:
        work: folder of what is finished; what lies there is not run again.
        n_published: complete runs of the published search, seeds 0, 1, ...
        repeats: times that our default search is timed, each between timed published steps.
        done: called with what there is so far after each part.
    """
    work.mkdir(parents=True, exist_ok=True)
    found: Row = {
        "sparsity": sparsity, "sites": len(laptop.grid), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "held_out": len(laptop.data.dev.accept),
        "published": [], "ours": {}, "published_step": [],
    }
    for place, (name, settings) in enumerate(searches(sparsity).items()):
        rows = []
        for turn in range(repeats if place == 0 else 1):
            kept = work / f"{name.replace(', ', '-').replace(' ', '-')}-{sparsity:g}-{turn}.json"
            if not kept.exists():
                step = published_step(laptop, sparsity)
                row = learn(laptop, settings, range(N_OURS), sparsity) | {"published_step": step}
                atomic_write(kept, to_json(row))
            rows.append(read_json(kept))
        found["published_step"] += [second for row in rows for second in row["published_step"]]
        found["ours"][name] = {
            **rows[0], "seconds": [row["seconds"] for row in rows], "settings": asdict(settings),
        }
        del found["ours"][name]["published_step"]
        done(found)
    for seed in range(n_published):
        found["published"].append(published_run(laptop, seed, sparsity, work))
        done(found)
    return found


def differences(ours: Row, published: Sequence[Row]) -> list[float]:
    """KL of ours less that of the published search, seed by seed; below 0 ours is better."""
    kl = dict(zip(ours["seeds"], ours["kl"], strict=True))
    return [kl[row["seed"]] - row["kl"] for row in published]


def ratios(ours: Row, published: Sequence[Row]) -> list[float]:
    """How many times longer 12 published runs take, for each of them and each time of ours."""
    return [
        ours["members"] * row["seconds"] / seconds
        for row in published for seconds in ours["seconds"]
    ]
