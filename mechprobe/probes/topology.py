"""The tree topological probe: how near squared norms can be brought to the depths of a tree.

nu_i = ||B^T h_i||^2 is compared, in mean squared error over words, with a depth profile: one made
from nu itself (X_ssp: no labels needed), the same read backwards (X_essp), or the gold dependency
depths, root 1 (X_sp). Li, Yin and Lin 2023 (arXiv 2310.12454). With exact labels X_ssp <= X_sp
for every B, since the gold profile is one of those chosen from; nothing makes X_sp <= X_essp.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.probes.activations import WordVectors
from mechprobe.probes.bank import ProbeBank, bank_losses, check_streams, laid_out
from mechprobe.probes.objective import Objective, Params, Side
from mechprobe.probes.pseudo_labels import LABELLINGS, depth_histogram, flat_share, pseudo_labels
from mechprobe.probes.structural import gold_profile, squared_norms, uniform_map

METRICS = ("ssp", "essp", "sp")
FLAT = 0.5
"""Share of flat label profiles from which on a warning is given."""


class FlatTopology(UserWarning):
    """The labels of a self-supervised probe are mostly one 1 and all others 2."""


def topology_objective(
    metric: str, *, labels: str = "exact", rank: int | None = None
) -> Objective:
    """The probe whose smallest loss is X_ssp, X_essp or X_sp.

    The mean runs over the units of the vectors: real words, or with ``released_masking`` all
    tokens, where the gold level of a unit that is no word is 0.

    Args:
        metric: "ssp", "essp" or "sp".
        labels: "exact" (nearest profile) or "greedy" (the paper's released rule); "sp" needs none.
        rank: columns of B; None takes half the width of the vectors, as in the paper.

    Raises:
        InputError: an unknown metric or kind of labels.
    """
    if metric not in METRICS:
        raise InputError(f"topology metric {metric!r} is unknown; expected {', '.join(METRICS)}")
    if labels not in LABELLINGS:
        raise InputError(f"labels {labels!r} are unknown; expected {' or '.join(LABELLINGS)}")

    def start(d: int, generator: torch.Generator) -> Params:
        return uniform_map(d, max(1, d // 2) if rank is None else rank, generator)

    def losses(params: Params, vectors: Tensor, side: Side, targets: Tensor | None) -> Tensor:
        nu = side.pad(squared_norms(params["B"], vectors))
        if targets is None:
            return profile_errors(nu, side.real, labels, reverse=metric == "essp").sum((1, 2))
        return (nu - targets).square().mul(side.real).sum((1, 2))

    name = metric if metric == "sp" else f"{metric} ({labels})"
    return Objective(name, start, losses, gold_profile if metric == "sp" else None, per="unit")


def profile_errors(
    nu: Float[Tensor, "*batch word"],
    real: Bool[Tensor, "*sentence word"],
    labels: str = "exact",
    *,
    reverse: bool = False,
) -> Float[Tensor, "*batch word"]:
    """(nu_i - label_i)^2 of each word, 0 where ``real`` is false.

    The labels are made from nu and carry no gradient, so this is also the loss of the paper's
    fine-tuning (its L_probe, averaged over the words of the sentences that count).
    """
    mask = real.expand(nu.shape)
    wanted = pseudo_labels(nu, mask, labels, reverse=reverse)
    return (nu - wanted.to(nu)).square() * mask


@dataclass(frozen=True)
class TopologyScores:
    """A topology metric at every stream, with what it rests on.

    Attributes:
        metric: "ssp", "essp" or "sp", with the kind of labels.
        names: the streams.
        x: mean squared error, float64 [site].
        histogram: share of words at level 1, 2, ... of the pseudo-labels that nu gives (also for
            "sp", whose loss does not use them), float64 [site, level].
        flat: share of sentences whose profile is one 1 and all others 2, float64 [site]; near 1
            there is a root but no tree, and a small X says nothing.
    """

    metric: str
    names: tuple[str, ...]
    x: np.ndarray
    histogram: np.ndarray
    flat: np.ndarray

    def table(self) -> pd.DataFrame:
        """One row a stream: X, the share of flat profiles, the mean level."""
        levels = np.arange(1, self.histogram.shape[1] + 1)
        return pd.DataFrame({
            "site": self.names,
            f"X_{self.metric}": self.x,
            "flat": self.flat,
            "mean_level": self.histogram @ levels,
        })


def topology_scores(
    bank: ProbeBank, data: WordVectors, *, labels: str = "exact"
) -> TopologyScores:
    """The metric a topology bank was trained for, on the given sentences.

    Args:
        bank: from ``fit_bank(topology_objective(...), ...)``.
        labels: kind of the pseudo-labels in the histogram.

    Warns:
        FlatTopology: more than half of the profiles at some stream are flat.

    Raises:
        InputError: vectors of other streams than the bank's.
    """
    check_streams(bank, data)
    found: list[list[Tensor]] = [[] for _ in bank.streams]
    b = bank.params["B"].detach()
    for _, vectors, side in laid_out(data, b.device):
        nu, real = side.pad(squared_norms(b, vectors)), side.real
        levels = pseudo_labels(nu, real.expand(nu.shape), labels).cpu()
        for site, own in enumerate(levels):
            found[site].append(own)
    width = max(own.shape[-1] for own in found[0])
    rows = [
        torch.cat([torch.nn.functional.pad(o, (0, width - o.shape[-1])) for o in own])
        for own in found
    ]
    deepest = max(int(own.max()) for own in rows)
    counts = torch.stack([depth_histogram(own, deepest) for own in rows]).double()
    flat = np.array([flat_share(own) for own in rows])
    names = tuple(map(str, bank.streams))
    _warn(names, flat, bank.objective.name)
    return TopologyScores(
        bank.objective.name, names, bank_losses(bank, data),
        (counts / counts.sum(1, keepdim=True)).numpy(), flat,
    )  # fmt: skip


def _warn(names: tuple[str, ...], flat: np.ndarray, metric: str) -> None:
    bad = [f"{name} ({share:.0%})" for name, share in zip(names, flat, strict=True) if share > FLAT]
    if bad:
        warnings.warn(
            f"{metric}: most label profiles are one 1 and all others 2 at {', '.join(bad)}; such "
            "a profile fits any vectors, so a small X there is no sign of a tree",
            FlatTopology,
            stacklevel=3,
        )
