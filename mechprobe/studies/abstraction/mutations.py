"""What is left of the gain when one thing in the auxiliary task is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from mechprobe.stats.nested import nested_bootstrap, nested_ratio
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.tasks.abstraction import MUTATIONS

KINDS = {"level": ("low", "high"), "side": ("source", "target")}
"""How mutations are told apart; of each pair the first is said to leave more."""


def mutated_name(mutation: str, index: int) -> str:
    """The unit, and the kept model, of a changed auxiliary task of one set."""
    return f"mutated-{mutation}-{index}"


def gains_by_item(settings: Settings, found: Mapping[str, Mapping]) -> dict[str, list[np.ndarray]]:
    """MainExp less ControlExp for each mutation and for no mutation (""): an array [item] a set."""
    adapt = settings.adapt[-1]

    def right(name: str) -> np.ndarray:
        return np.array(found[f"target-{name}"]["ood"], float)

    def sets(of: Mapping[int, str]) -> list[np.ndarray]:
        return [right(name) - right(f"control-{adapt}-{i}") for i, name in of.items()]

    every = range(settings.n_sets)
    return {"": sets({i: f"auxiliary-{adapt}-{i}" for i in every})} | {
        m: sets({i: f"{mutated_name(m, i)}-{adapt}" for i in every}) for m in settings.mutations
    }


def mutation_table(settings: Settings, found: Mapping[str, Mapping]) -> pd.DataFrame:
    """Retained gain of each mutation: rho = Delta(mutated) / Delta(auxiliary), over all sets.

    Columns: mutation, side, level, changed, learnt (in-distribution exact match of the changed
    auxiliary task), delta and rho with intervals over sets and items (rho is NaN without a gain to
    keep, its interval where that gain may be 0).
    """
    gains = gains_by_item(settings, found)
    rows = []
    for mutation in settings.mutations:
        ends = nested_bootstrap(gains[mutation], settings.seed, settings.n_boot)
        rho = nested_ratio(gains[mutation], gains[""], settings.seed, settings.n_boot)
        learnt = [found[mutated_name(mutation, i)]["dev"] for i in range(settings.n_sets)]
        rows.append({
            "mutation": mutation, "side": MUTATIONS[mutation].side,
            "level": MUTATIONS[mutation].level, "changed": MUTATIONS[mutation].meaning,
            "learnt": float(np.mean([np.mean(part) for part in learnt])),
            "delta": ends.estimate, "low": ends.low, "high": ends.high,
            "rho": rho.estimate, "rho_low": rho.low, "rho_high": rho.high,
        })
    return pd.DataFrame(rows)


def kind_of_mutation_table(settings: Settings, found: Mapping[str, Mapping]) -> pd.DataFrame:
    """Low against high level, source against target side; a kind that was not run is left out.

    Columns: kind, first, second, delta_first, delta_second (mean gain left by their mutations),
    rho_first, rho_second, difference of the gains with its interval over sets and items, paired by
    item. Mutations are not drawn again: what is said is said of these.
    """
    gains = gains_by_item(settings, found)
    whole = float(np.mean([part.mean() for part in gains[""]]))
    rows = []
    for kind, (first, second) in KINDS.items():
        mine = {
            name: [m for m in settings.mutations if getattr(MUTATIONS[m], kind) == name]
            for name in (first, second)
        }
        if not all(mine.values()):
            continue
        means = {name: _mean_of(gains, chosen) for name, chosen in mine.items()}
        deltas = [float(np.mean([p.mean() for p in means[name]])) for name in (first, second)]
        pairs = zip(means[first], means[second], strict=True)
        ends = nested_bootstrap([a - b for a, b in pairs], settings.seed, settings.n_boot)
        rhos = [delta / whole if whole > 0 else float("nan") for delta in deltas]
        rows.append({
            "kind": kind, "first": first, "second": second,
            "delta_first": deltas[0], "delta_second": deltas[1],
            "rho_first": rhos[0], "rho_second": rhos[1],
            "difference": ends.estimate, "low": ends.low, "high": ends.high,
        })
    return pd.DataFrame(rows)


def _mean_of(
    gains: Mapping[str, list[np.ndarray]], chosen: Collection[str]
) -> list[np.ndarray]:
    return [np.mean(parts, axis=0) for parts in zip(*(gains[m] for m in chosen), strict=True)]
