"""Do the further heads depend on the core? What reaches the answer from the core through them.

Analysis of Bhaskar et al. 2024, section 5, by path patching: the core's heads take their baseline,
the further heads are recomputed, and only their new outputs go into an otherwise untouched run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechprobe.models.edits import run_with_cache, run_with_edits
from mechprobe.runs import progress
from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import central, empirical_p, resampled_scores
from mechprobe.studies.heuristic_core.data import Split, scored
from mechprobe.studies.heuristic_core.search import OpenModel
from mechprobe.tasks.answers import accepted_log_odds
from mechprobe.tasks.batches import Batch


def replaced(value: Tensor, own: Tensor) -> Tensor:
    """The edit that puts ``value`` (broadcast to the batch) in a site's place."""
    return value.to(own.dtype).expand_as(own)


def closing(
    opened: OpenModel, batch: Batch, heads: Sequence[Site]
) -> dict[Site, Callable[[Tensor], Tensor]]:
    """Edits that put the study's baseline in place of some heads."""
    values = opened.baseline.values(opened.model, batch, opened.grid)
    return {
        site: partial(replaced, values[Site("head", site.layer)][..., site.index, :])
        for site in heads
    }


@torch.no_grad()
def through(
    opened: OpenModel, batch: Batch, senders: Sequence[Site], receivers: Sequence[Site]
) -> Tensor:
    """Logits when the receivers alone are what they become once the senders are closed."""
    _, seen = run_with_cache(opened.model, batch, receivers, closing(opened, batch, senders))
    edits = {site: partial(replaced, value) for site, value in seen.items()}
    return run_with_edits(opened.model, batch, edits)


@torch.no_grad()
def closed(opened: OpenModel, batch: Batch, heads: Sequence[Site]) -> Tensor:
    """Logits with some heads at their baseline."""
    return run_with_edits(opened.model, batch, closing(opened, batch, heads))


def log_odds(
    opened: OpenModel, split: Split, runs: Sequence[Callable[[Batch], Tensor]], description: str
) -> np.ndarray:
    """Log odds of the accepted labels, [run, example], in the order of the split."""
    out = np.zeros((len(runs), len(split.examples)))
    with progress(len(split.batches), description) as bar:
        for batch in split.batches:
            rows = batch.index
            for row, run in enumerate(runs):
                value = accepted_log_odds(run(batch).float(), {"accept": split.accept[rows]})
                out[row, rows.cpu().numpy()] = value.double().cpu().numpy()
            bar.update(1)
    return out


def sender_sets(
    grid: SiteGrid, core: Sequence[Site], extra: Sequence[Site], n_sets: int, seed: int
) -> list[list[Site]]:
    """Random sets with as many heads in each layer as the core has, none of them further heads."""
    rng = np.random.default_rng([seed, 5])
    taken = set(extra)
    free = {
        layer: [Site("head", layer, h) for h in range(grid.n_heads)
                if Site("head", layer, h) not in taken]
        for layer in range(grid.n_layers)
    }
    wanted = {layer: sum(s.layer == layer for s in core) for layer in range(grid.n_layers)}
    return [
        [free[layer][i] for layer, count in wanted.items()
         for i in rng.choice(len(free[layer]), count, replace=False)]
        for _ in range(n_sets)
    ]


def dependence(
    opened: OpenModel, core: Sequence[Site], extra: Sequence[Site], split: Split,
    score_groups: Sequence[str], n_sets: int, seed: int,
) -> pd.DataFrame:
    """How much of the answer goes from the core through the further heads, and by chance.

    Values are drops of the mean log odds of the right answer (nats) in the full model, each with a
    95 % bootstrap interval over examples. Rows:

    - ``core -> further heads``: the further heads as they are once the core is closed;
    - ``random -> further heads``: the same from random sets with as many heads in each layer as
      the core, none of them further heads; its interval is the range over the sets, its p counts
      sets at least as strong as the core;
    - ``further heads closed``: what the further heads contribute at all;
    - ``core -> 5.1``: the path through one further head, and ``5.1 closed`` its contribution.

    A head can only receive from earlier layers, so paths into the first layers are 0.
    """
    nulls = sender_sets(opened.grid, core, extra, n_sets, seed)
    named: list[tuple[str, Callable[[Batch], Tensor]]] = [
        ("full model", lambda batch: closed(opened, batch, ())),
        ("core -> further heads", lambda batch: through(opened, batch, core, extra)),
        ("further heads closed", lambda batch: closed(opened, batch, extra)),
    ]
    for site in extra:
        named.append((f"core -> {site}", lambda batch, s=site: through(opened, batch, core, [s])))
        named.append((f"{site} closed", lambda batch, s=site: closed(opened, batch, [s])))
    n_named = len(named)
    runs = [run for _, run in named]
    runs += [lambda batch, s=heads: through(opened, batch, s, extra) for heads in nulls]
    values = log_odds(opened, split, runs, "paths from the core")
    rows, strata = scored(split, score_groups)
    drops = values[0] - values[1:]
    drawn = resampled_scores(drops[:, rows], strata, seed=seed, n=opened.settings.n_null)
    low, high = central(drawn)
    means = np.mean([drops[:, split.rows[g]].mean(1) for g in score_groups], axis=0)
    table = pd.DataFrame({
        "path": [name for name, _ in named[1:]], "drop": means[: n_named - 1],
        "low": low[: n_named - 1], "high": high[: n_named - 1], "sets": 1, "p": np.nan,
    })
    null = means[n_named - 1 :]
    table.loc[len(table)] = [
        "random -> further heads", null.mean(), null.min(), null.max(), len(null),
        empirical_p(float(means[0]), null),
    ]
    return table
