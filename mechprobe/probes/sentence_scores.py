"""Scores of probes as sums over sentences, so that every score gets an interval over sentences.

UUAS, accuracies, root accuracy and the topology metrics are a sum over sentences divided by
another; DSpr. and NSpr. are means over lengths of means over sentences of a length. Both are
sums within groups of sentences, averaged over groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mechprobe.errors import InputError
from mechprobe.probes.activations import WordVectors
from mechprobe.probes.bank import ProbeBank, sentence_losses
from mechprobe.probes.linear import word_hits
from mechprobe.probes.structural_scores import LENGTHS, TreeScores
from mechprobe.stats import central, resample_counts


@dataclass(frozen=True)
class SentenceScore:
    """One score at several sites, kept by sentence.

    Attributes:
        names: what the site axis runs over.
        top, bottom: the score of a group is the sum of its sentences' ``top`` over that of their
            ``bottom``; float64 [site, sentence] and [sentence].
        group: group of each sentence, -1 for one that does not count; the score is the mean over
            groups.
    """

    names: tuple[str, ...]
    top: Float[np.ndarray, "site sentence"]
    bottom: Float[np.ndarray, " sentence"]
    group: Int[np.ndarray, " sentence"]

    def value(self) -> Float[np.ndarray, " site"]:
        """The score of each site; NaN where no sentence counts."""
        return self.resampled(np.ones((1, len(self.bottom)), dtype=np.int64))[0]

    def resampled(
        self, counts: Int[np.ndarray, "draw sentence"]
    ) -> Float[np.ndarray, "draw site"]:
        """The score when each sentence is there as often as ``counts`` says.

        A group that a draw leaves empty does not count in that draw.
        """
        totals = np.zeros((len(counts), len(self.names)))
        n_groups = np.zeros(len(counts))
        for group in np.unique(self.group[self.group >= 0]):
            rows = np.flatnonzero(self.group == group)
            below = counts[:, rows] @ self.bottom[rows]
            there = below > 0
            above = counts[:, rows] @ self.top[:, rows].T
            totals[there] += above[there] / below[there, None]
            n_groups += there
        with np.errstate(invalid="ignore"):
            return totals / n_groups[:, None]

    def interval(
        self, *, n: int = 1_000, seed: int = 0
    ) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        """Ends of the 95 % bootstrap interval over sentences."""
        return central(self.resampled(draws(len(self.bottom), n, seed)))

    def at(self, name: str) -> int:
        """Place of a site.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.names:
            raise InputError(f"no score of {name!r} here; there are {', '.join(self.names)}")
        return self.names.index(name)


def draws(n_sentences: int, n: int, seed: int = 0) -> Int[np.ndarray, "draw sentence"]:
    """How often each sentence is in each of n resamples; the same for everything compared."""
    return resample_counts(np.zeros(n_sentences, dtype=int), n, seed)


def tree_sentence_scores(scores: TreeScores, lengths: np.ndarray) -> dict[str, SentenceScore]:
    """UUAS and DSpr., or NSpr. and root accuracy, by sentence.

    Args:
        lengths: words of each sentence.
    """
    found = {}
    inside = (lengths >= LENGTHS[0]) & (lengths <= LENGTHS[1])
    for name, hits in scores.hits.items():
        if name in ("dspr", "nspr"):
            top, bottom = np.nan_to_num(hits), inside.astype(float)
            group = np.where(inside, lengths, -1)
        else:
            top = hits
            bottom = scores.n_edges.astype(float) if name == "uuas" else np.ones(len(lengths))
            group = np.zeros(len(lengths), dtype=np.int64)
        found[name] = SentenceScore(scores.names, top, bottom, group)
    return found


def loss_sentence_score(bank: ProbeBank, data: WordVectors) -> SentenceScore:
    """The bank's own mean loss by sentence: X_ssp, X_essp or X_sp of a topology bank."""
    losses = sentence_losses(bank, data)
    bottom = np.ones(len(data)) if bank.objective.per == "sentence" else data.lengths.astype(float)
    return SentenceScore(_names(bank), losses, bottom, np.zeros(len(data), dtype=np.int64))


def accuracy_sentence_score(bank: ProbeBank, data: WordVectors) -> SentenceScore:
    """Label accuracy by sentence.

    Raises:
        InputError: as ``label_accuracy``.
    """
    hits = word_hits(bank, data)
    asked = ~np.isnan(hits)
    top = np.add.reduceat(np.nan_to_num(hits), data.starts[:-1], axis=1)
    bottom = np.add.reduceat(asked[0].astype(float), data.starts[:-1])
    return SentenceScore(_names(bank), top, bottom, np.zeros(len(data), dtype=np.int64))


def difference(
    first: SentenceScore,
    second: SentenceScore,
    *,
    n: int = 1_000,
    seed: int = 0,
) -> Mapping[str, tuple[float, float, float]]:
    """First minus second at the sites both have: estimate and 95 % interval over sentences.

    Both are of the same sentences, which are resampled together.

    Raises:
        InputError: scores of different numbers of sentences, or no site in common.
    """
    shared = [name for name in first.names if name in second.names]
    if len(first.bottom) != len(second.bottom) or not shared:
        raise InputError(
            f"scores of {len(first.bottom)} and {len(second.bottom)} sentences with {len(shared)} "
            "sites in common cannot be compared; score both on the same sentences"
        )
    counts = draws(len(first.bottom), n, seed)
    drawn = [score.resampled(counts) for score in (first, second)]
    now = [score.value() for score in (first, second)]
    out = {}
    for name in shared:
        i, j = first.at(name), second.at(name)
        low, high = central(drawn[0][:, i] - drawn[1][:, j])
        out[name] = (float(now[0][i] - now[1][j]), float(low), float(high))
    return out


def _names(bank: ProbeBank) -> tuple[str, ...]:
    return tuple(map(str, bank.streams))
