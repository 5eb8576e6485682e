"""Outcomes of a made-up run, whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechprobe.studies.abstraction.settings import PRESETS, Settings

SHARES = {  # exact match on the generalisation test
    ("auxiliary", "full"): 0.2, ("control", "full"): 0.2, ("contrast", "full"): 0.1,
    ("auxiliary", "frozen"): 0.7, ("control", "frozen"): 0.1, ("contrast", "frozen"): 0.3,
}


@pytest.fixture
def settings() -> Settings:
    return replace(
        PRESETS["laptop"], n_boot=400, adapt=("full", "frozen"),
        mutations=("postpositions", "nested_complements"),
    )


@pytest.fixture
def found(settings):
    """Units by name, with the shares above in every set."""
    rng = np.random.default_rng(0)

    def outcome(ood: float, test: float = 0.95) -> dict:
        right = {"test": rng.random(300) < test, "ood": rng.random(400) < ood}
        return {k: v.tolist() for k, v in right.items()} | {
            f"{k}_log_probability": [-0.5] * len(v) for k, v in right.items()
        }

    units: dict[str, dict] = {}
    for i in range(settings.n_sets):
        for (start, adapt), share in SHARES.items():
            units[f"target-{start}-{adapt}-{i}"] = outcome(share)
        for start in ("auxiliary", "contrast"):
            units[f"{start}-{i}"] = {"memory": 1.0, "dev": [True] * 97 + [False] * 3,
                                     "ood": [True, False]}
    for mutation, share in (("postpositions", 0.55), ("nested_complements", 0.1)):
        for i in range(settings.n_sets):
            units[f"mutated-{mutation}-{i}"] = {"memory": 1.0, "dev": [True], "ood": [True]}
            units[f"target-mutated-{mutation}-{i}-frozen"] = outcome(share)
    return units
