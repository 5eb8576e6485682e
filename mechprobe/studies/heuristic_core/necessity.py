"""Is it a core? Keep only the shared heads, close only them, against random sets of equal size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import empirical_p
from mechprobe.studies.heuristic_core.data import Split, ood_score
from mechprobe.studies.heuristic_core.search import OpenModel


def random_head_sets(
    grid: SiteGrid, like: Sequence[Site], n_sets: int, seed: int, *, same_layers: bool
) -> list[list[Site]]:
    """Random sets of as many heads as ``like``; with ``same_layers`` as many in each layer."""
    rng = np.random.default_rng([seed, int(same_layers)])
    heads = [site for site in grid.sites if site.kind == "head"]
    if not same_layers:
        return [
            [heads[i] for i in rng.choice(len(heads), len(like), replace=False)]
            for _ in range(n_sets)
        ]
    wanted = {layer: sum(s.layer == layer for s in like) for layer in range(grid.n_layers)}
    sets = []
    for _ in range(n_sets):
        chosen: list[Site] = []
        for layer, count in wanted.items():
            chosen += [
                Site("head", layer, int(h))
                for h in rng.choice(grid.n_heads, count, replace=False)
            ]
        sets.append(chosen)
    return sets


def core_tests(
    opened: OpenModel, core: Sequence[Site], dev: Split, ood: Split,
    score_groups: Sequence[str], n_sets: int, seed: int,
) -> pd.DataFrame:
    """Accuracy with only the core's heads open, with only them closed, and for random sets.

    All MLPs stay open, so that only heads are compared (Bhaskar et al. 2024, section 4). Rows: the
    full model; ``keep`` and ``close`` for the core, for random sets of as many heads, and for
    random sets with as many heads in every layer. Columns: test, heads, in_domain, out_of_domain
    (mean over the scored sub-cases).
    """
    grid = opened.grid
    all_heads = [site for site in grid.sites if site.kind == "head"]
    rows: list[tuple[str, str, np.ndarray]] = [("full", "all", grid.mask())]
    named = {
        "core": [list(core)],
        "random": random_head_sets(grid, core, n_sets, seed, same_layers=False),
        "random, same layers": random_head_sets(grid, core, n_sets, seed, same_layers=True),
    }
    for name, sets in named.items():
        for heads in sets:
            others = [site for site in all_heads if site not in set(heads)]
            rows.append(("keep", name, grid.mask(closed=others)))
            rows.append(("close", name, grid.mask(closed=heads)))
    gates = np.stack([gate for _, _, gate in rows])
    in_domain = opened.correct(gates, dev, "core tests in domain").mean(1)
    outcomes = opened.correct(gates, ood, "core tests out of domain")
    return pd.DataFrame({
        "test": [test for test, _, _ in rows],
        "heads": [name for _, name, _ in rows],
        "in_domain": in_domain,
        "out_of_domain": ood_score(outcomes, ood, score_groups),
    })


def core_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a test and kind of set: mean, range, and how extreme the core is among random sets.

    ``p`` is (1 + random sets at least as extreme) / (1 + random sets), in domain: for ``close``
    at most the core's accuracy, for ``keep`` at least. It is NaN for the core itself.
    """
    tests, kinds = table["test"].to_numpy(), table["heads"].to_numpy()
    out = []
    for test, heads in dict.fromkeys(zip(tests, kinds, strict=True)):
        mine = (tests == test) & (kinds == heads)
        row: dict[str, object] = {"test": test, "heads": heads, "sets": int(mine.sum())}
        for column in ("in_domain", "out_of_domain"):
            values = table[column].to_numpy()[mine]
            row |= {column: values.mean(), f"{column}_low": values.min(),
                    f"{column}_high": values.max()}
        row["p"] = np.nan
        if heads not in ("core", "all"):
            in_domain = table["in_domain"].to_numpy()
            core = float(in_domain[(tests == test) & (kinds == "core")][0])
            row["p"] = empirical_p(core, in_domain[mine], "less" if test == "close" else "greater")
        out.append(row)
    return pd.DataFrame(out)
