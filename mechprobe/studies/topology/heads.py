"""Which heads carry the tree to later layers: closed one by one, beside turns of equal size."""

from __future__ import annotations

from typing import Any

import numpy as np

from mechprobe.locate.tree_heads import TreeHeads, tree_heads
from mechprobe.models.edits import site_grid
from mechprobe.models.streams import Stream
from mechprobe.probes import ProbeBank, WordVectors, score_distances
from mechprobe.probes.sentence_scores import (
    SentenceScore,
    loss_sentence_score,
    tree_sentence_scores,
)
from mechprobe.runs import progress
from mechprobe.sites import Site
from mechprobe.studies.topology.kept_scores import read_score
from mechprobe.studies.topology.probing import Opened, kept_bank
from mechprobe.studies.topology.settings import Settings

RESIDUAL = "resid"


def tested_heads(settings: Settings, heads: list[Site]) -> list[Site]:
    """The heads that are closed: all, or a seeded sample."""
    if settings.n_heads_tested < 1 or settings.n_heads_tested >= len(heads):
        return heads
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.choice(len(heads), settings.n_heads_tested, replace=False))
    return [heads[i] for i in rows]


def heads_unit(opened: Opened) -> dict:
    """Close each head; UUAS and X_ssp of every later point of the residual stream."""
    settings = opened.settings
    distance, ssp = (_residual(kept_bank(opened, kind)) for kind in ("distance", "ssp"))

    def uuas(vectors: WordVectors) -> SentenceScore:
        return tree_sentence_scores(score_distances(distance, vectors), vectors.lengths)["uuas"]

    def x_ssp(vectors: WordVectors) -> SentenceScore:
        return loss_sentence_score(ssp, vectors)

    grid = site_grid(opened.model)
    heads = tested_heads(settings, [s for s in grid.sites if s.kind == "head"])
    with progress(len(heads), "close heads", unit="head") as bar:
        found = tree_heads(
            opened.model, opened.data.parts["test"][: settings.n_head_sentences],
            {"uuas": uuas, "x_ssp": x_ssp}, wanted=distance.streams, heads=heads,
            turns=settings.n_turns, seed=settings.seed, on_head=lambda _: bar.update(),
        )
    dev = read_score(opened.run, opened.name, "distance", "dev", "uuas")
    at = {head: best_after(head, distance.streams, dev) for head in found["uuas"].heads}
    result: dict[str, Any] = {"streams": list(found["uuas"].names), "heads": [str(h) for h in at]}
    for name, own in found.items():
        table = own.table(at, n=settings.n_boot, seed=settings.seed)
        result[name] = {
            "table": table.to_dict("records"), "changes": _plain(own), "own": own.own.value()
        }
    return result


def best_after(head: Site, streams: tuple[Stream, ...], dev: SentenceScore) -> str:
    """The point of the residual stream after a head where the probe reads trees best on dev."""
    later = [str(s) for s in streams if s.layer > head.layer]
    values = dev.value()
    return max(later, key=lambda name: values[dev.at(name)])


def _residual(bank: ProbeBank) -> ProbeBank:
    return bank.at([s for s in bank.streams if s.part == RESIDUAL])


def _plain(own: TreeHeads) -> list[list[float | None]]:
    return [[None if np.isnan(v) else float(v) for v in row] for row in own.changes()]
