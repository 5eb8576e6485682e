"""Everything the report shows, gathered from a run's finished units; no model runs here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mechprobe.runs import Run
from mechprobe.stats.intervals import Interval, bootstrap_mean
from mechprobe.stats.ordination import (
    Clustering,
    cluster_items,
    row_distance,
    similarity_distance,
)
from mechprobe.studies.task_spaces.at_point import AtPoint, Tuning, read_point
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.minimal_pairs import MinimalPairs, word_overlap


@dataclass(frozen=True)
class Results:
    """Everything the report shows.

    Attributes:
        points: of training, models small first, each one's early points first.
        clusters: of the last point's spaces and of the vocabulary, by name.
        heads: gradient share and fall when closed, a row a phenomenon and head.
        head_agreement: correlation of the two over heads, mean over phenomena.
        kinds: rows of the comparison of kinds of tuning; empty when the run has none.
    """

    pairs: MinimalPairs
    points: list[AtPoint]
    clusters: dict[str, Clustering]
    heads: pd.DataFrame
    head_agreement: Interval
    kinds: pd.DataFrame

    @property
    def main(self) -> AtPoint:
        """The last point of the last model."""
        return self.points[-1]

    @property
    def tuning(self) -> Tuning:
        """What tuning gave there; the last point of every model is tuned."""
        assert self.main.tuning is not None
        return self.main.tuning

    def of_model(self, model: str) -> list[AtPoint]:
        """The points of one model."""
        return [at for at in self.points if at.point.model == model]

    @property
    def lasts(self) -> list[AtPoint]:
        """The last point of every model."""
        return list({at.point.model: at for at in self.points}.values())


def gather(
    settings: Settings, pairs: MinimalPairs, points: list[Point], kinds: pd.DataFrame, run: Run
) -> Results:
    """Read every finished unit and analyse it."""
    found = [read_point(settings, pairs, point, run) for point in points]
    main = found[-1]
    assert main.tuning is not None
    distances = {
        "transfer": row_distance(main.tuning.transfer),
        "gradient overlap": similarity_distance(main.arrays["overlap"]),
        "gradient cosine": similarity_distance(main.arrays["cosine"]),
        "vocabulary": similarity_distance(word_overlap(pairs)),
    }
    clusters = {
        name: cluster_items(d, pairs.phenomena, n=settings.n_null, seed=settings.seed)
        for name, d in distances.items()
    }
    heads, agreement = head_table(pairs, main, settings)
    return Results(pairs, found, clusters, heads, agreement, kinds)


def by_phenomenon(
    pairs: MinimalPairs, values: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Means over the tasks (first axis) of each phenomenon, and the phenomena in their order."""
    kinds = list(dict.fromkeys(pairs.phenomena))
    member = np.array([[p == k for p in pairs.phenomena] for k in kinds], dtype=float)
    member /= member.sum(1, keepdims=True)
    return kinds, np.einsum("kt,t...->k...", member, values)


def head_table(
    pairs: MinimalPairs, at: AtPoint, settings: Settings
) -> tuple[pd.DataFrame, Interval]:
    """Per phenomenon and head: share of |g|, fall when closed; and how well the two agree.

    Agreement: Spearman correlation over heads of share and fall, each relative to its head's mean
    over phenomena, so that heads that matter for everything do not count; mean over phenomena.
    """
    assert at.tuning is not None
    kinds, share = by_phenomenon(pairs, at.arrays["heads"])
    _, fall = by_phenomenon(pairs, np.moveaxis(at.tuning.closed, 2, 0))
    rows = [
        {"phenomenon": kind, "head": f"{layer}.{head}", "gradient_share": share[k, layer, head],
         "drop_when_closed": fall[k, layer, head]}
        for k, kind in enumerate(kinds)
        for layer in range(share.shape[1]) for head in range(share.shape[2])
    ]
    a = (share / share.mean(0)).reshape(len(kinds), -1)
    b = (fall - fall.mean(0)).reshape(len(kinds), -1)
    r = [
        float(found) for x, y in zip(a, b, strict=True)
        if np.ptp(x) > 0 and np.ptp(y) > 0
        and np.isfinite(found := spearmanr(x, y).statistic)  # pyright: ignore
    ]
    ends = bootstrap_mean(np.array(r or [0.0]), settings.seed, settings.n_boot)
    return pd.DataFrame(rows), ends
