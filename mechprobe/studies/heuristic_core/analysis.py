"""The causal analyses as units of a run: each writes its table and returns its settings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.runs import Run
from mechprobe.show.attention import show_attention
from mechprobe.show.kept_view import keep_view
from mechprobe.sites import Site
from mechprobe.studies.heuristic_core.attention import attention_sums, core_attention
from mechprobe.studies.heuristic_core.data import Split, halves, part_of
from mechprobe.studies.heuristic_core.dependence import dependence
from mechprobe.studies.heuristic_core.edits import head_edits
from mechprobe.studies.heuristic_core.necessity import core_tests
from mechprobe.studies.heuristic_core.search import OpenModel, Plan, read_outcomes, read_set

MOST_SHOWN = 6
"""Heads in the report's attention view; a pair of 256 tokens still fits."""


def small_splits(opened: OpenModel) -> tuple[Split, Split]:
    """The scored examples of the many small evaluations, disjoint from those used to select.

    In domain at most four times ``n_eval`` examples, out of domain ``n_eval`` of each scored
    sub-case, all from the reporting half.
    """
    data, settings = opened.data, opened.settings
    _, report = halves(data.ood)
    report_set = set(report.tolist())
    rows = []
    for group in data.score_groups:
        mine = [int(r) for r in data.ood.rows[group] if int(r) in report_set]
        rows += mine[: settings.n_eval or None]
    n_dev = len(data.dev.examples)
    dev_rows = range(min(n_dev, 4 * settings.n_eval or n_dev))
    return (
        part_of(data, data.dev, dev_rows, settings),
        part_of(data, data.ood, rows, settings),
    )


def extremes(opened: OpenModel, run: Run, plan: Plan) -> tuple[int, int]:
    """Positions of the best and the worst subnetwork out of domain, on the selection half."""
    data = opened.data
    _, outside = read_outcomes(run, plan.name)
    pick, _ = halves(data.ood)
    scored = np.concatenate([data.ood.rows[g] for g in data.score_groups])
    means = outside[:, np.intersect1d(pick, scored)].mean(1)
    return int(means.argmax()), int(means.argmin())


def core_of(run: Run, plan: Plan) -> list[Site]:
    """Heads kept by every subnetwork of a plan."""
    return read_set(run, plan).core()


def core_unit(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Keep or close the core (and random sets), table ``tables/core-tests-*.csv``."""
    core = core_of(run, plan)
    if not core:
        return {"core": []}
    dev, ood = small_splits(opened)
    settings = opened.settings
    table, contrasts = core_tests(
        opened, core, dev, ood, opened.data.score_groups, settings.n_random_sets, settings.seed
    )
    run.write_table(f"tables/core-tests-sparsity-{plan.sparsity:g}.csv", table)
    run.write_table(f"tables/core-contrasts-sparsity-{plan.sparsity:g}.csv", contrasts)
    return {"core": [str(site) for site in core]}


def edits_unit(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Flip every head in the best and the worst subnetwork, ``tables/head-edits-*.csv``.

    Rows by the size of the change out of domain.
    """
    found, core = read_set(run, plan), core_of(run, plan)
    best, worst = extremes(opened, run, plan)
    dev, ood = small_splits(opened)
    tables = [
        head_edits(opened, found[i], core, dev, ood, opened.data.score_groups, name)
        for name, i in (("best", best), ("worst", worst))
    ]
    for name, table in zip(("best", "worst"), tables, strict=True):
        run.write_table(
            f"tables/head-edits-{name}-sparsity-{plan.sparsity:g}.csv",
            table.sort_values("out_of_domain_change", key=abs, ascending=False),
        )
    return {"best_seed": found[best].seed, "worst_seed": found[worst].seed}


def attention_unit(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Attention of core heads and others on in-domain text: ``tables/attention-*``, a view."""
    core = core_of(run, plan)
    heads = [site for site in opened.grid.sites if site.kind == "head"]
    dev, _ = small_splits(opened)
    sums = attention_sums(opened, dev)
    per_head = pd.DataFrame({
        "head": [str(s) for s in heads], "in_core": [s in set(core) for s in heads],
        **sums.shares(),
    })
    run.write_table(f"tables/attention-heads-sparsity-{plan.sparsity:g}.csv", per_head)
    if 0 < len(core) < len(heads):
        table = core_attention(
            sums, heads, core, opened.settings.n_null, opened.settings.seed
        )
        run.write_table(f"tables/attention-core-sparsity-{plan.sparsity:g}.csv", table)
    if core:
        view = show_attention(opened.model, dev.batches[0], core[:MOST_SHOWN])
        keep_view(view, run.path(view_file(plan)))
    return {"core": [str(site) for site in core]}


def view_file(plan: Plan) -> str:
    """Where the attention of the core's first heads on one pair is kept."""
    return f"views/attention-{plan.sparsity:g}.json"


def dependence_unit(opened: OpenModel, run: Run, plan: Plan) -> dict:
    """Paths from the core through the best subnetwork's further heads, ``tables/dependence-*``."""
    found, core = read_set(run, plan), core_of(run, plan)
    best, _ = extremes(opened, run, plan)
    extra = [site for site in found[best].heads if site not in set(core)]
    if not core or not extra:
        return {"core": [str(s) for s in core], "further": [str(s) for s in extra]}
    _, ood = small_splits(opened)
    settings = opened.settings
    table = dependence(
        opened, core, extra, ood, opened.data.score_groups, settings.n_random_sets, settings.seed
    )
    run.write_table(f"tables/dependence-sparsity-{plan.sparsity:g}.csv", table)
    return {"core": [str(s) for s in core], "further": [str(s) for s in extra]}
