"""All minimal sufficient sets of heads: exactly for small models, by a search for large ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.circuit_sets import Circuits
from mechprobe.locate.measure import baseline_for, grid_for
from mechprobe.locate.minimal_sets import (
    ALL_SUBSETS_UP_TO,
    Family,
    dualise,
    exhaustive,
    largest_size,
    probe,
    shrink,
)
from mechprobe.locate.sufficiency import BoundMet, Sufficiency
from mechprobe.locate.transversals import TooManySets, elements, minimal_transversals
from mechprobe.models.edits import HookedModel
from mechprobe.runs.progress import progress
from mechprobe.sites import Site, SiteGrid, SiteName

EXACT_UP_TO = 12
MOST_EXACT = 24
METHODS = ("auto", "exact", "search")
_ROUNDS = 5


@dataclass(frozen=True)
class _Effort:
    """How far the search goes."""

    method: str
    sweep: int
    probes: int
    max_sets: int
    seed: int


def find_circuits(
    model: HookedModel,
    task: AnyTask,
    baseline: str | Baseline = "paired",
    *,
    sites: str | Sequence[SiteName] = "heads",
    metric: str | Callable[..., Tensor] | None = None,
    tolerance: float = 0.0,
    method: str = "auto",
    select: str = "all",
    split: str = "dev",
    n: int | None = 512,
    seed: int = 0,
    sweep: int = 600,
    probes: int = 32,
    max_sets: int = 64,
    max_forwards: int = 200_000,
) -> Circuits:
    """All minimal sets of sites that keep a behaviour while every other candidate is closed.

    A set is sufficient when the metric's mean is at least the full model's less ``tolerance``: with
    accuracy and the default 0, when it is as accurate as the full model. It is minimal when no
    proper subset is sufficient, whether or not opening more sites can lose the behaviour. Sites
    that are no candidates (MLPs, by default) stay open.

    "exact" decides the sets by rising size, leaving out those that contain a sufficient one, and
    assumes nothing. "search" does so for small sizes (``sweep`` sets), then finds the others under
    the assumption that opening sites never loses the behaviour: sets are shrunk by bisection, and
    the sets that meet every circuit found are closed until each of them breaks the behaviour
    ("dualise and advance", Gunopulos et al. 2003). It asks about every proper subset of what it
    finds (up to 10 sites), and tests the assumption on random sets. ``Circuits.guarantee`` says
    what is certain.

    Args:
        baseline: what stands in a closed site's place; "paired": its value in the counterfactual
            run.
        sites: the candidates: "heads", "mlps", "all", or a list.
        metric: instead of the task's own. With one that is not a share of right answers, give a
            ``tolerance`` in its unit.
        method: "exact", "search", or "auto": exact for up to 12 candidates.
        select: "all" rows decide (for the exact criterion, on complete or planted data), or a
            random "half", and the circuits are measured again on the other half.
        split, n: for sentence-pair tasks, and how many examples at most, drawn with ``seed``.
        seed: decides halves, random sets and the order of the search.
        sweep: sets that the search decides without assumption, smallest first.
        probes: random sets that test the assumption.
        max_sets: circuits after which it stops.
        max_forwards: model passes over 64 examples after which it stops.

    Raises:
        InputError: an unknown method, selection, baseline or site; a task that does not fit; a
            negative tolerance.
    """
    _check(method, select, tolerance, probes, sweep)
    behaviour = behaviour_of(model, task, metric=metric, split=split, n=n, seed=seed)
    grid, candidates = grid_for(model, sites)
    grid = _only(grid, candidates)
    method = _chosen(method, len(candidates))
    everyone = np.arange(len(behaviour))
    rows, report = (everyone, everyone) if select == "all" else behaviour.halves(seed)
    reference = None if select == "all" else behaviour.take(rows).batches()
    closing = baseline_for(baseline, model, behaviour, grid, reference=reference, seed=seed)
    effort = _Effort(method, sweep, probes, max_sets, seed)
    with progress(0, "circuits", unit="set") as bar:
        holds = Sufficiency(
            model, behaviour, grid, candidates, closing, rows=rows, tolerance=tolerance,
            max_forwards=max_forwards, on_sets=bar.update,
        )
        family = Family()
        try:
            _search(holds, len(candidates), family, effort)
        except BoundMet:
            family.complete = False
    family.minimal = family.minimal[:max_sets]
    if family.minimal == [0]:
        warnings.warn(
            f"{behaviour.name}: with every candidate closed the behaviour is as good "
            f"({behaviour.metric_name} {holds.full.mean():.3g}); no site here is needed",
            stacklevel=2,
        )
    return _result(holds, family, candidates, effort, report, closing.kind, tolerance, {
        "task": behaviour.name, "examples": len(behaviour), "select": select, "seed": seed,
        "sweep": sweep, "probes": probes, "max_sets": max_sets, "max_forwards": max_forwards,
    })


def _check(method: str, select: str, tolerance: float, probes: int, sweep: int) -> None:
    if method not in METHODS:
        raise InputError(f"method={method!r}; give one of {', '.join(METHODS)}")
    if select not in ("all", "half"):
        raise InputError(f"select={select!r}; give 'all' rows or 'half' of them")
    if not tolerance >= 0 or probes < 0 or sweep < 0:
        raise InputError(
            f"tolerance {tolerance}, probes {probes}, sweep {sweep}; give each as 0 or more"
        )


def _chosen(method: str, n: int) -> str:
    if method == "auto":
        return "exact" if n <= EXACT_UP_TO else "search"
    if method == "exact" and n > MOST_EXACT:
        raise InputError(
            f"{n} candidates have {2**n:.2g} sets; give method='search', or up to {MOST_EXACT} "
            "sites for 'exact'"
        )
    return method


def _only(grid: SiteGrid, candidates: Sequence[Site]) -> SiteGrid:
    """The grid without the kinds that no candidate has: they stay open, so need no gate."""
    kinds = {site.kind for site in candidates}
    return replace(grid, heads="head" in kinds, mlps="mlp" in kinds, neurons="neuron" in kinds)


def _search(holds: Sufficiency, n: int, family: Family, effort: _Effort) -> None:
    size = None if effort.method == "exact" else largest_size(n, effort.sweep)
    if not exhaustive(holds, n, family, size=size, max_sets=effort.max_sets):
        return
    if family.decided_size >= n:
        family.complete = True
        probe(holds, n, family, count=effort.probes, seed=effort.seed)
        return
    order = np.random.default_rng([effort.seed, 5]).permutation(n).tolist()
    for round_ in range(_ROUNDS):
        dualise(holds, n, family, order=order, max_sets=effort.max_sets)
        if not family.complete:
            return
        missed = probe(
            holds, n, family, count=effort.probes, seed=effort.seed + 1000 * round_
        )
        if not missed:
            return
        for mask in missed:
            family.add(shrink(holds, mask, order))
    family.complete = False


def _result(
    holds: Sufficiency, family: Family, candidates: Sequence[Site], effort: _Effort,
    report: np.ndarray, baseline: str, tolerance: float, settings: dict[str, Any],
) -> Circuits:
    circuits = sorted(family.minimal, key=lambda m: (m.bit_count(), tuple(elements(m))))
    select = holds.rows
    everyone = np.union1d(select, report)
    final = holds.over(everyone)
    *values, closed = final.values([*circuits, 0])
    exact = family.complete and family.decided_size >= len(candidates)

    def sites(mask: int) -> frozenset[Site]:
        return frozenset(candidates[e] for e in elements(mask))

    return Circuits(
        circuits=tuple(sites(mask) for mask in circuits),
        breaking=tuple(sites(mask) for mask in _breaking(family)),
        candidates=tuple(candidates),
        values=np.array(values).reshape(len(circuits), len(everyone)),
        full=final.full, closed=closed, select=select, report=report,
        metric=holds.behaviour.metric_name, baseline=baseline, tolerance=tolerance,
        method=effort.method, exact=exact, complete=family.complete, monotone=family.monotone,
        guarantee=_guarantee(family, len(candidates), exact), forwards=final.forwards,
        grid=holds.grid, settings=settings,
    )


def _breaking(family: Family) -> list[int]:
    if family.breaking or not family.minimal:
        return family.breaking
    try:
        return sorted(minimal_transversals(family.minimal, 1000), key=lambda m: (m.bit_count(), m))
    except TooManySets:
        return []


def _guarantee(family: Family, n: int, exact: bool) -> str:
    """What is certain, in words."""
    if exact:
        text = (
            f"Every set of the {n} candidates was decided or contains a circuit: these are all "
            "minimal sufficient sets on these examples, without any assumption."
        )
    elif not family.complete:
        text = (
            f"{_decided(family, n)}. A bound was met (max_sets, max_forwards, too many sets to "
            "combine, or random sets that kept showing further circuits): each circuit is "
            "sufficient, but others may be missing, and the last found may not be minimal."
        )
    else:
        text = (
            f"{_decided(family, n)}, without any assumption. Larger circuits are all found if "
            "opening sites never loses the behaviour: closing any one of the "
            f"{len(family.breaking)} smallest sets that meet every circuit breaks it. Every proper "
            f"subset of a circuit of up to {ALL_SUBSETS_UP_TO} sites was seen to fail (every "
            "removal of one site from a larger one)."
        )
    return text + _seen(family)


def _decided(family: Family, n: int) -> str:
    if family.decided_size < 0:
        return "No size was decided in full"
    return f"Every set of up to {family.decided_size} of the {n} candidates was decided"


def _seen(family: Family) -> str:
    if not family.probes:
        return ""
    if family.monotone:
        return f" {family.probes} random sets were as the circuits predict."
    said = f" Of {family.probes} random sets"
    if family.lost:
        said += f" {len(family.lost)} lost the behaviour though they contain a circuit;"
    if family.missed:
        said += (
            f" {len(family.missed)} kept it without a circuit known by then, each inside a set "
            "that loses it;"
        )
    return said + " opening sites can hurt here, so other circuits may be missing."
