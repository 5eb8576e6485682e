"""Is it a core? Keep only the shared heads, close only them, against random sets of equal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import central, empirical_p, resampled_scores
from mechprobe.studies.heuristic_core.data import Split, ood_score, scored
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
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy with only the core's heads open, with only them closed, and for random sets.

    All MLPs stay open, so that only heads are compared (Bhaskar et al. 2024, section 4). Rows: the
    full model; ``keep`` and ``close`` for the core, for random sets of as many heads, and for
    random sets with as many heads in every layer. Columns: test, heads, in_domain, out_of_domain
    (mean over the scored sub-cases), each with the ends of a 95 % bootstrap interval over examples
    (``_ci_low``, ``_ci_high``).

    Returns:
        The table, and the contrasts: the core minus the mean of each kind of random sets, with the
        interval over the same examples (sets held fixed).
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
    table = pd.DataFrame({
        "test": [test for test, _, _ in rows], "heads": [name for _, name, _ in rows],
    })
    inside = opened.correct(gates, dev, "core tests in domain")
    outside = opened.correct(gates, ood, "core tests out of domain")
    chosen, strata = scored(ood, score_groups)
    n_draws = opened.settings.n_null
    drawn = {
        "in_domain": resampled_scores(inside, seed=seed, n=n_draws),
        "out_of_domain": resampled_scores(outside[:, chosen], strata, seed=seed, n=n_draws),
    }
    table["in_domain"] = inside.mean(1)
    table["out_of_domain"] = ood_score(outside, ood, score_groups)
    for name, draws in drawn.items():
        table[f"{name}_ci_low"], table[f"{name}_ci_high"] = central(draws)
    return table, core_contrasts(table, drawn)


def core_contrasts(table: pd.DataFrame, drawn: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The core minus the mean of the random sets, per test and kind of set, with its interval.

    Args:
        table: rows of ``core_tests``.
        drawn: bootstrap draws [draw, row] of each accuracy column.
    """
    tests, kinds = table["test"].to_numpy(), table["heads"].to_numpy()
    out = []
    for test, kind in dict.fromkeys(zip(tests, kinds, strict=True)):
        if kind in ("all", "core"):
            continue
        core, sets = (tests == test) & (kinds == "core"), (tests == test) & (kinds == kind)
        row: dict[str, object] = {"test": test, "against": kind, "sets": int(sets.sum())}
        for name, draws in drawn.items():
            values = table[name].to_numpy()
            low, high = central(draws[:, core].mean(1) - draws[:, sets].mean(1))
            row |= {f"{name}_difference": values[core].mean() - values[sets].mean(),
                    f"{name}_ci_low": float(low), f"{name}_ci_high": float(high)}
        out.append(row)
    return pd.DataFrame(out)


def core_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a test and kind of set: mean, range, and how extreme the core is among random sets.

    ``_low`` and ``_high`` are the range over sets; ``_ci_low`` and ``_ci_high``, where there is one
    set, its 95 % interval over examples.

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
            for end in ("ci_low", "ci_high"):
                ends = table[f"{column}_{end}"].to_numpy()[mine]
                row[f"{column}_{end}"] = ends[0] if len(ends) == 1 else np.nan
        row["p"] = np.nan
        if heads not in ("core", "all"):
            in_domain = table["in_domain"].to_numpy()
            core = float(in_domain[(tests == test) & (kinds == "core")][0])
            row["p"] = empirical_p(core, in_domain[mine], "less" if test == "close" else "greater")
        out.append(row)
    return pd.DataFrame(out)
