"""What generic pretraining, on the grammar in other vocabularies, does to the gain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechprobe.stats.nested import nested_bootstrap
from mechprobe.studies.abstraction.settings import Settings

AFTER = "-after-generic"
"""In names of units: the model first learnt other vocabularies."""


def generic_table(settings: Settings, found: Mapping[str, Mapping]) -> pd.DataFrame:
    """MainExp, ControlExp and their difference, from a pretrained and from a random model.

    Columns: adapt, start ("pretrained", "random", "difference"), main and control (exact match in
    generalisation, mean over sets), delta = main less control, with its interval over sets and
    items; the differences are paired by item.
    """
    rows = []
    for adapt in settings.adapt:
        right = {
            (procedure, middle): [
                np.array(found[f"target-{procedure}{middle}-{adapt}-{i}"]["ood"], float)
                for i in range(settings.n_sets)
            ]
            for procedure in ("auxiliary", "control") for middle in (AFTER, "")
        }
        right |= {
            (name, "difference"): _less(right[name, AFTER], right[name, ""])
            for name in ("auxiliary", "control")
        }
        for start, middle in (("pretrained", AFTER), ("random", ""), ("difference", "difference")):
            main, control = right["auxiliary", middle], right["control", middle]
            ends = nested_bootstrap(_less(main, control), settings.seed, settings.n_boot)
            rows.append({
                "adapt": adapt, "start": start, "main": _mean(main), "control": _mean(control),
                "delta": ends.estimate, "low": ends.low, "high": ends.high,
            })
    return pd.DataFrame(rows)


def _less(first: list[np.ndarray], second: list[np.ndarray]) -> list[np.ndarray]:
    return [a - b for a, b in zip(first, second, strict=True)]


def _mean(sets: list[np.ndarray]) -> float:
    return float(np.mean([part.mean() for part in sets]))
