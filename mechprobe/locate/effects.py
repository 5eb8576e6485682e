"""Effects of places on a behaviour: ranked on one half of the examples, estimated on the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mechprobe.errors import InputError
from mechprobe.stats import bootstrap_mean, holm, sign_flip_p

ALPHA = 0.05
"""Corrected p below which an effect is taken for real."""
_FLIPS = 10_000


def check_effects(
    effects: np.ndarray, places: Sequence[object], halves: Sequence[np.ndarray], what: str
) -> None:
    """Refuse effects that are not one a place and example, or rows that they do not have.

    Args:
        halves: the selection rows and the held-out rows.
        what: a place in one word, "site".

    Raises:
        InputError: a wrong shape, a row out of range.
    """
    if effects.ndim != 2 or len(effects) != len(places):
        raise InputError(
            f"effects of shape {list(effects.shape)} for {len(places)} {what}s; give "
            f"[{what}, example]"
        )
    for rows in halves:
        if rows.size and not 0 <= rows.min() <= rows.max() < effects.shape[1]:
            raise InputError(
                f"rows {rows.min()} to {rows.max()} of effects on {effects.shape[1]} examples; "
                "give rows from 0"
            )


def effect_order(
    effects: Float[np.ndarray, "place example"], select: Int[np.ndarray, " a"]
) -> Int[np.ndarray, " place"]:
    """Places from the largest mean effect on the selection rows to the smallest."""
    return np.argsort(-effects[:, select].mean(1), kind="stable")


def effect_columns(
    effects: Float[np.ndarray, "place example"],
    select: Int[np.ndarray, " a"],
    report: Int[np.ndarray, " b"],
    seed: int = 0,
) -> pd.DataFrame:
    """One row a place, in the order given.

    Columns: effect (mean on the held-out rows ``report``), low, high (95 % bootstrap interval over
    examples), selection (mean on the selection rows), p (two-sided sign-flip test on held-out rows
    that the mean is zero), p_corrected (Holm over all places). With many places more signs are
    drawn, so that the correction alone never hides one.
    """
    held = effects[:, report]
    p = sign_flip_p(held, seed=seed, n=max(_FLIPS, 100 * len(effects)))
    ends = [bootstrap_mean(row, seed=seed) for row in held]
    return pd.DataFrame({
        "effect": held.mean(1),
        "low": [e.low for e in ends],
        "high": [e.high for e in ends],
        "selection": effects[:, select].mean(1),
        "p": p,
        "p_corrected": holm(p),
    })
