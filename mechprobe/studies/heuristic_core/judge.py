"""Turn the gathered results into the study's list of judged claims."""

from __future__ import annotations

import numpy as np

from mechprobe.studies.heuristic_core import verdict
from mechprobe.studies.heuristic_core.attention import smallest_p
from mechprobe.studies.heuristic_core.results import (
    AtSparsity,
    Results,
    ends_of,
    searched_sparsities,
)
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.heuristic_core.verdict import Claim


def judge_all(settings: Settings, results: Results) -> list[Claim]:
    """Every claim of the paper that this run can speak to, in the paper's order."""
    claims = [control(settings, results)]
    claims += [verdict.spread_claim(at.spread, at.plan.sparsity) for at in results.final]
    for at in results.final:
        n_heads = at.found.sites.n_head_sites
        claims.append(verdict.shared_claim(at.overlap, n_heads, at.plan.sparsity, len(at.found)))
    main = results.final[0]
    claims += necessity_claims(settings, main)
    claims += emergence_claims(settings, results)
    claims.append(extra_heads(main))
    claims.append(dependence(main))
    claims += size_claims(settings, results)
    if len(results.final) > 1:
        low, high = ends_of(results.final)
        claims.append(verdict.sparser_claim(
            low.spread, high.spread, results.sparser, low.plan.sparsity, high.plan.sparsity
        ))
    return claims if claims[0].verdict == verdict.HELD else verdict.without_control(claims)


PAPER_FULL = {
    "mnli-hans": "MNLI: 83.3 in domain, 56.7 out of domain",
    "qqp-paws": "QQP: 91.2 in domain, PAWS 14.8 out of domain",
    "overlap": "MNLI: 83.3 in domain, 56.7 out of domain; this task is ours",
}
"""Accuracy of the full models of Bhaskar et al. 2024."""


def control(settings: Settings, results: Results) -> Claim:
    """The first model at the end of training, against always giving the commonest label."""
    mine = results.models[results.models.model == 0]
    last = mine.loc[mine.step.idxmax()]
    inside = {"estimate": float(last.in_domain), "low": float(last.in_domain_low),
              "high": float(last.in_domain_high)}
    return verdict.control_claim(
        inside, float(last.out_of_domain), results.majority, PAPER_FULL[settings.pair]
    )


def necessity_claims(settings: Settings, at: AtSparsity) -> list[Claim]:
    """Claims that need a core: closing it, keeping only it, where it looks."""
    if at.necessity is None or at.contrasts is None or at.attention_core is None:
        shared = "every head is" if at.core else "no head is"
        return [Claim(
            claim="The full model needs the core, the core alone does not generalise, and its "
            "heads compare words", verdict=verdict.UNTESTED,
            numbers=f"{shared} shared by all {len(at.found)} subnetworks, so there is no core "
            "beside other heads",
            paper="9 to 18 heads form the core",
        )]
    table = at.necessity.set_index(["test", "heads"])
    full, keep, close = (table.loc[key] for key in (
        ("full", "all"), ("keep", "core"), ("close", "core"),
    ))
    key = ("keep", "random, same layers")
    random = table.loc[key].to_dict() if key in table.index else None
    looks = at.attention_core.set_index("attention").loc["overlap"]
    least = smallest_p(at.found.sites.n_head_sites, len(at.core), settings.n_null)
    against = at.contrasts.set_index(["test", "against"])
    return [
        verdict.needed_claim(
            table.loc[("close", "random, same layers")].to_dict(), float(close.in_domain),
            float(full.in_domain), against.loc[("close", "random, same layers")].to_dict(),
        ),
        verdict.shallow_claim(
            keep.to_dict(), float(full.in_domain), float(full.out_of_domain), random,
        ),
        verdict.overlap_attention_claim(looks.to_dict(), least),
    ]


def emergence_claims(settings: Settings, results: Results) -> list[Claim]:
    """Whether the final core is already kept at the first checkpoint."""
    table = results.core_overlap
    steps = sorted(set(table.step)) if len(table) else []
    if len(steps) < 2 or not results.final[0].core:
        return [Claim(
            claim="Core heads emerge early in training", verdict=verdict.UNTESTED,
            numbers="this preset searches no earlier checkpoint, or there is no core",
            paper="core heads are kept from the first checkpoints on",
        )]
    first = table[table.step == steps[0]]
    # masks of one model are not independent, so their p-values cannot be combined: the middle one
    return [verdict.early_claim(
        float((first.core_kept / first.core_size).mean()),
        float((first.expected / first.core_size).mean()),
        float(np.median(first.p)), float(np.median(first.p_smallest)), int(steps[0]), len(first),
    )]


def extra_heads(at: AtSparsity) -> Claim:
    """Single non-core heads whose removal from the best subnetwork costs only generalisation."""
    edits = at.edits
    assert edits is not None  # the first sparsity always has them
    mine = edits[(edits.edit == "remove") & ~edits.in_core]
    if mine.empty:
        return Claim(
            claim="Generalisation comes from further heads", verdict=verdict.UNTESTED,
            numbers="the best subnetwork keeps no head outside the core",
            paper="removing single non-core heads changes out-of-domain accuracy by tens of points",
        )
    loss_out, loss_in = -mine.out_of_domain_change, -mine.in_domain_change
    hits = (mine.p_corrected < 0.01) & (loss_out > 0.02) & (loss_out > 2 * loss_in)
    worst = mine.iloc[int(np.argmax(loss_out.to_numpy()))]
    return verdict.extra_heads_claim(
        int(hits.sum()), len(mine), {str(k): v for k, v in worst.to_dict().items()}
    )


def dependence(at: AtSparsity) -> Claim:
    """Whether the core reaches the answer through the further heads."""
    table = at.dependence
    if table is None:
        return Claim(
            claim="The further heads depend on the core's outputs", verdict=verdict.UNTESTED,
            numbers="there is no core, or the best subnetwork keeps no head outside it",
            paper="further heads read the core's outputs",
        )
    rows = {str(row["path"]): row for row in table.to_dict("records")}
    n = sum(str(name).endswith(" closed") for name in rows) - 1
    return verdict.dependence_claim(
        rows["core -> further heads"], rows["random -> further heads"],
        rows["further heads closed"], n,
    )


def size_claims(settings: Settings, results: Results) -> list[Claim]:
    """Effective sizes at the end of training."""
    full_out = float(results.emergence.iloc[-1].full_out_of_domain)
    return [verdict.size_claim(results.sizes, searched_sparsities(settings), full_out)]
