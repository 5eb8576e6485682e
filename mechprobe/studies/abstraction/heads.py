"""Abstraction heads: which heads generalisation needs and the target task itself does not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.locate.cumulative import CumulativeCurve, cumulative
from mechprobe.locate.learn import masked_subnetworks
from mechprobe.locate.overlap import overlaps
from mechprobe.locate.patch import patch
from mechprobe.locate.specific import SpecificScores, ablate_specific
from mechprobe.models.edits import HookedModel
from mechprobe.stats import bootstrap_statistic
from mechprobe.stats.intervals import Interval
from mechprobe.studies.abstraction.models import open_model
from mechprobe.studies.abstraction.procedures import SetRun
from mechprobe.tasks.abstraction.counterfactual import swapped_nouns, with_two_nouns
from mechprobe.tasks.behaviour import Behaviour

SMOOTH = "log_probability"


def heads_unit(at: SetRun, name: str) -> dict:
    """All head analyses of the model kept as ``name``; writes tables, returns numbers."""
    settings, run = at.settings, at.run
    model = open_model(settings, at.data, run, name, frozen=True)
    wanted, other = (behaviour(at, split, SMOOTH) for split in ("ood", "test"))
    found: dict[str, SpecificScores] = {}
    for baseline in settings.baselines:
        found[baseline] = ablate_specific(
            model, wanted, other, baseline=baseline, n=None, seed=settings.seed, reference=other
        )
        write(at, f"heads-{baseline}", found[baseline].table(settings.seed, settings.n_boot))
    first = found[settings.baselines[0]]
    exact = ablate_specific(
        model, behaviour(at, "ood", "exact_match"), behaviour(at, "test", "exact_match"),
        baseline=settings.baselines[0], n=None, seed=settings.seed, reference=other,
    )
    write(at, "heads-exact-match", exact.table(settings.seed, settings.n_boot))
    write(at, "head-layers", first.layers())
    curves = closing(at, model, wanted, other, first)
    others = {f"ablate, {b}": s.ranking for b, s in found.items()}
    others["ablate, exact match"] = exact.ranking
    others |= patching(at, model)
    if settings.mask_steps:
        others["learned masks"] = masks(at, model, wanted)
    k = max(1, int(first.concentration(settings.seed, 20)["half"]))
    tops = overlaps({method: order[:k] for method, order in others.items()}, first.sites)
    write(at, "head-methods", tops.assign(top=k))
    return {
        "top": first.ranking[:k], "k": k,
        **{f"concentration_{key}": value
           for key, value in first.concentration(settings.seed, settings.n_boot // 2).items()},
        **curves,
    }


def behaviour(at: SetRun, split: str, metric: str) -> Behaviour:
    """Exact match or log probability of a split's answers, on at most ``n_heads_eval`` pairs."""
    rows = at.data.target[split]
    return rows.take(range(min(at.settings.n_heads_eval, len(rows)))).behaviour(metric)


def closing(
    at: SetRun, model: HookedModel, wanted: Behaviour, other: Behaviour, scores: SpecificScores
) -> dict:
    """Top-k, random-k and bottom-k heads closed, on examples that did not rank them."""
    settings = at.settings
    held, held_other = (task.take(task.halves(settings.seed)[1]) for task in (wanted, other))
    orders = {"top": scores.ranking, "bottom": scores.ranking[::-1]}

    def curve(task: Behaviour, order: list[str], n_random: int) -> CumulativeCurve:
        return cumulative(
            model, task, order, baseline=settings.baselines[0], n=None, seed=settings.seed,
            n_random=n_random, reference=other,
        )

    curves = {name: curve(held, order, settings.n_random) for name, order in orders.items()}
    inside = curve(held_other, scores.ranking, 1)
    for name, found in (*curves.items(), ("in-distribution", inside)):
        write(at, f"closing-{name}", found.table(settings.seed))
    top = curves["top"]
    k = max(1, min(int(scores.concentration(settings.seed, 20)["half"]), len(scores.sites) - 1))
    step = int(np.flatnonzero(top.closed >= k)[0])
    ends = beyond_random(top, step, settings.seed, settings.n_boot)
    return {
        "closed": int(top.closed[step]), "top_beyond_random": ends.estimate,
        "top_beyond_random_low": ends.low, "top_beyond_random_high": ends.high,
        "top_area_p": top.p, "full": float(top.values[0].mean()),
        "top_closed": float(top.values[step].mean()),
        "random_closed": float(top.null[:, step].mean()),
        "bottom_closed": float(curves["bottom"].values[step].mean()),
        "in_distribution_full": float(inside.values[0].mean()),
        "in_distribution_top_closed": float(inside.values[step].mean()),
    }


def beyond_random(curve: CumulativeCurve, step: int, seed: int, n: int) -> Interval:
    """What closing heads in this order takes away beyond as many random ones, at one step.

    The interval is over examples and over the random orders drawn.
    """
    draws = len(curve.null)
    both = np.concatenate([curve.null[:, step], curve.values[step]])
    return bootstrap_statistic(
        both, lambda rows: float(rows[:draws].mean() - rows[draws:].mean()), seed, n,
        strata=np.arange(len(both)) < draws,
    )


def patching(at: SetRun, model: HookedModel) -> dict[str, list[str]]:
    """Heads ranked by noising and by denoising with two nouns of the source exchanged.

    The decoder reads the clean target in both runs, so that only the source differs. Pairs without
    two nouns are left out, and so are those whose word pieces grow or shrink; empty without others.
    """
    pairs = at.data.tasks.target["ood"]
    pairs = with_two_nouns(pairs.take(range(min(at.settings.n_heads_eval, len(pairs)))))
    if not len(pairs):
        return {}
    clean, corrupt = at.data.rows(pairs), at.data.rows(swapped_nouns(pairs))
    sizes = [tuple(map(len, rows.sources)) for rows in (clean, corrupt)]
    alike = [i for i, (a, b) in enumerate(zip(*sizes, strict=True)) if a == b]
    if not alike:
        return {}
    task = clean.take(alike).behaviour(SMOOTH, corrupt.take(alike))
    found = {}
    for direction in ("noising", "denoising"):
        scores = patch(model, task, direction=direction, n=None, seed=at.settings.seed)
        write(at, f"heads-patch-{direction}", scores.table(at.settings.seed))
        found[f"patch, {direction}"] = scores.ranking
    return found


def masks(at: SetRun, model: HookedModel, wanted: Behaviour) -> list[str]:
    """Heads ranked by how often sparse masks that keep generalisation keep them.

    Heads kept equally often are ranked by the masks' mean log alpha.
    """
    found = masked_subnetworks(
        model, wanted, seeds=range(at.settings.mask_seeds), steps=at.settings.mask_steps,
        baseline="mean", n=None, metric="kl", seed=at.settings.seed,
    )
    table = pd.DataFrame({
        "site": list(map(str, found.sites)), "kept": found.binary().mean(0),
        "log_alpha": np.mean([member.log_alpha for member in found], axis=0),
    }).sort_values(["kept", "log_alpha"], ascending=False, kind="stable")
    write(at, "heads-masks", table)
    return list(table["site"])


def write(at: SetRun, name: str, table: pd.DataFrame) -> None:
    """Keep a table of this set."""
    at.run.write_table(f"tables/{name}-set-{at.index + 1}.csv", table)
