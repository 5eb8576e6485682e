"""What the explorer's page is told: the sites, their scores, who keeps them; plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from mechprobe.errors import InputError
from mechprobe.locate.scores import Scores
from mechprobe.locate.subnetwork import Subnetwork
from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.models.edits import HookedModel
from mechprobe.runs import progress as progress_bar
from mechprobe.show.explorer.circuit import Circuit, Measured
from mechprobe.show.tokens_read import is_encoder_decoder, reads_pairs
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.stats.intervals import Interval

Nets: TypeAlias = (
    SubnetworkSet | Sequence[Subnetwork] | Mapping[str, Sequence[SiteName]] | None
)
STACKS = {
    "": "Heads", "enc": "Encoder heads", "dec": "Decoder heads, self-attention",
    "cross": "Decoder heads, cross-attention",
}


@dataclass(frozen=True)
class NamedSets:
    """Sets to start from on the page.

    Attributes:
        kept: the sites that each keeps, by its name.
        counts: how many of the subnetworks keep each site of the grid.
        n_nets: how many subnetworks those counts are of; a core in ``kept`` is none of them.
    """

    kept: Mapping[str, list[str]]
    counts: list[int]
    n_nets: int


def named_sets(nets: Nets, grid: SiteGrid) -> NamedSets:
    """The subnetworks as sets of kept sites.

    Of several members of a ``SubnetworkSet`` the core comes first (what each keeps, MLPs too).
    Sites that a subnetwork does not gate are kept.

    Raises:
        InputError: sites or subnetworks of another model.
    """
    if nets is None:
        return NamedSets({}, [0] * len(grid), 0)
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
        return NamedSets({"core: what all keep": shared, **named}, counts, len(named))
    return NamedSets(named, counts, len(named))


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


def text_fields(model: HookedModel) -> list[str]:
    """What a reader may write for the model to read, one label a field; none without tokenizer."""
    if getattr(model, "tokenizer", None) is None:
        return []
    if is_encoder_decoder(model):
        return ["The encoder reads", "The decoder has written"]
    return ["First text", "Second text"] if reads_pairs(model) else ["Text"]


def single_effects(circuit: Circuit, show: str | None) -> list[list[float]]:
    """What closing each site alone takes from the metric: estimate, low, high.

    Args:
        show: what a progress bar says when it takes long; None: no bar.
    """
    found: list[list[float]] = []
    with nullcontext() if show is None else progress_bar(len(circuit.names), show) as bar:
        for name in circuit.names:
            estimate, low, high = told_interval(circuit.measure([name]).change)
            found.append([0.0 - estimate, 0.0 - high, 0.0 - low])
            if bar is not None:
                bar.update()
    return found


def given_effects(scores: object, circuit: Circuit) -> list[list[float] | None]:
    """The effects of a localiser's scores, site by site; None where it scored none.

    Raises:
        InputError: no ``Scores``, or scores of nothing that the page shows.
    """
    if not isinstance(scores, Scores):
        raise InputError(
            f"scores={type(scores).__name__} does not say by which method, metric and baseline it "
            "was made; give the Scores that ablate, patch, attribute or another localiser returned"
        )
    table = scores.table().set_index("site")
    if not set(table.index) & set(circuit.names):
        raise InputError(
            f"scores of {scores.method} name {table.index[0]!r} and no head or MLP layer of this "
            f"model, such as {circuit.names[0]!r}; score heads or MLP layers, or leave scores out"
        )
    rows = table[["effect", "low", "high"]]
    return [
        _told(*map(float, rows.loc[name])) if name in rows.index else None
        for name in circuit.names
    ]


def told_interval(interval: Interval) -> list[float]:
    """Estimate, low, high; of a single example three times the estimate."""
    return _told(interval.estimate, interval.low, interval.high)


def _told(estimate: float, low: float, high: float) -> list[float]:
    return [_rounded(estimate if math.isnan(v) else v) for v in (estimate, low, high)]


def told_measured(measured: Measured) -> dict[str, Any]:
    """What a set of closed sites does, but for the outputs of an example."""
    return {
        "metric": told_interval(measured.metric), "change": told_interval(measured.change),
        "changed": [None if math.isnan(v) else round(v, 4) for v in measured.changed.tolist()],
    }


def _rounded(value: float) -> float:
    """Six significant digits; no negative zero."""
    return float(f"{value:.6g}") + 0.0
