"""A set of subnetworks of one model, and what its members share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from mechprobe import figures
from mechprobe.errors import InputError
from mechprobe.locate.subnetwork import Subnetwork, pack, unpack
from mechprobe.locate.tabled import Tabled
from mechprobe.runs import atomic_write
from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import jaccard_matrix, members_needed, overlap_test

SET_FILE = "subnetworks.safetensors"
KINDS = ("head", "mlp", "neuron")


@dataclass(frozen=True, eq=False, repr=False)
class SubnetworkSet(Tabled):
    """Subnetworks of one model, usually one a seed and sparsity.

    Raises:
        InputError: no members, or members over different sites.
    """

    members: tuple[Subnetwork, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("a SubnetworkSet needs at least one subnetwork; got none")
        grids = {member.sites for member in self.members}
        if len(grids) > 1:
            raise InputError(f"the members gate different sites ({len(grids)} grids); split them")

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Subnetwork]:
        return iter(self.members)

    def __getitem__(self, index: SupportsIndex) -> Subnetwork:
        return self.members[index]

    @property
    def sites(self) -> SiteGrid:
        """The sites every member gates."""
        return self.members[0].sites

    @property
    def sparsities(self) -> list[float]:
        """The target sparsities, each once, rising."""
        return sorted({member.sparsity_target for member in self})

    def binary(self, *, heads: bool = True, mlps: bool = True) -> Bool[np.ndarray, "k site"]:
        """Kept sites of every member, restricted to heads or MLPs (layers and neurons)."""
        wanted = [heads if site.kind == "head" else mlps for site in self.sites]
        return np.stack([member.binary for member in self])[:, wanted]

    def where(
        self,
        *,
        sparsity: float | Iterable[float] | None = None,
        seed: int | Iterable[int] | None = None,
    ) -> SubnetworkSet:
        """Members with one of these target sparsities and one of these seeds.

        Raises:
            InputError: no member matches; the message lists what there is.
        """
        wanted = None if sparsity is None else _listed(sparsity)
        seeds = None if seed is None else set(_listed(seed))
        found = tuple(
            member
            for member in self
            if (wanted is None or any(abs(member.sparsity_target - s) < 1e-9 for s in wanted))
            and (seeds is None or member.seed in seeds)
        )
        if not found:
            raise InputError(
                f"no subnetwork has sparsity {sparsity} and seed {seed}; there are sparsities "
                f"{self.sparsities} and seeds {sorted({member.seed for member in self})}"
            )
        return SubnetworkSet(found)

    def frequency(self) -> Float[np.ndarray, "site"]:
        """Share of members that keep each site."""
        return self.binary().mean(0)

    def core(self, f: float = 1.0, *, mlps: bool = False) -> list[Site]:
        """Heads (``mlps``: and MLP layers and neurons) that at least a share f of the members keep.

        The "heuristic core" with f = 1 (Bhaskar et al. 2024, section 4).
        """
        shared = self.binary().sum(0) >= members_needed(f, len(self))
        return [site for site in self.sites.select(shared) if mlps or site.kind == "head"]

    def jaccard(self) -> Float[np.ndarray, "k k"]:
        """Intersection over union of the kept heads (MLPs if no heads are gated), every pair."""
        return jaccard_matrix(self._compared())

    def cluster(self) -> Int[np.ndarray, "k"]:
        """Members' positions in an order that puts similar ones together (average linkage)."""
        if len(self) < 3:
            return np.arange(len(self))
        distance = squareform(1 - self.jaccard(), checks=False)
        return np.asarray(leaves_list(linkage(distance, "average", optimal_ordering=True)), int)

    def table(self) -> pd.DataFrame:
        """One row a member: seed, target, sparsity reached, how many sites kept, every score."""
        return pd.DataFrame([
            {
                "seed": member.seed,
                "target": member.sparsity_target,
                "sparsity": member.sparsity,
                "heads": len(member.heads),
                "mlps": len(member.mlps),
                **({"neurons": len(member.neurons)} if self.sites.neurons else {}),
                **member.scores,
            }
            for member in self
        ])

    def overlap(
        self, seed: int = 0, n_null: int = 2_000, *, f: float = 1.0, mlps: bool = False
    ) -> pd.DataFrame:
        """Core size and mean Jaccard similarity against random sets of the members' sizes.

        Random sets keep as many heads as the members do, in all ("any layer") or in every layer
        ("same layers"); MLP layers are a stratum of their own, as are neurons. Exact expectations,
        and an exact p of the core when f = 1; ``n_null`` draws otherwise, and for the null's
        central 95 %.

        Returns:
            Columns statistic, null, observed, expected, null_low, null_high, p, members.
        """
        mlps = mlps or not self.sites.heads
        rows = self.binary(mlps=mlps)
        chosen = [site for site in self.sites if mlps or site.kind == "head"]
        strata = {"any layer": np.array([KINDS.index(site.kind) for site in chosen])}
        if self.sites.heads or self.sites.neurons:
            layers = list(self.sites.layer_columns)
            strata["same layers"] = np.array([
                -1 if site.kind == "mlp" else layers.index(replace(site, index=None))
                for site in chosen
            ])
        results = []
        for statistic in ("core", "jaccard"):
            for name, labels in strata.items():
                test = overlap_test(
                    rows, statistic, strata=labels, share=f, seed=seed, n=n_null
                )
                low, high = test.null_range()
                results.append({
                    "statistic": "core size" if statistic == "core" else "mean Jaccard",
                    "null": name, "observed": test.observed, "expected": test.expected,
                    "null_low": low, "null_high": high, "p": test.p, "members": len(self),
                })
        return pd.DataFrame(results)

    def plot_frequency(self) -> Figure:
        """Heat maps of how often each head and MLP is kept, one a target sparsity."""
        parts = {s: self.where(sparsity=s) for s in self.sparsities}
        return figures.keep_frequency(
            {f"{100 * s:g} % closed": part.frequency() for s, part in parts.items()},
            self.sites,
            n_members=[len(part) for part in parts.values()],
        )

    def plot(self) -> Figure:
        """Similarity of every pair of members, similar ones side by side."""
        order = self.cluster()
        many = len(self.sparsities) > 1
        names = [
            f"{m.seed} ({100 * m.sparsity_target:g} %)" if many else str(m.seed) for m in self
        ]
        return figures.jaccard_matrix(
            self.jaccard()[np.ix_(order, order)], [names[i] for i in order],
            axis="seed (share closed)" if many else "seed",
        )

    def save(self, folder: str | Path) -> Path:
        """Write all members to one file in a folder, made if absent; never half a file."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / SET_FILE, pack(self.members))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> SubnetworkSet:
        """Read a folder of ``save``; raises InputError when it is not one."""
        return cls(tuple(unpack(Path(folder).expanduser() / SET_FILE)))

    def _compared(self) -> np.ndarray:
        return self.binary(heads=self.sites.heads, mlps=not self.sites.heads)


def _listed(values: Any) -> list:
    return list(values) if isinstance(values, Iterable) else [values]
