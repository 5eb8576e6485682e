"""Which heads carry what probes read: close a head, read the later layers with the same probes.

A closed head also moves every later vector off the ground probes were trained on, whatever the head
does. So each closing is set beside turns: the same change of the head's output in size, token by
token, but in a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline, mean_baseline
from mechprobe.gates.choose import chosen_sites, grid_for
from mechprobe.gates.context import constant_values, gated
from mechprobe.models.edits import HookedModel
from mechprobe.models.standing import standing_edits
from mechprobe.models.streams import Stream
from mechprobe.probes import WordVectors, word_vectors
from mechprobe.probes.sentence_scores import SentenceScore, draws
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.stats import central, holm, sign_flip_p
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.word_pieces import encode_words

Score = Callable[[WordVectors], SentenceScore]
"""A probe's score of vectors: any function of them that gives a score by sentence."""


@dataclass(frozen=True)
class TreeHeads:
    """What closing each head does to a score at each stream.

    Attributes:
        heads: the heads closed, one at a time.
        names: the streams scored.
        own: the score of the untouched model.
        closed: the score with each head closed, one a head.
        turned: the score under each random turn, one list a head.
    """

    heads: tuple[Site, ...]
    names: tuple[str, ...]
    own: SentenceScore
    closed: tuple[SentenceScore, ...]
    turned: tuple[tuple[SentenceScore, ...], ...]

    def changes(self) -> Float[np.ndarray, "head stream"]:
        """Score with the head closed minus the untouched model's; NaN at streams before it."""
        own = self.own.value()
        found = np.stack([score.value() - own for score in self.closed])
        return np.where(self._after(), found, np.nan)

    def turn_changes(self) -> Float[np.ndarray, "head turn stream"]:
        """The same under each random turn."""
        own = self.own.value()
        return np.stack([[score.value() - own for score in row] for row in self.turned])

    def table(self, at: Mapping[Site, str], *, n: int = 1_000, seed: int = 0) -> pd.DataFrame:
        """One row a head: its change at one stream, and what it does beyond random turns.

        Columns: head, at, change with 95 % interval over sentences, turned (mean over turns), and
        the lowest and highest turn, excess (change minus turned) with interval, p of the excess
        from random signs over sentences, p_corrected (Holm over heads).

        Args:
            at: the stream each head is judged at.

        Raises:
            InputError: a stream that is not after its head.
        """
        counts = draws(len(self.own.bottom), n, seed)
        own = self.own.resampled(counts)
        rows, differences = [], []
        for head, closed, turned in zip(self.heads, self.closed, self.turned, strict=True):
            place = self.own.at(at[head])
            if not _is_after(self.names[place], head):
                raise InputError(f"{at[head]} is not after head {head}; judge it at a later stream")
            drawn = closed.resampled(counts)[:, place]
            turns = np.mean([t.resampled(counts)[:, place] for t in turned], axis=0)
            each = [float(t.value()[place] - self.own.value()[place]) for t in turned]
            change = float(closed.value()[place] - self.own.value()[place])
            low, high = central(drawn - own[:, place])
            excess_low, excess_high = central(drawn - turns)
            differences.append(closed.top[place] - np.mean([t.top[place] for t in turned], axis=0))
            rows.append({
                "head": str(head), "at": at[head], "change": change, "change_low": float(low),
                "change_high": float(high), "turned": float(np.mean(each)),
                "turned_low": min(each), "turned_high": max(each),
                "excess": change - float(np.mean(each)), "excess_low": float(excess_low),
                "excess_high": float(excess_high),
            })
        p = sign_flip_p(np.stack(differences), seed=seed)
        return pd.DataFrame(rows).assign(p=p, p_corrected=holm(p))

    def _after(self) -> np.ndarray:
        return np.array([[_is_after(name, head) for name in self.names] for head in self.heads])


@torch.no_grad()
def tree_heads(
    model: HookedModel,
    sentences: Sequence[Sentence],
    scores: Mapping[str, Score],
    *,
    wanted: Iterable[Stream | str],
    heads: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "mean",
    turns: int = 3,
    seed: int = 0,
    on_head: Callable[[Site], None] | None = None,
) -> dict[str, TreeHeads]:
    """Close one head after the other and score the vectors of all streams.

    Args:
        scores: by name, what is read from the vectors; trained probes are not trained again.
        wanted: the streams read; those the scores need.
        heads: "heads" (all) or a list.
        baseline: what a closed head puts in place: "mean" (over ``sentences``) or "zero", or a
            constant ``Baseline``.
        turns: random directions a head.
        seed: decides the turns.
        on_head: called after each head.

    Raises:
        InputError: no sentence or turn, a head or stream that the model lacks, or a baseline that
            depends on the input.
    """
    if turns < 1:
        raise InputError(f"{turns} turns leave nothing to compare with; give 1 or more")
    grid, chosen = grid_for(model, heads if isinstance(heads, str) else [*heads])
    chosen = [site for site in chosen_sites(grid, chosen) if site.kind == "head"]
    if not chosen:
        raise InputError("no head to close; name some, such as heads=['2.1']")
    base = _constant(model, sentences, grid, baseline)
    values = constant_values(model, grid, base, None)
    wanted = [Stream.parse(one) for one in wanted]

    def read(block: AbstractContextManager | None = None) -> dict[str, SentenceScore]:
        if block is None:
            vectors = word_vectors(model, sentences, wanted=wanted)
        else:
            with block:
                vectors = word_vectors(model, sentences, wanted=wanted)
        return {name: score(vectors) for name, score in scores.items()}

    own = read()
    closed: dict[str, list[SentenceScore]] = {name: [] for name in scores}
    turned: dict[str, list[tuple[SentenceScore, ...]]] = {name: [] for name in scores}
    for head in chosen:
        shut = read(gated(model, closed=[head], baseline=base))
        rngs = [np.random.default_rng([seed, head.layer, _i(head), turn]) for turn in range(turns)]
        rows = [read(_turned(model, head, values, rng)) for rng in rngs]
        for name in scores:
            closed[name].append(shut[name])
            turned[name].append(tuple(row[name] for row in rows))
        if on_head is not None:
            on_head(head)
    names = tuple(map(str, wanted))
    return {
        name: TreeHeads(tuple(chosen), names, own[name], tuple(closed[name]), tuple(turned[name]))
        for name in scores
    }


def _constant(
    model: HookedModel, sentences: Sequence[Sentence], grid: SiteGrid, baseline: str | Baseline
) -> str | Baseline:
    if baseline != "mean":
        return baseline
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError("the model has no tokenizer, which a mean baseline needs")
    encoded = encode_words([s.words for s in sentences], tokenizer, model.cfg.n_ctx)
    return mean_baseline(model, encoded.encoded.batches(32), grid)


def _turned(
    model: HookedModel, head: Site, values: Mapping[Site, Tensor], rng: np.random.Generator
) -> AbstractContextManager:
    """The head's output changed by as much as closing changes it, in a random direction."""
    layer = Site("head", head.layer, None, head.stack)
    base = values[layer].expand(-1, -1, model.cfg.n_heads, model.cfg.d_head)[:, :, _i(head)]
    gaussian = torch.from_numpy(rng.normal(size=(base.shape[-1],) * 2))
    q, r = torch.linalg.qr(gaussian)
    turn = (q * r.diagonal().sign()).to(base)  # uniform over orthogonal matrices (Mezzadri 2007)

    def edit(own: Tensor, start: int) -> Tensor:
        out = own.clone()
        z = own[:, :, _i(head)]
        out[:, :, _i(head)] = z + (base.to(z) - z) @ turn.to(z).T
        return out

    return standing_edits(model, {layer: edit})


def _i(head: Site) -> int:
    assert head.index is not None
    return head.index


def _is_after(name: str, head: Site) -> bool:
    """Whether a stream can depend on a head."""
    stream = Stream.parse(name)
    if stream.part == "resid":
        return stream.layer > head.layer
    return stream.layer > head.layer or (
        stream.layer == head.layer and stream.part not in ("z",)
    )
