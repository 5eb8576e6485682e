"""Do localisers rank a model's sites alike, and what does each cost?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures.edge_map import edge_map
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.ablate import ablate
from mechprobe.locate.attribute import attribute
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.direct import direct_logit_attribution
from mechprobe.locate.patch import patch
from mechprobe.locate.paths import path_patch
from mechprobe.locate.scores import Scores
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteName
from mechprobe.stats import resample_counts
from mechprobe.tasks.behaviour import Behaviour

Localiser: TypeAlias = Callable[[HookedModel, Behaviour], Scores]
METHODS = (
    "ablate", "leave_one_in", "noising", "denoising", "first_order", "integrated", "direct", "paths"
)
DEFAULT = ("ablate", "noising", "denoising", "first_order", "integrated")


@dataclass(frozen=True, eq=False, repr=False)
class RankAgreement(Tabled):
    """Several localisers' scores of the same sites, and how alike they rank them.

    Attributes:
        scores: by the localiser's name.
        seconds: wall time each took.

    Raises:
        InputError: fewer than two localisers, or fewer than three sites that all scored.
    """

    scores: dict[str, Scores]
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        if len(self.scores) < 2:
            raise InputError(f"{len(self.scores)} localisers; agreement needs two or more")
        if len(self.sites) < 3:
            raise InputError(
                f"{len(self.sites)} sites that all localisers scored; rank agreement needs three"
            )

    @property
    def sites(self) -> list[str]:
        """The sites that every localiser scored."""
        first, *rest = self.scores.values()
        return [site for site in first.sites if all(site in other.sites for other in rest)]

    def held_out(self, name: str) -> Float[np.ndarray, "site example"]:
        """One localiser's effects of the common sites on the held-out rows."""
        scores = self.scores[name]
        return scores.effects[self._rows(scores)][:, scores.report]

    def _rows(self, scores: Scores) -> list[int]:
        return [scores.sites.index(site) for site in self.sites]

    def matrix(self) -> pd.DataFrame:
        """Spearman's rho between held-out mean effects, localisers by localisers.

        NaN where a localiser gives all sites the same effect.
        """
        names = list(self.scores)
        means = np.stack([self.held_out(name).mean(1) for name in names])
        values = np.array([[_rho(a[None], b[None])[0] for b in means] for a in means])
        return pd.DataFrame(values, index=names, columns=names)

    def table(self, seed: int = 0, draws: int = 2_000) -> pd.DataFrame:
        """One row a pair: first, second, rho, low, high (95 % bootstrap over held-out examples).

        Localisers with the same held-out rows see the same resamples of them. Resamples in which
        all sites have the same effect are left out.
        """
        names = list(self.scores)
        drawn: dict[str, np.ndarray] = {}
        for name in names:
            effects = self.held_out(name)
            counts = resample_counts(np.zeros(effects.shape[1], int), draws, seed)
            drawn[name] = counts @ effects.T / effects.shape[1]
        whole, rows = self.matrix(), []
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                found = _rho(drawn[first], drawn[second])
                found = found[np.isfinite(found)]
                ends = np.percentile(found, [2.5, 97.5]) if len(found) else (np.nan, np.nan)
                rows.append((first, second, whole.loc[first, second], *map(float, ends)))
        return pd.DataFrame(rows, columns=["first", "second", "rho", "low", "high"])

    def costs(self) -> pd.DataFrame:
        """One row a localiser: method, forwards (passes over each batch), seconds, split_half.

        split_half is the rank agreement of its own effects on the two halves of the examples: no
        agreement with another can be expected to exceed what noise leaves of its own. NaN where
        nothing was held out.
        """
        rows = []
        for name, scores in self.scores.items():
            effects = scores.effects[self._rows(scores)]
            one, other = (effects[:, part].mean(1)[None] for part in (scores.select, scores.report))
            same = np.intersect1d(scores.select, scores.report).size > 0
            own = np.nan if same else float(_rho(one, other)[0])
            rows.append((name, scores.forwards, self.seconds[name], own))
        return pd.DataFrame(rows, columns=["method", "forwards", "seconds", "split_half"])

    def plot(self) -> Figure:
        """The matrix of rank correlations."""
        names = list(self.scores)
        return edge_map(
            self.matrix().to_numpy(), names, names, unit="Spearman's rho", axes_names=("", "")
        )

    def save(self, folder: str | Path) -> Path:
        """Write each localiser's scores to a folder of its name, and two tables beside them."""
        folder = Path(folder)
        for name, scores in self.scores.items():
            scores.save(folder / name)
        self.table().to_csv(folder / "agreement.csv", index=False)
        self.costs().to_csv(folder / "costs.csv", index=False)
        return folder


def rank_agreement(
    model: HookedModel,
    task: AnyTask,
    methods: Sequence[str] | Mapping[str, Localiser] = DEFAULT,
    *,
    sites: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "paired",
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
) -> RankAgreement:
    """Run several localisers on the same examples and compare their rankings and costs.

    Args:
        methods: names out of "ablate", "leave_one_in", "noising", "denoising" (activation patching
            from counterfactuals), "first_order", "integrated" (attribution), "direct" (logit
            attribution), "paths" (path patching into the logits); or a mapping from names of your
            own to functions of model and behaviour that give Scores.
        baseline: of the gate-based ones and of path patching.
        metric: instead of the task's own ("direct" always reads logits).

    Raises:
        InputError: an unknown name, fewer than two; as the localisers themselves.
    """
    behaviour = behaviour_of(model, task, metric=metric, n=n, split=split, seed=seed)
    if isinstance(methods, Mapping):
        chosen = dict(methods)
    else:
        chosen = {name: _localiser(name, sites, baseline, seed) for name in methods}
    if len(chosen) < 2:
        raise InputError(f"{len(chosen)} localisers; agreement needs two or more")
    scores, seconds = {}, {}
    for name, localise in chosen.items():
        start = time.perf_counter()
        scores[name] = localise(model, behaviour)
        seconds[name] = time.perf_counter() - start
    return RankAgreement(scores, seconds)


def _localiser(
    name: str, sites: str | Sequence[SiteName], baseline: str | Baseline, seed: int
) -> Localiser:
    """A localiser by name as a function of model and behaviour."""
    shared = {"sites": sites, "seed": seed, "n": None}
    match name:
        case "ablate":
            return partial(ablate, baseline=baseline, **shared)
        case "leave_one_in":
            return partial(ablate, baseline=baseline, how="leave_one_in", **shared)
        case "noising" | "denoising":
            return partial(patch, direction=name, **shared)
        case "first_order" | "integrated":
            return partial(attribute, baseline=baseline, method=name, **shared)
        case "direct":
            return partial(direct_logit_attribution, **shared)
        case "paths":

            def paths(model: HookedModel, behaviour: Behaviour) -> Scores:
                found = path_patch(model, behaviour, sites, baseline=baseline, seed=seed, n=None)
                return found.into("logits")

            return paths
    raise InputError(f"no localiser {name!r}; one of {', '.join(METHODS)}, or a mapping")


def _rho(
    first: Float[np.ndarray, "draw site"], second: Float[np.ndarray, "draw site"]
) -> Float[np.ndarray, " draw"]:
    """Spearman's rho of each pair of rows; NaN where one of them is constant."""
    ranks = [rankdata(values, axis=1) for values in (first, second)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / size
