"""What the explorer's page is told: the sites, their scores, who keeps them; plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

from mechprobe.errors import InputError
from mechprobe.locate.scores import Scores
from mechprobe.locate.subnetwork import Subnetwork
from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.runs import progress as progress_bar
from mechprobe.show.explorer.circuit import Circuit, Measured
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.stats.intervals import Interval

Nets: TypeAlias = (
    SubnetworkSet | Sequence[Subnetwork] | Mapping[str, Sequence[SiteName]] | None
)
STACKS = {
    "": "Heads", "enc": "Encoder heads", "dec": "Decoder heads, self-attention",
    "cross": "Decoder heads, cross-attention",
}


def named_sets(nets: Nets, grid: SiteGrid) -> tuple[dict[str, list[str]], list[int]]:
    """Sets of kept sites by name, and how many of the subnetworks keep each site.

    Of a ``SubnetworkSet`` of several the core comes first (what every member keeps, MLPs too).
    Sites that a subnetwork does not gate are kept.

    Raises:
        InputError: sites or subnetworks of another model.
    """
    if nets is None:
        return {}, [0] * len(grid)
    if isinstance(nets, Mapping):
        named = {str(name): _sites(kept, grid) for name, kept in nets.items()}
    else:
        members = list(nets)
        named = {}
        for i, net in enumerate(members):
            if not isinstance(net, Subnetwork):
                raise InputError(
                    f"nets holds {net!r}; give a SubnetworkSet, subnetworks, or a mapping from "
                    "names to the sites each keeps"
                )
            closed = [str(s) for s in net.sites if s.kind != "neuron" and s not in set(net.kept)]
            shut = {*_sites(closed, grid)}
            name = f"{i}: seed {net.seed}, {100 * net.sparsity_target:g} % closed"
            named[name] = [str(site) for site in grid if str(site) not in shut]
    counts = [sum(str(site) in kept for kept in map(set, named.values())) for site in grid]
    if len(named) > 1 and not isinstance(nets, Mapping):
        shared = [str(s) for s, count in zip(grid, counts, strict=True) if count == len(named)]
        named = {"core: what all keep": shared, **named}
    return named, counts


def _sites(names: Sequence[SiteName], grid: SiteGrid) -> list[str]:
    if isinstance(names, str):
        raise InputError(f"a set of sites is a list, not {names!r}; give ['5.1', 'mlp.3']")
    out: list[str] = []
    for name in names:
        site = Site.parse(name)
        if site in grid.layer_columns and site.kind == "head":
            out += [str(s) for s in grid.sites[grid.layer_columns[site]]]
        else:
            out.append(str(grid.sites[grid.index(site)]))
    return out


def layout(grid: SiteGrid) -> list[dict[str, Any]]:
    """The grids to draw: for each stack its rows, a layer each, of site numbers."""
    drawn = []
    for stack in grid.stacks:
        rows = []
        for layer in range(grid.n_layers):
            heads = [grid.index(Site("head", layer, h, stack)) for h in range(grid.n_heads)]
            mlp = Site("mlp", layer, None, stack)
            rows.append({
                "layer": layer, "heads": heads,
                "mlp": grid.index(mlp) if grid.mlps and stack != "cross" else None,
            })
        drawn.append({"stack": stack, "title": STACKS[stack], "rows": rows})
    return drawn


def single_effects(circuit: Circuit, show: str | None) -> list[list[float]]:
    """What closing each site alone takes from the metric: estimate, low, high.

    Args:
        show: what a progress bar says when it takes long; None: no bar.
    """
    found: list[list[float]] = []
    with nullcontext() if show is None else progress_bar(len(circuit.names), show) as bar:
        for name in circuit.names:
            change = circuit.measure([name]).change
            found.append([-change.estimate, -change.high, -change.low])
            if bar is not None:
                bar.update()
    return [[_rounded(v) for v in row] for row in found]


def given_effects(scores: Scores, circuit: Circuit) -> list[list[float] | None]:
    """The effects of a localiser's scores, site by site; None where it scored none."""
    table = scores.table().set_index("site")
    return [
        [_rounded(float(table.loc[name, column])) for column in ("effect", "low", "high")]
        if name in table.index else None
        for name in circuit.names
    ]


def told_interval(interval: Interval) -> list[float]:
    """Estimate, low, high; of a single example three times the estimate."""
    ends = [interval.estimate if math.isnan(v) else v for v in (interval.low, interval.high)]
    return [_rounded(v) for v in (interval.estimate, *ends)]


def told_measured(measured: Measured) -> dict[str, Any]:
    """What a set of closed sites does, but for the outputs of an example."""
    return {
        "metric": told_interval(measured.metric), "change": told_interval(measured.change),
        "changed": [None if math.isnan(v) else round(v, 4) for v in measured.changed.tolist()],
    }


def _rounded(value: float) -> float:
    """Six significant digits; no negative zero."""
    return float(f"{value:.6g}") + 0.0
