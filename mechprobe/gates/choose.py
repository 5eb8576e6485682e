"""The sites a user names, in a model's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.sites import Site, SiteGrid, SiteName


def chosen_sites(grid: SiteGrid, sites: str | Sequence[SiteName]) -> list[Site]:
    """The sites a user names: "heads", "mlps", "all", or a list of them ("5.*" is a whole layer).

    Raises:
        InputError: a site that does not exist, naming the nearest.
    """
    match sites:
        case "all":
            return list(grid.sites)
        case "heads" | "mlps" as kinds:
            found = [site for site in grid.sites if f"{site.kind}s" == kinds]
            if not found:
                raise InputError(f"this model has no {kinds}; name other sites")
            return found
        case str():
            raise InputError(f"sites={sites!r}; give 'heads', 'mlps', 'all' or a list of sites")
    out: list[Site] = []
    for named in sites:
        site = Site.parse(named)
        if site.kind != "mlp" and site.index is None and site in grid.layer_columns:
            out += grid.sites[grid.layer_columns[site]]
        else:
            out.append(grid.sites[grid.index(site)])
    if len(set(out)) != len(out):
        double = next(site for site in out if out.count(site) > 1)
        raise InputError(f"site {str(double)!r} is named twice; name each once")
    if not out:
        raise InputError("no sites were named; give 'heads', 'mlps', 'all' or a list of sites")
    return out


def grid_for(model: HookedModel, sites: str | Sequence[SiteName]) -> tuple[SiteGrid, list[Site]]:
    """The model's grid and the chosen sites in it; neurons are gated when some are named."""
    grid = site_grid(model)
    if not isinstance(sites, str) and grid.n_neurons:
        named = any(Site.parse(site).kind == "neuron" for site in sites)
        grid = replace(grid, neurons=named)
    return grid, chosen_sites(grid, sites)
