"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe import figures
from mechprobe.runs import Run
from mechprobe.stats import empirical_p
from mechprobe.studies.heuristic_core.attention import KINDS
from mechprobe.studies.heuristic_core.results import AtSparsity, Results, rows_where
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.report_parts import Gallery


def draw(settings: Settings, results: Results, run: Run, score_groups: tuple[str, ...]
         ) -> dict[str, str]:
    """Draw every figure; returns name -> path of its PNG inside the run folder."""
    gallery = Gallery(run)
    draw_spread(settings, results, score_groups, gallery)
    draw_frequency(results, gallery)
    for at in results.final:
        draw_similarity(at, gallery)
        draw_core(at, gallery)
    draw_curves(settings, results, gallery)
    return gallery.drawn


def draw_spread(
    settings: Settings, results: Results, score_groups: tuple[str, ...], gallery: Gallery
) -> None:
    """Accuracy of the first model's subnetworks, by domain and out-of-domain sub-case."""
    shown = final_members(settings, results)
    names = {"in_domain": "in domain", "out_of_domain": "out of domain",
             **{g: f"  {g}" for g in score_groups}}
    full = {**full_model(results), **{g: results.full_groups[g] for g in score_groups}}
    gallery.keep("spread", figures.accuracy_spread(
        shown, names, full=full, by="sites closed", width=figures.PAGE,
        title=f"{len(shown)} subnetworks of one model",
    ), shown.filter(["seed", "sparsity", *names]))


def draw_frequency(results: Results, gallery: Gallery) -> None:
    """How often each site is kept, a map a sparsity."""
    sites = results.final[0].found.sites
    kept = {at.plan.sparsity: at.found.frequency() for at in results.final}
    gallery.keep("keep-frequency", figures.keep_frequency(
        {f"{sparsity:.0%} closed": frequency for sparsity, frequency in kept.items()},
        sites, n_members=[len(at.found) for at in results.final],
    ), pd.DataFrame({
        "site": [str(s) for s in sites], **{f"{sparsity:g}": f for sparsity, f in kept.items()}
    }))


def draw_similarity(at: AtSparsity, gallery: Gallery) -> None:
    """How alike the subnetworks of one sparsity are, and their overlap beside random sets."""
    tag = f"{at.plan.sparsity:g}"
    order = at.found.cluster()
    similarity = at.found.jaccard()[np.ix_(order, order)]
    seeds = [str(at.found[i].seed) for i in order]
    gallery.keep(
        f"jaccard-{tag}", figures.jaccard_matrix(similarity, seeds, axis="seed"),
        pd.DataFrame(similarity, index=seeds, columns=seeds).reset_index(names="seed"),
    )
    gallery.keep(f"overlap-{tag}", figures.bars_with_null(at.overlap), at.overlap)


def draw_core(at: AtSparsity, gallery: Gallery) -> None:
    """What was tested of the core at one sparsity; nothing where no tests ran."""
    tag = f"{at.plan.sparsity:g}"
    if at.attention_core is not None and at.attention_heads is not None:
        p = dict(zip(at.attention_core["attention"], at.attention_core["p"], strict=True))
        gallery.keep(f"attention-{tag}", figures.attention_profile(
            at.attention_heads, list(KINDS), p=p), at.attention_heads)
    if at.core_tests is not None:
        core = core_beside_random(at.core_tests)
        gallery.keep(f"core-{tag}", figures.bars_with_null(
            core, label="heads", panel="test", scale=100, unit="(accuracy, %)",
            null="random sets (mean, range)",
        ), core)
    if at.dependence is not None:
        paths = path_table(at.dependence)
        gallery.keep(f"dependence-{tag}", figures.bars_with_null(
            paths, label="path", panel=None, unit="drop of log odds out of domain (nats)",
            null="random heads closed (mean, range)",
        ), paths)
    if at.edits is not None:
        gallery.keep(f"edits-{tag}", edits_map(at, at.edits), at.edits)


def draw_curves(settings: Settings, results: Results, gallery: Gallery) -> None:
    """Accuracy over training and over sparsity, where there is more than one of them."""
    if len(results.emergence) > 1:
        gallery.keep("emergence", figures.emergence(
            results.emergence,
            accuracy={"full_in_domain": "full model, in domain",
                      "full_out_of_domain": "full model, out of domain",
                      "in_domain": "subnetworks, in domain",
                      "out_of_domain": "subnetworks, out of domain"},
            size={"size_in_domain": "in domain", "size_out_of_domain": "out of domain"},
        ), results.emergence)
    curve = sparsity_means(results)
    if len(curve) > 1:
        gallery.keep("sparsity", figures.sparsity_curve(
            curve, {"in_domain": "in domain", "out_of_domain": "out of domain"},
            members=final_members(settings, results, every=True), bars="lowest to highest",
            full=full_model(results),
        ), curve)


def full_model(results: Results) -> dict[str, float]:
    """The first model's own accuracy at its last step, in domain and out."""
    last = results.models[results.models.model == 0].iloc[-1]
    return {name: last[name] for name in ("in_domain", "out_of_domain")}


def final_members(settings: Settings, results: Results, *, every: bool = False) -> pd.DataFrame:
    """The first model's final subnetworks; with ``every`` also of the emergence sparsities."""
    rows = results.members
    rows = rows_where(rows, rows.model == 0)
    rows = rows_where(rows, rows.step == rows.step.max())
    if not every:
        rows = rows_where(rows, rows.sparsity.isin(settings.sparsities))
    return rows.assign(**{"sites closed": [f"{s:.0%}" for s in rows.sparsity]})


def sparsity_means(results: Results) -> pd.DataFrame:
    """Mean, lowest and highest accuracy at each sparsity of the final model."""
    rows = results.members
    rows = rows_where(rows, rows.model == 0)
    rows = rows_where(rows, rows.step == rows.step.max())
    out = []
    for sparsity, part in rows.groupby("sparsity"):
        row: dict[str, Any] = {"sparsity": sparsity}
        for name in ("in_domain", "out_of_domain"):
            row |= {name: part[name].mean(), f"{name}_low": part[name].min(),
                    f"{name}_high": part[name].max()}
        out.append(row)
    return pd.DataFrame(out)


def core_beside_random(tests: pd.DataFrame) -> pd.DataFrame:
    """The core's accuracy beside random sets as many in each layer, one row a test and domain."""
    out = []
    for test in ("close", "keep"):
        core = tests[(tests.test == test) & (tests["heads"] == "core")].iloc[0]
        sets = rows_where(
            tests, (tests.test == test) & (tests["heads"] == "random, same layers")
        )
        for column, name in (("in_domain", "in domain"), ("out_of_domain", "out of domain")):
            values = sets[column].to_numpy()
            tail = "less" if test == "close" else "greater"
            out.append({
                "test": f"{test} only these heads", "heads": name, "observed": core[column],
                "expected": values.mean(), "null_low": values.min(), "null_high": values.max(),
                "p": empirical_p(float(core[column]), values, tail),
            })
    return pd.DataFrame(out)


def path_table(dependence: pd.DataFrame) -> pd.DataFrame:
    """The core's path through the further heads beside random heads' paths."""
    rows = dependence.set_index("path")
    core, null = rows.loc["core -> further heads"], rows.loc["random -> further heads"]
    return pd.DataFrame([{
        "path": "core, through the further heads", "observed": core["drop"],
        "expected": null["drop"], "null_low": null["low"], "null_high": null["high"],
        "p": null["p"],
    }])


def edits_map(at: AtSparsity, edits: pd.DataFrame) -> Figure:
    """Change of out-of-domain accuracy when each head of the best subnetwork is flipped."""
    grid = at.found.sites
    change = edits.set_index("head")["out_of_domain_change"]
    heads = [str(site) for site in grid.sites if site.kind == "head"]
    values = grid.head_array(100 * change.loc[heads].to_numpy())
    return figures.head_map(
        values, title="flip one head of the best subnetwork",
        unit="change out of domain (points)", diverging=True, marked=at.core, number=".0f",
    )
