"""Heads that rebuild the hierarchy: four rankings of each level, and whether they agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from mechprobe.locate.ablate import ablate
from mechprobe.locate.agree import RankAgreement
from mechprobe.locate.learn import learn_masks
from mechprobe.locate.patch import patch
from mechprobe.locate.random_sets import random_set_p
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel, attention_patterns, site_grid
from mechprobe.runs import Run
from mechprobe.stats import empirical_p
from mechprobe.studies.hierarchy.levels import level_behaviour, level_part
from mechprobe.studies.hierarchy.models import open_model
from mechprobe.studies.hierarchy.sequences import held_out
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.trees import Grammar, mass_by_height, uniform_mass

METHODS = ("attention", "gates", "patching", "masks")
SET_SIZE, N_SETS, MASK_BATCH = 2, 120, 32


def ranking_unit(settings: Settings, spec: Spec, run: Run) -> dict:
    """Rank the heads of a masked-leaf model for each level by four methods.

    Tables ``tables/heads-*.csv`` (scores), ``head-agreement-*.csv`` (pairs of methods, and all four
    against shuffled heads), ``head-sets-*.csv`` (the heads that look at a height, closed together,
    against random pairs of heads).
    """
    grammar = grammar_of(settings, spec)
    samples = held_out(settings, spec, settings.n_locate, 0, part=5)
    places = torch.from_numpy(
        np.random.default_rng([settings.seed, 21]).integers(grammar.n_leaves, size=len(samples))
    )
    model = open_model(settings, run, spec)
    heads, pairs, sets = [], [], []
    for level in range(1, grammar.depth + 1):
        behaviour = level_behaviour(grammar, samples, places, level, seed=settings.seed)
        scores = rank_heads(settings, model, grammar, behaviour, level)
        found = RankAgreement(scores, dict.fromkeys(scores, 0.0))
        heads.append(head_table(scores).assign(model=spec.name, level=level))
        pairs.append(agreement_rows(found, settings).assign(model=spec.name, level=level))
        sets.append(set_row(settings, model, behaviour, scores["attention"]).assign(
            model=spec.name, level=level
        ))
    for name, tables in (("heads", heads), ("head-agreement", pairs), ("head-sets", sets)):
        run.write_table(f"tables/{name}-{spec.name}.csv", pd.concat(tables, ignore_index=True))
    return {"sequences": len(samples)}


def rank_heads(
    settings: Settings, model: HookedModel, grammar: Grammar, behaviour: Behaviour, level: int
) -> dict[str, Scores]:
    """Scores of all heads for one level, by method."""
    common: dict[str, Any] = {"n": None, "seed": settings.seed, "progress": False}
    return {
        "attention": attention_scores(model, grammar, behaviour, level, seed=settings.seed),
        "gates": ablate(model, behaviour, "heads", "mean", **common),
        "patching": patch(model, behaviour, "heads", "noising", **common),
        "masks": learn_masks(
            model, behaviour, "heads", "mean", sparsity=0.5, metric=level_part,
            seeds=range(settings.mask_seeds), steps=settings.mask_steps, batch_size=MASK_BATCH,
            **common,
        ),
    }


def attention_scores(
    model: HookedModel, grammar: Grammar, behaviour: Behaviour, level: int, *, seed: int = 0
) -> Scores:
    """Attention of the masked leaf on the leaves it meets at a height, less the uniform share."""
    grid = site_grid(model)
    heads = [str(site) for site in grid.sites if site.kind == "head"]
    out = np.full((len(heads), len(behaviour)), np.nan)
    chance = float(uniform_mass(grammar.depth, grammar.arity)[level])
    for batch in behaviour.batches():
        rows = batch.index.cpu()
        place = behaviour.targets["place"][rows]
        patterns = attention_patterns(model, batch)
        every = torch.cat([p.cpu() for p in patterns.values()], dim=1)
        own = every[torch.arange(len(rows)), :, place]
        at = mass_by_height(_as_rows(own, place, grammar), grammar.depth, grammar.arity)
        mass = at[torch.arange(len(rows)), :, place, level]
        out[:, rows.numpy()] = mass.double().numpy().T - chance
    select, report = behaviour.halves(seed)
    return Scores(
        method="attention", sites=tuple(heads), effects=out, select=select, report=report,
        metric=f"attention at height {level}, less uniform", baseline="none", forwards=1,
        settings={"level": level}, grid=grid,
    )


def _as_rows(own: torch.Tensor, place: torch.Tensor, grammar: Grammar) -> torch.Tensor:
    """Rows of masked leaves put back as maps that are zero elsewhere, [n, head, query, key]."""
    n, heads, keys = own.shape
    maps = own.new_zeros(n, heads, grammar.n_leaves, keys)
    maps[torch.arange(n), :, place] = own
    return maps


def head_table(scores: dict[str, Scores]) -> pd.DataFrame:
    """One row a head: each method's effect with its interval and corrected p."""
    whole = pd.DataFrame({"head": scores["attention"].sites})
    for name, found in scores.items():
        own = found.table()[["site", "effect", "low", "high", "p_corrected"]]
        own.columns = ["head", name, f"{name}_low", f"{name}_high", f"{name}_p"]
        whole = whole.merge(own, on="head", how="left")
    return whole


def agreement_rows(found: RankAgreement, settings: Settings) -> pd.DataFrame:
    """Each pair of methods, then all of them: rho, interval, p against shuffled heads."""
    pairs = found.table(settings.seed, settings.n_null)
    means = {name: found.held_out(name).mean(1) for name in found.scores}
    rows = [
        {**row, "p": shuffled_heads_p([means[row["first"]], means[row["second"]]],
                                      settings.n_null, settings.seed)}
        for row in pairs.to_dict("records")
    ]
    rows.append({
        "first": "all", "second": "all", "rho": mean_rho(list(means.values())),
        "low": np.nan, "high": np.nan,
        "p": shuffled_heads_p(list(means.values()), settings.n_null, settings.seed),
    })
    return pd.DataFrame(rows)


def mean_rho(values: list[np.ndarray]) -> float:
    """Mean of Spearman's rho over all pairs of rankings; a constant one counts as 0."""
    ranks = np.stack([rankdata(row) for row in values])
    ranks = ranks - ranks.mean(1, keepdims=True)
    size = np.sqrt((ranks**2).sum(1))
    ranks = ranks / np.where(size > 0, size, 1)[:, None]
    above = np.triu_indices(len(values), 1)
    return float((ranks @ ranks.T)[above].mean())


def shuffled_heads_p(values: list[np.ndarray], n: int, seed: int) -> float:
    """How often rankings of randomly relabelled heads agree as well."""
    rng = np.random.default_rng([seed, 22])
    null = [mean_rho([rng.permutation(row) for row in values]) for _ in range(n)]
    return empirical_p(mean_rho(values), np.array(null))


def set_row(
    settings: Settings, model: HookedModel, behaviour: Behaviour, attention: Scores
) -> pd.DataFrame:
    """The heads that look most at the height (on other rows), closed together; random pairs."""
    if len(attention.sites) <= SET_SIZE + 1:
        return pd.DataFrame()
    mine = behaviour.take(attention.report)
    test = random_set_p(
        model, mine, attention.top(SET_SIZE), "mean", among="heads", n_sets=N_SETS,
        n=None, seed=settings.seed, progress=False,
    )
    return test.table()
