"""The tables and numbers of a run, gathered from its finished units; no model runs here."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any, cast

import numpy as np
import pandas as pd

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.runs import Run
from mechprobe.sites import Site
from mechprobe.stats import central, permutation_p, resampled_scores, t_interval, wilson
from mechprobe.studies.heuristic_core import emergence
from mechprobe.studies.heuristic_core.data import StudyData, group_means, ood_score, scored
from mechprobe.studies.heuristic_core.models import checkpoint_steps
from mechprobe.studies.heuristic_core.necessity import core_summary
from mechprobe.studies.heuristic_core.parity import parity_table
from mechprobe.studies.heuristic_core.search import Plan, full_name, plans, read_outcomes, read_set
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.heuristic_core.spread import group_table, member_rows, spread


@dataclass(frozen=True)
class AtSparsity:
    """What is known about the first model's final subnetworks of one sparsity.

    The causal tables are there for the first sparsity only.
    """

    plan: Plan
    found: SubnetworkSet
    core: list[Site]
    spread: dict[str, float]
    overlap: pd.DataFrame
    parity: pd.DataFrame
    necessity: pd.DataFrame | None
    core_tests: pd.DataFrame | None
    contrasts: pd.DataFrame | None
    edits: pd.DataFrame | None
    attention_heads: pd.DataFrame | None
    attention_core: pd.DataFrame | None
    dependence: pd.DataFrame | None


@dataclass(frozen=True)
class Results:
    """Everything the report shows; tables as they are written under ``tables/``."""

    members: pd.DataFrame
    models: pd.DataFrame
    groups: pd.DataFrame
    spreads: pd.DataFrame
    final: list[AtSparsity]
    sparser: dict[str, float]
    emergence: pd.DataFrame
    sizes: dict[str, float]
    core_overlap: pd.DataFrame
    first_kept: pd.DataFrame
    full_groups: dict[str, float]
    between_models: dict[str, float | int]
    majority: float


def rows_where(table: pd.DataFrame, keep: object) -> pd.DataFrame:
    """The rows a boolean mask keeps, as a table."""
    return cast(pd.DataFrame, table.loc[cast(Any, keep)])


def gather(settings: Settings, data: StudyData, run: Run) -> Results:
    """Read every finished unit and derive the tables."""
    last = checkpoint_steps(settings)[-1]
    rows: list[dict[str, object]] = []
    spreads: list[dict[str, object]] = []
    for plan in plans(settings):
        found = read_set(run, plan)
        dev, outside = read_outcomes(run, plan.name)
        where = {"model": plan.model, "step": plan.step}
        rows += member_rows(where, found, dev, outside, data.ood, data.score_groups)
        if plan.step == last and plan.n_masks > 1:
            full_dev, full_out = read_outcomes(run, full_name(plan.model, last))
            numbers = spread(
                dev, outside, full_dev, full_out, data.ood, data.score_groups, settings.seed,
                settings.n_null,
            )
            spreads.append({"model": plan.model, "sparsity": plan.sparsity, **numbers})
    members = pd.DataFrame(rows)
    models = model_table(settings, data, run, last)
    final_first = rows_where(
        members,
        (members.model == 0) & (members.step == last) & members.sparsity.isin(settings.sparsities),
    )
    _, full_out = read_outcomes(run, full_name(0, last))
    full_groups = {k: float(v[0]) for k, v in group_means(full_out, data.ood).items()}
    table = pd.DataFrame(spreads)
    final = [at_sparsity(settings, run, table, members, Plan(0, last, s, settings.n_masks))
             for s in settings.sparsities]
    by_step = points_of_training(settings, data, run)
    heads = [site for site in final[0].found.sites if site.kind == "head"]
    sets = sets_by_step(settings, run)
    return Results(
        members=members,
        models=models,
        groups=group_table(final_first, full_groups, data.ood.examples.groups()),
        spreads=table,
        final=final,
        sparser=sparser(settings, data, run, final),
        emergence=emergence.emergence_table(by_step, seed=settings.seed, n=settings.n_null),
        sizes=emergence.size_difference(by_step[-1], seed=settings.seed, n=settings.n_null),
        core_overlap=emergence.core_overlap(sets, heads, final[0].found),
        first_kept=emergence.first_kept(sets, heads, final[0].core),
        full_groups=full_groups,
        between_models=between(models, last),
        majority=float(np.bincount(data.dev.examples.label).max() / len(data.dev.examples)),
    )


def model_table(settings: Settings, data: StudyData, run: Run, last: int) -> pd.DataFrame:
    """Full models: one row a model and checkpoint, with intervals over examples."""
    rows = []
    for index in range(settings.n_models):
        steps = checkpoint_steps(settings) if index == 0 else [last]
        for step in steps:
            dev, outside = read_outcomes(run, full_name(index, step))
            inside = wilson(int(dev.sum()), dev.size)
            score = float(ood_score(outside, data.ood, data.score_groups)[0])
            n = sum(len(data.ood.rows[g]) for g in data.score_groups)
            ends = wilson(round(score * n), n)
            means = group_means(outside, data.ood)
            rows.append({
                "model": index, "step": step, "in_domain": inside.estimate,
                "in_domain_low": inside.low, "in_domain_high": inside.high,
                "out_of_domain": score, "out_of_domain_low": ends.low,
                "out_of_domain_high": ends.high, **{g: float(v[0]) for g, v in means.items()},
            })
    return pd.DataFrame(rows)


def between(models: pd.DataFrame, last: int) -> dict[str, float | int]:
    """Spread of full models over their seeds: mean, 95 % t interval, sd, range out of domain."""
    values = rows_where(models, models.step == last)["out_of_domain"].to_numpy()
    if len(values) < 2:
        return {"models": len(values), "mean": float(values.mean())}
    ends = t_interval(values)
    return {
        "models": len(values), "mean": ends.estimate, "low": ends.low, "high": ends.high,
        "sd": float(values.std(ddof=1)), "range": float(np.ptp(values)),
    }


def at_sparsity(
    settings: Settings, run: Run, spreads: pd.DataFrame, members: pd.DataFrame, plan: Plan
) -> AtSparsity:
    """Gather one sparsity's analyses of the first model."""
    found = read_set(run, plan)
    row = spreads[(spreads.model == 0) & (spreads.sparsity == plan.sparsity)].iloc[0]

    def table(name: str) -> pd.DataFrame | None:
        rel = f"tables/{name}-sparsity-{plan.sparsity:g}.csv"
        return run.read_table(rel) if run.path(rel).exists() else None

    tests, soft = table("core-tests"), table("soft-gates")
    assert soft is not None  # every final sparsity has them
    mine = rows_where(
        members, (members.model == 0) & (members.step == plan.step)
        & (members.sparsity == plan.sparsity),
    )
    return AtSparsity(
        plan=plan, found=found, core=found.core(), spread=row.to_dict(),
        overlap=found.overlap(settings.seed, settings.n_null),
        parity=parity_table(soft, mine, plan.sparsity),
        necessity=None if tests is None else core_summary(tests),
        core_tests=tests, contrasts=table("core-contrasts"), dependence=table("dependence"),
        edits=table("head-edits-best"), attention_heads=table("attention-heads"),
        attention_core=table("attention-core"),
    )


def sets_by_step(settings: Settings, run: Run) -> list[tuple[int, SubnetworkSet]]:
    """The first model's subnetworks at each step, of the first sparsity searched at every step."""
    sparsity = (*settings.checkpoint_sparsities, *settings.sparsities)[0]
    chosen = [p for p in plans(settings) if p.model == 0 and p.sparsity == sparsity]
    return [(p.step, read_set(run, p)) for p in sorted(chosen, key=lambda p: p.step)]


def points_of_training(
    settings: Settings, data: StudyData, run: Run
) -> list[emergence.Point]:
    """What was right at every checkpoint of the first model that was searched."""
    rows, strata = scored(data.ood, data.score_groups)
    points = []
    for step in checkpoint_steps(settings):
        mine = [plan for plan in plans(settings) if plan.model == 0 and plan.step == step]
        if not mine:
            continue
        outcomes = [read_outcomes(run, plan.name) for plan in mine]
        full_dev, full_out = read_outcomes(run, full_name(0, step))
        points.append(emergence.Point(
            step=step,
            sparsity=np.concatenate([
                np.full(len(dev), plan.sparsity)
                for plan, (dev, _) in zip(mine, outcomes, strict=True)
            ]),
            in_domain=emergence.Outcomes(
                np.concatenate([dev for dev, _ in outcomes]), full_dev[0]
            ),
            out_of_domain=emergence.Outcomes(
                np.concatenate([out[:, rows] for _, out in outcomes]), full_out[0, rows], strata
            ),
        ))
    return points


def ends_of(final: list[AtSparsity]) -> tuple[AtSparsity, AtSparsity]:
    """The least sparse and the sparsest, in whatever order the sparsities were asked for."""
    return min(final, key=lambda at: at.plan.sparsity), max(final, key=lambda at: at.plan.sparsity)


def sparser(
    settings: Settings, data: StudyData, run: Run, final: list[AtSparsity]
) -> dict[str, float]:
    """Sparsest minus least sparse out of domain: difference, interval over examples, p over seeds.

    Empty with one sparsity. p: one-sided permutation of the subnetworks' sparsity labels.
    """
    if len(final) < 2:
        return {}
    rows, strata = scored(data.ood, data.score_groups)
    low, high = (read_outcomes(run, at.plan.name)[1] for at in ends_of(final))
    both = np.concatenate([low[:, rows], high[:, rows]])
    drawn = resampled_scores(both, strata, seed=settings.seed, n=settings.n_null)
    k = len(low)
    ends = central(drawn[:, k:].mean(1) - drawn[:, :k].mean(1))
    means = [ood_score(part, data.ood, data.score_groups) for part in (low, high)]
    ways = comb(len(low) + len(high), len(low))
    return {
        "difference": float(means[1].mean() - means[0].mean()),
        "low": float(ends[0]), "high": float(ends[1]),
        "p": permutation_p(means[0], means[1], seed=settings.seed, tail="greater"),
        "p_smallest": max(1 / ways, 1e-4),
    }


def searched_sparsities(settings: Settings) -> str:
    """The sparsities searched at the end of training, for people."""
    found = sorted({p.sparsity for p in plans(settings)
                    if p.model == 0 and p.step == checkpoint_steps(settings)[-1]})
    return ", ".join(f"{s:.0%}" for s in found)
