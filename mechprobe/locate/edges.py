"""EdgeScores: what path patching returns, one effect an edge with its certainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from mechprobe.errors import InputError
from mechprobe.figures.circuit_graph import circuit_graph
from mechprobe.figures.edge_map import edge_map
from mechprobe.locate.effects import ALPHA, check_effects, effect_columns, effect_order
from mechprobe.locate.kept import grid_of, grid_settings, keep, kept
from mechprobe.locate.scores import Scores
from mechprobe.locate.tabled import Tabled
from mechprobe.sites import SiteGrid

FORMAT = "mechprobe edges 1"


class Edge(NamedTuple):
    """From a sender to what it sends to.

    Attributes:
        sender: a head or MLP layer.
        receiver: a head, or "logits".
        input: "q", "k", "v", "qkv" (all three at once), or "" for the logits.
    """

    sender: str
    receiver: str
    input: str = ""

    @property
    def end(self) -> str:
        """The receiver and its input in one word: "5.1 q", "logits"."""
        return f"{self.receiver} {self.input}".strip()


@dataclass(frozen=True, eq=False, repr=False)
class EdgeScores(Tabled):
    """How much each edge between components matters to a behaviour.

    Attributes:
        method: which localiser.
        edges: what was scored.
        effects: per edge and example, metric(full) - metric(edge patched); positive: the edge
            supports the behaviour, in the metric's unit.
        select: rows (examples) to rank edges on.
        report: held-out rows that estimates, intervals and p-values come from.
        metric: name of the metric.
        baseline: what a sender's output was replaced by.
        forwards: model passes over each batch that it took.
        settings: what else made it, plain JSON values.
        grid: the model's sites.

    Raises:
        InputError: no edges, effects of another shape than the edges, rows that they do not have.
    """

    method: str
    edges: tuple[Edge, ...]
    effects: Float[np.ndarray, "edge example"]
    select: Int[np.ndarray, " a"]
    report: Int[np.ndarray, " b"]
    metric: str
    baseline: str
    forwards: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: SiteGrid | None = None

    def __post_init__(self) -> None:
        if not self.edges:
            raise InputError("no edges were scored; give one or more")
        check_effects(self.effects, self.edges, (self.select, self.report), "edge")

    @cached_property
    def ranking(self) -> list[Edge]:
        """Edges from the largest effect on the selection rows to the smallest."""
        return [self.edges[i] for i in self._order]

    @cached_property
    def _order(self) -> Int[np.ndarray, " edge"]:
        return effect_order(self.effects, self.select)

    @cached_property
    def estimate(self) -> Float[np.ndarray, " edge"]:
        """Mean effect on the held-out rows."""
        return self.effects[:, self.report].mean(1)

    def top(self, n: int = 10) -> list[Edge]:
        """The n edges with the largest effects, chosen on the selection rows."""
        return self.ranking[:n]

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row an edge, in the order of ``ranking``.

        Columns: sender, receiver, input, effect (held-out mean), low, high (95 % bootstrap interval
        over examples), selection (mean on the selection rows), p (two-sided sign-flip test on
        held-out rows that the mean is zero), p_corrected (Holm over all edges).
        """
        columns = effect_columns(self.effects, self.select, self.report, seed)
        table = pd.DataFrame(self.edges, columns=list(Edge._fields)).join(columns)
        return table.iloc[self._order].reset_index(drop=True)

    def significant(self, seed: int = 0) -> list[Edge]:
        """Edges whose held-out effect is not zero (p_corrected < .05), in the ranking's order."""
        sure = self.table(seed)["p_corrected"] < ALPHA
        return [edge for edge, is_sure in zip(self.ranking, sure, strict=True) if is_sure]

    def into(self, end: str = "logits") -> Scores:
        """The effects of all senders on one receiver ("logits", "5.1 q", "5.1 qkv") as Scores.

        Raises:
            InputError: no edge ends there.
        """
        chosen = [i for i, edge in enumerate(self.edges) if edge.end == end]
        if not chosen:
            ends = ", ".join(dict.fromkeys(edge.end for edge in self.edges))
            raise InputError(f"no edge into {end!r} was scored; there are edges into {ends}")
        return Scores(
            method=f"{self.method} into {end}",
            sites=tuple(self.edges[i].sender for i in chosen), effects=self.effects[chosen],
            select=self.select, report=self.report, metric=self.metric, baseline=self.baseline,
            forwards=self.forwards, settings=self.settings, grid=self.grid,
        )

    def plot(self) -> Figure:
        """Held-out effects, senders by receivers; edges with p_corrected < .05 are framed."""
        senders = list(dict.fromkeys(edge.sender for edge in self.edges))
        ends = list(dict.fromkeys(edge.end for edge in self.edges))
        values = np.full((len(senders), len(ends)), np.nan)
        for edge, value in zip(self.edges, self.estimate, strict=True):
            values[senders.index(edge.sender), ends.index(edge.end)] = value
        marked = [(senders.index(e.sender), ends.index(e.end)) for e in self.significant()]
        unit = f"effect on {self.metric}"
        return edge_map(values, senders, ends, title=self.method, unit=unit, marked=marked,
                        framed="p < .05, corrected")

    def plot_graph(self, top: int = 20) -> Figure:
        """The strongest edges as a graph: held-out effects, layers upwards, logits on top."""
        return circuit_graph(
            self.table(), top=top, unit=f"effect on {self.metric}", title=self.method
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``edges.safetensors`` and ``edges.csv`` into a folder, made if need be."""
        described = {
            "format": FORMAT, "method": self.method, "edges": list(map(list, self.edges)),
            "metric": self.metric, "baseline": self.baseline, "forwards": self.forwards,
            "settings": dict(self.settings), "grid": grid_settings(self.grid),
        }
        arrays = {
            "effects": self.effects.astype(np.float64),
            "select": self.select.astype(np.int64), "report": self.report.astype(np.int64),
        }
        return keep(folder, "edges", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> EdgeScores:
        """Read what ``save`` wrote.

        Raises:
            InputError: no edges there, or a file that cannot be read.
        """
        with kept(folder, "edges", ("effects", "select", "report")) as (described, arrays):
            return EdgeScores(
                method=described["method"], edges=tuple(Edge(*edge) for edge in described["edges"]),
                **arrays, metric=described["metric"], baseline=described["baseline"],
                forwards=described["forwards"], settings=described["settings"],
                grid=described["grid"] and grid_of(described["grid"]),
            )
