"""One ablation under several kinds of baseline: where they agree and where they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures import site_effects
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.ablate import ablate
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.kept import keep, kept
from mechprobe.locate.measure import BATCH
from mechprobe.locate.scores import ALPHA, Scores, spearman
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


@dataclass(frozen=True, eq=False, repr=False)
class BaselineComparison(Tabled):
    """Scores of the same sites on the same examples, one for each kind of baseline.

    Attributes:
        scores: by kind, in the order asked for.

    Raises:
        InputError: fewer than two kinds, or scores of other sites or examples.
    """

    scores: dict[str, Scores]

    def __post_init__(self) -> None:
        every = list(self.scores.values())
        if len(every) < 2:
            raise InputError(f"{len(every)} kinds of baseline; a comparison needs two or more")
        shapes = {(s.sites, s.effects.shape, tuple(s.report)) for s in every}
        if len(shapes) > 1:
            raise InputError("these scores are of other sites or examples; make them with one call")

    @property
    def kinds(self) -> list[str]:
        """The kinds of baseline."""
        return list(self.scores)

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row a site, in the ranking of the first kind.

        Columns: site, and of each kind its name (held-out effect), ``<kind>_low``, ``<kind>_high``
        and ``<kind>_p`` (Holm over sites within the kind).
        """
        merged: pd.DataFrame | None = None
        for kind, scores in self.scores.items():
            own = scores.table(seed)
            part = pd.DataFrame({
                "site": own["site"], kind: own["effect"], f"{kind}_low": own["low"],
                f"{kind}_high": own["high"], f"{kind}_p": own["p_corrected"],
            })
            merged = part if merged is None else merged.merge(part, on="site", how="left")
        assert merged is not None  # two kinds at least
        return merged

    def disagreements(self, seed: int = 0) -> pd.DataFrame:
        """Sites that are significant under one kind and not another, or change their sign.

        Columns: site; significant and not_significant (kinds, with commas); sign_change (both
        signs are significant); spread (largest minus smallest effect), by which rows are sorted;
        then the kinds' effects.
        """
        table = self.table(seed)
        rows = []
        for row in table.to_dict("records"):
            sure = [kind for kind in self.kinds if row[f"{kind}_p"] < ALPHA]
            signs = {np.sign(row[kind]) for kind in sure}
            if 0 < len(sure) < len(self.kinds) or len(signs) > 1:
                effects = [row[kind] for kind in self.kinds]
                rows.append({
                    "site": row["site"],
                    "significant": ", ".join(sure),
                    "not_significant": ", ".join(k for k in self.kinds if k not in sure),
                    "sign_change": len(signs) > 1,
                    "spread": max(effects) - min(effects),
                    **{kind: row[kind] for kind in self.kinds},
                })
        columns = ["site", "significant", "not_significant", "sign_change", "spread", *self.kinds]
        found = pd.DataFrame(rows, columns=columns)
        return found.sort_values("spread", ascending=False, ignore_index=True)

    def rank_correlations(self) -> pd.DataFrame:
        """Spearman's rho between the held-out effects of every two kinds, kinds by kinds.

        Raises:
            InputError: fewer than three sites.
        """
        values: Float[np.ndarray, "kind kind"] = np.array([
            [1.0 if a is b else spearman(a, b) for b in self.scores.values()]
            for a in self.scores.values()
        ])
        return pd.DataFrame(values, index=self.kinds, columns=self.kinds)

    def plot(self, top: int = 12) -> Figure:
        """The first sites of the first kind's ranking, every kind's effect beside the others."""
        tables = {
            kind: s.table().rename(columns={"low": "effect_low", "high": "effect_high"})
            for kind, s in self.scores.items()
        }
        metric = next(iter(self.scores.values())).metric
        return site_effects(tables, top=top, unit=f"effect on {metric}")

    def save(self, folder: str | Path) -> Path:
        """Write each kind's scores into a folder of its name, and ``comparison.csv``."""
        folder = Path(folder)
        for i, scores in enumerate(self.scores.values()):
            scores.save(folder / str(i))
        return keep(folder, "comparison", {"kinds": self.kinds}, {"n": np.array([len(self.kinds)])},
                    self.table())

    @staticmethod
    def load(folder: str | Path) -> BaselineComparison:
        """Read what ``save`` wrote; raises InputError when there is nothing to read."""
        with kept(folder, "comparison", ()) as (described, _):
            kinds = enumerate(described["kinds"])
            return BaselineComparison({k: Scores.load(Path(folder) / str(i)) for i, k in kinds})


def compare_baselines(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName] = "heads",
    baselines: Sequence[str | Baseline] | None = None,
    *,
    how: str = "single",
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> BaselineComparison:
    """Ablate the same sites on the same examples under several kinds of baseline.

    Args:
        baselines: kinds, or baselines; None: zero, mean, mean_position and resample, and paired
            where the task has counterfactuals.
        how: "single" or "leave_one_in".
        sites, metric, n, split, seed, reference, batch_size, progress: as in ``ablate``.

    Raises:
        InputError: fewer than two kinds, one of them twice; as ``ablate``.
    """
    if how not in ("single", "leave_one_in"):
        raise InputError(f"how={how!r}; give 'single' or 'leave_one_in'")
    behaviour = behaviour_of(model, task, metric=metric, split=split, n=n, seed=seed)
    if baselines is None:
        baselines = ["zero", "mean", "mean_position", "resample"]
        baselines += ["paired"] if behaviour.corrupt is not None else []
    names = [b.kind if isinstance(b, Baseline) else b for b in baselines]
    if double := [name for name in names if names.count(name) > 1]:
        raise InputError(f"baseline {double[0]!r} is named twice; name each once")
    return BaselineComparison({
        name: ablate(
            model, behaviour, sites, kind, how=how, n=None, seed=seed, reference=reference,
            batch_size=batch_size, progress=progress,
        )
        for name, kind in zip(names, baselines, strict=True)
    })
