"""Scores: what every localiser returns, one effect a site with its certainty."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from mechprobe.errors import InputError
from mechprobe.figures import head_map, site_effects
from mechprobe.locate.effects import ALPHA, check_effects, effect_columns, effect_order
from mechprobe.locate.kept import grid_of, grid_settings, keep, kept
from mechprobe.locate.tabled import Tabled
from mechprobe.sites import Site, SiteGrid, SiteName

FORMAT = "mechprobe scores 1"
_RESIDUAL = re.compile(r"resid (\d+) @ (\d+)")


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Tabled):
    """How much each site matters to a behaviour, by one method.

    Attributes:
        method: which localiser ("ablate", "patch, noising", ...).
        sites: names of what was scored: "5.1", "mlp.3", or for other places "resid 3 @ 5".
        effects: per site and example; positive: the site supports the behaviour, in the metric's
            unit.
        select: rows (examples) to rank sites on.
        report: held-out rows that estimates, intervals and p-values come from.
        metric: name of the metric.
        baseline: what stood in a closed site's place.
        forwards: model passes over one batch that it took.
        settings: what else made it, plain JSON values.
        grid: the model's sites, for pictures; None where places are not sites.

    Raises:
        InputError: effects of another shape than the sites, rows that they do not have.
    """

    method: str
    sites: tuple[str, ...]
    effects: Float[np.ndarray, "site example"]
    select: Int[np.ndarray, " a"]
    report: Int[np.ndarray, " b"]
    metric: str
    baseline: str
    forwards: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: SiteGrid | None = None

    def __post_init__(self) -> None:
        check_effects(self.effects, self.sites, (self.select, self.report), "site")

    @cached_property
    def ranking(self) -> list[str]:
        """Sites from the largest effect on the selection rows to the smallest."""
        return [self.sites[i] for i in self._order]

    @cached_property
    def _order(self) -> Int[np.ndarray, " site"]:
        return effect_order(self.effects, self.select)

    @cached_property
    def estimate(self) -> Float[np.ndarray, " site"]:
        """Mean effect on the held-out rows."""
        return self.effects[:, self.report].mean(1)

    def top(self, n: int = 10) -> list[str]:
        """The n sites with the largest effects, chosen on the selection rows."""
        return self.ranking[:n]

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row a site, in the order of ``ranking``.

        Columns: site, effect (held-out mean), low, high (95 % bootstrap interval over examples),
        selection (mean on the selection rows), p (two-sided sign-flip test on held-out rows that
        the mean is zero), p_corrected (Holm over all sites). With many sites more signs are
        drawn, so that the correction alone never hides a site.
        """
        table = effect_columns(self.effects, self.select, self.report, seed)
        table.insert(0, "site", self.sites)
        return table.iloc[self._order].reset_index(drop=True)

    def __getitem__(self, site: SiteName) -> pd.Series:
        """A site's row of ``table()``: ``scores["5.1"]["effect"]``, ``scores[(5, 1)]["low"]``.

        Raises:
            InputError: a site that was not scored.
        """
        name = site if isinstance(site, str) and site in self.sites else str(Site.parse(site))
        if name not in self.sites:
            near = ", ".join(difflib.get_close_matches(name, self.sites, n=3, cutoff=0.0))
            raise InputError(f"{name!r} was not scored; nearest: {near}")
        return self._rows.loc[name]

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return self.table().set_index("site")

    def head_values(self) -> Float[np.ndarray, "layer head"]:
        """Held-out effects of the heads as a map, NaN where a head was not scored.

        Raises:
            InputError: no head was scored.
        """
        values = self._on_grid("head")
        if values is None or self.grid is None:
            raise InputError(f"{self.method} scored no heads; use .table()")
        return self.grid.head_array(values)

    def _on_grid(self, kind: str) -> Float[np.ndarray, "site"] | None:
        """Held-out effects of one kind of site in the order of the grid; None where none is."""
        if self.grid is None:
            return None
        values = np.full(len(self.grid), np.nan)
        for name, value in zip(self.sites, self.estimate, strict=True):
            site = Site.parse(name)
            if site.kind == kind:
                values[self.grid.index(site)] = value
        return None if np.isnan(values).all() else values

    def _residual(self) -> Float[np.ndarray, "layer position"] | None:
        """Held-out effects of residual positions as a map; None when other places are scored."""
        named = [_RESIDUAL.fullmatch(name) for name in self.sites]
        if not named or not all(named):
            return None
        places = [(int(found[1]), int(found[2])) for found in named if found]
        shape = np.max(places, axis=0) + 1
        values = np.full(shape, np.nan)
        for (layer, position), value in zip(places, self.estimate, strict=True):
            values[layer, position] = value
        return values

    def significant(self, seed: int = 0) -> list[str]:
        """Sites whose held-out effect is not zero (p_corrected < .05), in the ranking's order."""
        table = self.table(seed)
        return list(table["site"][table["p_corrected"] < ALPHA])

    def plot(self) -> Figure:
        """The held-out effects: a map of heads (and MLPs) or positions, else the first fifteen.

        Sites with p_corrected < .05 are framed, or filled.
        """
        unit = f"effect on {self.metric}"
        if (residual := self._residual()) is not None:
            return head_map(
                residual, title=self.method, unit=unit, diverging=True, number=".2g",
                columns="position",
            )
        heads, mlps = self._on_grid("head"), self._on_grid("mlp")
        if heads is None or self.grid is None or self.grid.stacks != ("",):
            return site_effects({self.method: self.table()}, unit=unit, title=self.method)
        kinds = ("head", "mlp")
        marked = [s for s in map(Site.parse, self.significant()) if s.kind in kinds]
        return head_map(
            self.head_values(), title=self.method, unit=unit, diverging=True, marked=marked,
            framed="p < .05, corrected", number=".2g",
            mlps=None if mlps is None else self.grid.mlp_array(mlps),
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``scores.safetensors`` and ``scores.csv`` into a folder, made if need be."""
        described = {
            "format": FORMAT, "method": self.method, "sites": list(self.sites),
            "metric": self.metric, "baseline": self.baseline, "forwards": self.forwards,
            "settings": dict(self.settings), "grid": grid_settings(self.grid),
        }
        arrays = {
            "effects": self.effects.astype(np.float64),
            "select": self.select.astype(np.int64), "report": self.report.astype(np.int64),
        }
        return keep(folder, "scores", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> Scores:
        """Read what ``save`` wrote.

        Raises:
            InputError: no scores there, or a file that cannot be read.
        """
        with kept(folder, "scores", ("effects", "select", "report")) as (described, arrays):
            return Scores(
                method=described["method"], sites=tuple(described["sites"]), **arrays,
                metric=described["metric"], baseline=described["baseline"],
                forwards=described["forwards"], settings=described["settings"],
                grid=described["grid"] and grid_of(described["grid"]),
            )


def spearman(first: Scores, second: Scores) -> float:
    """Rank agreement of two localisers over the sites both scored (Spearman's rho).

    Raises:
        InputError: fewer than three sites in common.
    """
    shared = [site for site in first.sites if site in set(second.sites)]
    if len(shared) < 3:
        raise InputError(f"{len(shared)} sites in common; rank agreement needs three or more")
    values = [
        [scores.estimate[scores.sites.index(site)] for site in shared] for scores in (first, second)
    ]
    return float(np.asarray(spearmanr(values[0], values[1]))[0])


def agreement(scores: Sequence[Scores]) -> pd.DataFrame:
    """Spearman's rho between every two of several localisers, methods by methods."""
    names = [f"{s.method}, {s.baseline}" for s in scores]
    rows = [[1.0 if a is b else spearman(a, b) for b in scores] for a in scores]
    return pd.DataFrame(rows, index=names, columns=names)
