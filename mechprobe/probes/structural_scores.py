"""How well predicted distances and depths are the tree: UUAS, DSpr., NSpr., root accuracy.

The measures of Hewitt and Manning 2019 (section 4.2), for all sites at once. Sentences of one
length are scored together, so nothing here knows padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.streams import Stream
from mechprobe.probes.activations import WordVectors, spans
from mechprobe.probes.bank import ProbeBank, check_streams
from mechprobe.probes.structural import project, squared_distances, squared_norms
from mechprobe.tasks.treebank import Sentence, tree_depths, tree_distances

LENGTHS = (5, 50)
"""Sentences of these lengths, ends included, count for the rank correlations."""
_ROOM = 2**24  # predicted numbers held at once

Predict = Callable[[np.ndarray], Tensor]
"""From rows of sentences of one length their predictions [site, sentence, word(, word)]."""


@dataclass(frozen=True)
class TreeScores:
    """Scores of each site; NaN where no sentence counts.

    Attributes:
        names: what the site axis runs over.
        scores: score by name, each float64 [site]: "uuas" and "dspr" of distances, "nspr" and
            "root" of depths.
        hits: for bootstraps, by the same names, what each sentence gives, float64 [site, sentence]:
            edges found, or its own correlation, or whether the root is found.
        n_edges: edges that count in each sentence, int64 [sentence].
    """

    names: tuple[str, ...]
    scores: dict[str, np.ndarray]
    hits: dict[str, np.ndarray]
    n_edges: np.ndarray

    def table(self) -> pd.DataFrame:
        """One row a site."""
        return pd.DataFrame({"site": self.names, **self.scores})


def score_distances(bank: ProbeBank, data: WordVectors) -> TreeScores:
    """UUAS and DSpr. of a bank of distance probes.

    Raises:
        InputError: vectors of other streams, or of tokens (``released_masking``).
    """
    return distance_scores(
        data.sentences, _names(bank.streams), _projected(bank, data, pairs=True)
    )


def score_depths(bank: ProbeBank, data: WordVectors) -> TreeScores:
    """NSpr. and root accuracy of a bank of depth probes (any whose B gives norms as depths).

    Raises:
        InputError: vectors of other streams, or of tokens (``released_masking``).
    """
    return depth_scores(data.sentences, _names(bank.streams), _projected(bank, data, pairs=False))


def distance_scores(
    sentences: Sequence[Sentence], names: Sequence[str], predict: Predict
) -> TreeScores:
    """UUAS and DSpr. of any predicted distances.

    UUAS: of the arcs between words that are no punctuation, the share that is in the minimum
    spanning tree of the predicted distances between such words; all sentences' arcs in one count.
    DSpr.: Spearman's correlation of predicted and true distances from each word, averaged over the
    words of a sentence, then over sentences of one length, then over lengths 5 to 50.

    Args:
        predict: gives [site, sentence, word, word] for rows of sentences of one length.
    """
    n_sites, n = len(names), len(sentences)
    found, correlations = np.zeros((n_sites, n)), np.full((n_sites, n), np.nan)
    n_edges = np.zeros(n, dtype=np.int64)
    for rows in _rows_of_one_length(sentences, n_sites, pairs=True):
        distances = predict(rows)
        words = torch.from_numpy(np.stack([_no_punctuation(sentences[r]) for r in rows]))
        arcs = torch.from_numpy(np.stack([_arcs(sentences[r]) for r in rows]))
        n_edges[rows] = (arcs.sum((1, 2)) // 2).numpy()
        found[:, rows] = _edges_found(distances, words.to(distances.device), arcs)
        if LENGTHS[0] <= len(sentences[rows[0]]) <= LENGTHS[1]:
            gold = np.stack([tree_distances(sentences[r].heads) for r in rows])
            per_word = spearman(distances, torch.from_numpy(gold).to(distances))
            correlations[:, rows] = per_word.mean(-1).cpu().numpy()
    uuas = _share(found.sum(1), n_edges.sum())
    scores = {"uuas": uuas, "dspr": _by_length(correlations, sentences)}
    return TreeScores(tuple(names), scores, {"uuas": found, "dspr": correlations}, n_edges)


def depth_scores(
    sentences: Sequence[Sentence], names: Sequence[str], predict: Predict
) -> TreeScores:
    """NSpr. and root accuracy of any predicted depths.

    NSpr.: Spearman's correlation of predicted and true depths in each sentence, averaged as DSpr.
    Root accuracy: how often the word of least predicted depth, punctuation left aside, is the root.

    Args:
        predict: gives [site, sentence, word] for rows of sentences of one length.
    """
    n_sites, n = len(names), len(sentences)
    right, correlations = np.zeros((n_sites, n)), np.full((n_sites, n), np.nan)
    for rows in _rows_of_one_length(sentences, n_sites, pairs=False):
        depths = predict(rows)
        words = torch.from_numpy(np.stack([_no_punctuation(sentences[r]) for r in rows]))
        words |= ~words.any(1, keepdim=True)  # a sentence of punctuation only
        roots = torch.tensor([sentences[r].root for r in rows])
        least = depths.masked_fill(~words.to(depths.device), torch.inf).argmin(-1)
        right[:, rows] = (least.cpu() == roots).double().numpy()
        if LENGTHS[0] <= len(sentences[rows[0]]) <= LENGTHS[1]:
            gold = np.stack([tree_depths(sentences[r].heads) for r in rows])
            found = spearman(depths, torch.from_numpy(gold).to(depths))
            correlations[:, rows] = found.cpu().numpy()
    scores = {"nspr": _by_length(correlations, sentences), "root": _share(right.sum(1), n)}
    n_edges = np.array([len(sentence.edges) for sentence in sentences])
    return TreeScores(tuple(names), scores, {"nspr": correlations, "root": right}, n_edges)


def spanning_trees(
    distances: Float[Tensor, "site *batch word word"], words: Bool[Tensor, "*batch word"]
) -> Int[Tensor, "site *batch word"]:
    """Minimum spanning trees of many graphs at once (Prim 1957).

    Args:
        distances: symmetric; of each word to each other.
        words: which words are to be joined; the others are not in the graph.

    Returns:
        The word each word was joined to; itself for the first word and for those left out.
    """
    n = distances.shape[-1]
    flat, mask = distances.reshape(-1, n, n), words.expand(distances.shape[:-1]).reshape(-1, n)
    rows = torch.arange(len(flat), device=flat.device)
    joined = torch.arange(n, device=flat.device).repeat(len(flat), 1)
    first = mask.int().argmax(1)
    outside = mask.clone()
    outside[rows, first] = False
    near = first[:, None].expand(-1, n).clone()  # the word inside that each one outside is next to
    gap = flat[rows, first]
    for _ in range(n - 1):
        best, nearest = torch.where(outside, gap, torch.inf).min(1)
        grows = best < torch.inf
        joined[rows, nearest] = torch.where(grows, near[rows, nearest], joined[rows, nearest])
        outside[rows, nearest] = outside[rows, nearest] & ~grows
        closer = (flat[rows, nearest] < gap) & grows[:, None]
        gap = torch.where(closer, flat[rows, nearest], gap)
        near = torch.where(closer, nearest[:, None], near)
    return joined.view(distances.shape[:-1])


def spearman(
    predicted: Float[Tensor, "site *batch word"], gold: Float[Tensor, "*batch word"]
) -> Float[Tensor, "site *batch"]:
    """Spearman's rank correlation over the last axis, equal values sharing their mean rank.

    Where either side is constant there is no order to agree on, and the correlation is 0. float64.
    """
    a, b = _ranks(predicted), _ranks(gold)
    top = torch.einsum("s...w,...w->s...", a, b)
    norm = a.square().sum(-1) * b.square().sum(-1)
    return torch.where(norm > 0, top / norm.clamp(min=1e-300).sqrt(), 0.0)


def _ranks(values: Tensor) -> Tensor:
    """Ranks about their mean, float64: how many are smaller minus how many are larger, halved."""
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto).double() / 2 - values.shape[-1] / 2


def _edges_found(distances: Tensor, words: Tensor, arcs: Tensor) -> np.ndarray:
    """True arcs in each spanning tree, [site, sentence]; ``arcs`` [sentence, word, word]."""
    joined = spanning_trees(distances, words).cpu()
    here = arcs.expand(len(joined), *arcs.shape)
    return here.gather(-1, joined[..., None])[..., 0].sum(-1).double().numpy()


def _arcs(sentence: Sentence) -> np.ndarray:
    """Arcs between words that are no punctuation, bool [word, word], symmetric."""
    words = _no_punctuation(sentence)
    out = np.zeros((len(sentence), len(sentence)), dtype=bool)
    if sentence.edges:
        i, j = np.array(sentence.edges).T
        out[i, j] = out[j, i] = words[i] & words[j]
    return out


def _no_punctuation(sentence: Sentence) -> np.ndarray:
    return np.array([tag != "PUNCT" for tag in sentence.upos])


def _rows_of_one_length(
    sentences: Sequence[Sentence], n_sites: int, *, pairs: bool
) -> Iterator[np.ndarray]:
    """Rows of sentences of one length, as many at once as there is room for."""
    lengths = np.array([len(sentence) for sentence in sentences])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        at_once = max(1, _ROOM // int(n_sites * length * (length if pairs else 1)))
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def _by_length(values: np.ndarray, sentences: Sequence[Sentence]) -> np.ndarray:
    """Mean over lengths of the means over sentences of that length; NaN without any."""
    lengths = np.array([len(sentence) for sentence in sentences])
    here = [n for n in np.unique(lengths) if LENGTHS[0] <= n <= LENGTHS[1]]
    if not here:
        return np.full(len(values), np.nan)
    return np.mean([values[:, lengths == n].mean(1) for n in here], axis=0)


def _share(found: np.ndarray, total: int | np.integer) -> np.ndarray:
    return found / total if total else np.full(len(found), np.nan)


def _names(streams: Sequence[Stream]) -> tuple[str, ...]:
    return tuple(map(str, streams))


def _projected(bank: ProbeBank, data: WordVectors, *, pairs: bool) -> Predict:
    """Predictions of a bank's probes on its vectors."""
    check_streams(bank, data)
    if data.released:
        raise InputError("trees are of words; read the vectors without released_masking")
    b = bank.params["B"]

    @torch.no_grad()
    def predict(rows: np.ndarray) -> Tensor:
        units = torch.from_numpy(spans(data.starts, rows))
        vectors = data.storage.index_select(0, units).transpose(0, 1).to(b)
        if pairs:
            return squared_distances(project(b, vectors).unflatten(1, (len(rows), -1)))
        return squared_norms(b, vectors).unflatten(1, (len(rows), -1))

    return predict
