"""Circuits: minimal sufficient sets of sites, what they score, and whether any may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures import head_map
from mechprobe.locate.kept import grid_of, grid_settings, keep, kept
from mechprobe.locate.overlap import overlaps
from mechprobe.locate.tabled import Tabled
from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import bootstrap_mean

_PLAIN = (
    "metric", "baseline", "tolerance", "method", "exact", "complete", "monotone", "guarantee",
    "forwards",
)  # fmt: skip
_ARRAYS = ("values", "full", "closed", "select", "report")


@dataclass(frozen=True, eq=False, repr=False)
class Circuits(Tabled):
    """All minimal sufficient sets of sites that were found, small ones first.

    Iterating gives frozensets of ``Site``. A set is sufficient when the metric's mean, with every
    other candidate closed, is at least the full model's less ``tolerance``; minimal when no proper
    subset is.

    Attributes:
        circuits: the sets.
        breaking: the smallest sets that share a site with every circuit found.
        candidates: the sites that could be closed.
        values: the metric of each circuit on every example.
        full: that of the untouched model.
        closed: that with every candidate closed.
        select: rows (examples) that decided.
        report: held-out rows; the same as ``select`` when all decided.
        metric: name of the metric.
        baseline: what stood in a closed site's place.
        tolerance: how much of the metric a sufficient set may lose.
        method: "exact" or "search".
        exact: whether the list is complete and every circuit minimal without any assumption.
        complete: whether the search ended by itself; False: a bound was met, there may be more.
        monotone: False when a set was seen to lose the behaviour though it contains a circuit.
        guarantee: what is certain about the list, in words.
        forwards: model passes over one batch (64 examples) that it took.
        settings: what else made it, plain JSON values.
        grid: the model's gated sites.
    """

    circuits: tuple[frozenset[Site], ...]
    breaking: tuple[frozenset[Site], ...]
    candidates: tuple[Site, ...]
    values: Float[np.ndarray, "circuit example"]
    full: Float[np.ndarray, " example"]
    closed: Float[np.ndarray, " example"]
    select: Int[np.ndarray, " a"]
    report: Int[np.ndarray, " b"]
    metric: str
    baseline: str
    tolerance: float
    method: str
    exact: bool
    complete: bool
    monotone: bool
    guarantee: str
    forwards: int
    grid: SiteGrid
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[frozenset[Site]]:
        return iter(self.circuits)

    def __len__(self) -> int:
        return len(self.circuits)

    def __getitem__(self, index: SupportsIndex) -> frozenset[Site]:
        return self.circuits[index]

    @cached_property
    def core(self) -> frozenset[Site]:
        """The sites that every circuit contains; empty when there is no circuit."""
        return frozenset.intersection(*self.circuits) if self.circuits else frozenset()

    @property
    def held_out(self) -> bool:
        """Whether circuits were measured on rows that did not decide."""
        return not np.array_equal(self.select, self.report)

    def members(self) -> Bool[np.ndarray, "circuit candidate"]:
        """Which candidates each circuit contains."""
        rows = [[site in circuit for site in self.candidates] for circuit in self]
        return np.array(rows, dtype=bool).reshape(len(self), len(self.candidates))

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row a circuit.

        Columns: circuit (its sites), size, selection (mean on the rows that decided), value, full
        and closed (means on the reported rows of the circuit, the untouched model and the model
        with every candidate closed), loss with low and high (full less circuit, 95 % bootstrap
        interval over examples), holds (whether the reported mean is within the tolerance).
        """
        columns = [
            "circuit", "size", "selection", "value", "full", "closed", "loss", "low", "high",
            "holds",
        ]  # fmt: skip
        full = self.full[self.report]
        rows = []
        for circuit, values in zip(self, self.values, strict=True):
            loss = bootstrap_mean(full - values[self.report], seed=seed)
            rows.append([
                named(circuit), len(circuit), values[self.select].mean(),
                values[self.report].mean(), full.mean(), self.closed[self.report].mean(),
                loss.estimate, loss.low, loss.high,
                bool(loss.estimate <= self.tolerance + 1e-6 * max(1.0, abs(full.mean()))),
            ])
        return pd.DataFrame(rows, columns=columns)

    def overlap(self) -> pd.DataFrame:
        """Shared sites of every two circuits against chance (``mechprobe.locate.overlap``)."""
        return overlaps(
            {named(circuit): circuit for circuit in self}, self.candidates,
        )

    def plot(self) -> Figure:
        """Map of the heads: the share of circuits that contain each; those in all are framed.

        Raises:
            InputError: no head was a candidate, or no circuit was found.
        """
        if not self.circuits or not self.grid.heads:
            raise InputError("no circuit of heads to draw; see .table() and .guarantee")
        values = np.full(len(self.grid), np.nan)
        values[[self.grid.index(site) for site in self.candidates]] = self.members().mean(0)
        plural = "" if len(self) == 1 else "s"
        return head_map(
            self.grid.head_array(values), title=f"{len(self)} minimal circuit{plural}",
            unit="share of circuits", limits=(0.0, 1.0),
            marked=[site for site in self.core if site.kind == "head"], framed="in every circuit",
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``circuits.safetensors`` and ``circuits.csv`` into a folder, made if need be."""
        described = {name: getattr(self, name) for name in _PLAIN} | {
            "settings": dict(self.settings), "grid": grid_settings(self.grid),
            "candidates": [str(site) for site in self.candidates],
            "circuits": [sorted_names(circuit) for circuit in self],
            "breaking": [sorted_names(sites) for sites in self.breaking],
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return keep(folder, "circuits", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> Circuits:
        """Read what ``save`` wrote.

        Raises:
            InputError: no circuits there, or a file that cannot be read.
        """
        with kept(folder, "circuits", _ARRAYS) as (described, arrays):
            return Circuits(
                circuits=_parsed(described["circuits"]), breaking=_parsed(described["breaking"]),
                candidates=tuple(Site.parse(name) for name in described["candidates"]),
                grid=grid_of(described["grid"]),
                settings=described["settings"], **arrays,
                **{name: described[name] for name in _PLAIN},
            )


def named(circuit: frozenset[Site]) -> str:
    """A circuit's sites in one line, "0.0 + 1.2"."""
    return " + ".join(sorted_names(circuit)) or "(none)"


def sorted_names(circuit: frozenset[Site]) -> list[str]:
    """The sites' names in the order of sites."""
    return [str(site) for site in sorted(circuit)]


def _parsed(sets: list[list[str]]) -> tuple[frozenset[Site], ...]:
    return tuple(frozenset(Site.parse(name) for name in one) for one in sets)
