"""The study's claims, each judged by numbers of this run and set beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mechprobe.studies.claims import FAILED, HELD, UNTESTED, Claim, judge, p_value, percent

__all__ = [
    "FAILED",
    "HELD",
    "UNTESTED",
    "Claim",
    "judge",
    "p_value",
    "percent",
]

NEAR, WIDE, ALPHA = 0.03, 0.20, 0.01


def control_claim(
    inside: Mapping[str, float], out_of_domain: float, majority: float, paper: str
) -> Claim:
    """Positive control: the full model learned its task and generalises partly, not fully."""
    learned = inside["low"] > majority + 0.05
    partly = 0.1 <= out_of_domain <= 0.9
    return Claim(
        claim="Positive control: the full model learned the task and generalises partly",
        verdict=judge(learned and partly),
        numbers=f"in domain {percent(inside['estimate'])} [{percent(inside['low'])}, "
        f"{percent(inside['high'])}] against {percent(majority)} for the commonest label; out of "
        f"domain {percent(out_of_domain)}; asked: 5 points above the commonest label, and 10 to 90 "
        "out of domain. Where this did not hold, no other verdict means anything",
        paper=paper,
    )


def spread_claim(spread: Mapping[str, float], sparsity: float) -> Claim:
    """Claim 1: equal in domain, very different out of domain, beyond sampling."""
    worst = spread["full_in_domain"] - spread["in_domain_low"]
    held = worst <= NEAR and spread["range"] >= WIDE and spread["p_excess"] < ALPHA
    return Claim(
        claim=f"At {sparsity:.0%} sparsity one model contains subnetworks with about its in-domain "
        "accuracy that generalise very differently out of domain",
        verdict=judge(held and spread["gap_low"] > 0),
        numbers=f"{spread['subnetworks']:.0f} subnetworks; in domain "
        f"{percent(spread['in_domain_low'])} to {percent(spread['in_domain_high'])} "
        f"(full model {percent(spread['full_in_domain'])}); out of domain "
        f"{percent(spread['out_of_domain_low'])} to {percent(spread['out_of_domain_high'])} "
        f"(full model {percent(spread['full_out_of_domain'])}), sd "
        f"{percent(spread['out_of_domain_sd'])} against {percent(spread['sampling_sd'])} from "
        f"sampling ({p_value(spread['p_excess'])}); best minus worst on unseen examples "
        f"{percent(spread['gap'])} [{percent(spread['gap_low'])}, {percent(spread['gap_high'])}]; "
        f"asked: all within {percent(NEAR)} points in domain, range at least {percent(WIDE)}",
        paper="MNLI, 12 subnetworks at 50 %: in domain 80.1 to 81.9 (full 83.3), out of domain 3.4 "
        "to 28.2 (full 56.7)",
    )


def shared_claim(overlap: pd.DataFrame, n_heads: int, sparsity: float, n: int) -> Claim:
    """Claim 2: the subnetworks share more heads than random ones of the same sizes would."""
    size = overlap[overlap.statistic == "core size"].set_index("null")
    free, layered = size.loc["any layer"], size.loc["same layers"]
    return Claim(
        claim=f"The subnetworks at {sparsity:.0%} sparsity share a set of heads, the core",
        verdict=judge(free.observed > 0 and free.p < ALPHA and layered.p < ALPHA),
        numbers=f"{free.observed:.0f} of {n_heads} heads are in all {n}; by chance "
        f"{free.expected:.2f} ({p_value(free.p)}), with as many heads in each layer "
        f"{layered.expected:.2f} ({p_value(layered.p)})",
        paper="MNLI: 18 of 144 heads in all 12 at 50 %, 9 at both 50 and 70 %; QQP: 12 at 30 %, 8 "
        "at 60 %",
    )


def needed_claim(
    row: Mapping[str, float], core_value: float, full: float, contrast: Mapping[str, float]
) -> Claim:
    """Claim 2, causally: closing the core hurts more than closing as many random heads."""
    smallest = 1 / (1 + row["sets"])
    return Claim(
        claim="The full model needs the core: closing it costs more in-domain accuracy than "
        "closing random heads, as many in each layer",
        verdict=judge(row["p"] < 0.05, smallest, 0.05),
        numbers=f"full model {percent(full)}, core closed {percent(core_value)}, "
        f"{row['sets']:.0f} random sets closed {percent(row['in_domain'])} "
        f"({percent(row['in_domain_low'])} to {percent(row['in_domain_high'])}), "
        f"{p_value(row['p'])} (smallest possible {smallest:.3f}); core minus random "
        f"{percent(contrast['in_domain_difference'])} points "
        f"[{percent(contrast['in_domain_ci_low'])}, {percent(contrast['in_domain_ci_high'])}]",
        paper="closing the core breaks the model, closing random heads does not (figure only)",
    )


def shallow_claim(
    keep: Mapping[str, float], full_in: float, full_out: float,
    random: Mapping[str, float | int] | None = None,
) -> Claim:
    """Claim 3: the core alone keeps more of the in-domain than of the out-of-domain skill.

    ``keep``: the summary row of the core kept. ``random``: that of random sets kept instead; the
    core must beat them in domain.
    """
    keep_in, keep_out = keep["in_domain"], keep["out_of_domain"]
    chance = 0.5
    beats, against, smallest = True, "", 0.0
    if random is not None:
        beats, smallest = random["p"] < 0.05, 1 / (1 + random["sets"])
        against = (
            f"; {random['sets']:.0f} random sets, as many in each layer, keep "
            f"{percent(random['in_domain'])} in domain ({p_value(random['p'])}, smallest possible "
            f"{smallest:.3f}) and {percent(random['out_of_domain'])} out of domain"
        )
    loss_in, loss_out = full_in - keep_in, full_out - keep_out
    return Claim(
        claim="The core alone does not generalise: with only its heads open, in-domain accuracy "
        "survives better than out-of-domain accuracy",
        verdict=judge(
            beats and loss_out > loss_in + 0.05 and keep["out_of_domain_ci_high"] < chance,
            smallest, 0.05,
        ),
        numbers=f"only core heads open: in domain {percent(keep_in)} "
        f"[{percent(keep['in_domain_ci_low'])}, {percent(keep['in_domain_ci_high'])}] (full "
        f"{percent(full_in)}), out of domain {percent(keep_out)} "
        f"[{percent(keep['out_of_domain_ci_low'])}, {percent(keep['out_of_domain_ci_high'])}] "
        f"(full {percent(full_out)}){against}; asked: out of domain below 50 with its interval, "
        "and 5 points more lost there than in domain",
        paper="the core computes shallow features that do not generalise",
    )


def overlap_attention_claim(row: Mapping[str, float], smallest_p: float) -> Claim:
    """Claim 3: core heads attend to the same word in the other sentence more than others do."""
    return Claim(
        claim="Core heads compare words: they attend to the same word in the other sentence more "
        "than the other heads do",
        verdict=judge(row["difference"] > 0 and row["p"] < 0.05, smallest_p, 0.05),
        numbers=f"percent of attention: core {percent(row['core'])}, other heads "
        f"{percent(row['rest'])}, difference {percent(row['difference'])} "
        f"[{percent(row['low'])}, {percent(row['high'])}] over examples, {p_value(row['p'])} "
        f"(heads permuted; smallest possible {smallest_p:.3f})",
        paper="several core heads attend to repeated words between the sentences",
    )


def early_claim(
    observed: float, expected: float, p: float, smallest_p: float, step: int, n_sets: int
) -> Claim:
    """Claim 3: the final core is already in the subnetworks of early training."""
    return Claim(
        claim="Core heads emerge early in training",
        verdict=judge(p < ALPHA and observed > expected, smallest_p, ALPHA),
        numbers=f"at step {step} (the first searched) {n_sets} subnetworks keep "
        f"{percent(observed)} % of the final core (that of the other seeds), random heads, as many "
        f"in each layer, {percent(expected)} % (median {p_value(p)}, smallest possible "
        f"{smallest_p:.3f})",
        paper="core heads are kept from the first checkpoints on",
    )


def extra_heads_claim(n_significant: int, n_tested: int, largest: Mapping[str, Any]) -> Claim:
    """Claim 4: single heads outside the core carry generalisation but not in-domain accuracy."""
    return Claim(
        claim="Generalisation comes from further heads: removing single non-core heads from the "
        "best-generalising subnetwork costs out-of-domain but not in-domain accuracy",
        verdict=judge(n_significant > 0),
        numbers=f"removing {n_significant} of {n_tested} non-core heads lowers out-of-domain "
        "accuracy (Holm-corrected p < .01) by more than 2 points and more than twice what it costs "
        f"in domain; largest: {largest['head']}, {percent(largest['out_of_domain_change'])} points "
        f"[{percent(largest['out_of_domain_low'])}, {percent(largest['out_of_domain_high'])}] out "
        f"of domain, {percent(largest['in_domain_change'])} "
        f"[{percent(largest['in_domain_low'])}, {percent(largest['in_domain_high'])}] in domain",
        paper="removing single non-core heads changes out-of-domain accuracy by tens of points",
    )


def dependence_claim(
    core: Mapping[str, Any], random: Mapping[str, Any], closed: Mapping[str, Any], n: int
) -> Claim:
    """Claim 4, second half: closing the core reaches the answer through the further heads.

    Each row: drop of the log odds of the right answer out of domain, and its interval;
    ``random``: the range over sets, and p. Not testable where no further head lies behind the
    core, so that no path exists.
    """
    smallest = 1 / (1 + random["sets"])
    return Claim(
        claim="The further heads depend on the core's outputs",
        verdict=judge(core["low"] > 0 and random["p"] < 0.05, smallest, 0.05)
        if core["drop"] else UNTESTED,
        numbers=f"the {n} further heads of the best subnetwork, recomputed with the core closed "
        "and put into the full model, lower the log odds of the right answer out of domain by "
        f"{core['drop']:.2f} nats [{core['low']:.2f}, {core['high']:.2f}]; with random heads "
        f"closed instead, as many in each layer, by {random['drop']:.2f} ({random['low']:.2f} to "
        f"{random['high']:.2f}), {p_value(random['p'])} (smallest possible {smallest:.3f}); "
        f"closing the further heads themselves lowers them by {closed['drop']:.2f} "
        f"[{closed['low']:.2f}, {closed['high']:.2f}]",
        paper="further heads read the core's outputs",
    )


def size_claim(sizes: Mapping[str, float], grid: str, full_out: float) -> Claim:
    """Claim 5: out of domain the model needs more of itself than in domain."""
    if full_out < 0.1:
        verdict, extra = UNTESTED, "; the full model hardly generalises, so its size is undefined"
    else:
        verdict, extra = judge(sizes["low"] > 0), ""
    inside, outside = (
        f"{percent(sizes[name])} % [{percent(sizes[f'{name}_low'])}, "
        f"{percent(sizes[f'{name}_high'])}]" for name in ("in_domain", "out_of_domain")
    )
    return Claim(
        claim="The effective size out of domain is larger than in domain",
        verdict=verdict,
        numbers=f"final model: {inside} of the sites in domain, {outside} out of domain, "
        f"difference {percent(sizes['difference'])} [{percent(sizes['low'])}, "
        f"{percent(sizes['high'])}] over examples (sparsities searched: {grid}; 100 % = none of "
        f"them is enough){extra}",
        paper="MNLI at the end of training: 48 % in domain, 77 % out of domain",
    )


def sparser_claim(
    low: Mapping[str, float], high: Mapping[str, float], test: Mapping[str, float],
    s_low: float, s_high: float,
) -> Claim:
    """Sparser subnetworks generalise less, and all of them: none reaches the others' mean."""
    held = test["high"] < 0 and test["p"] < 0.05 and high["range"] < low["range"]
    return Claim(
        claim=f"At {s_high:.0%} sparsity subnetworks uniformly generalise less than at "
        f"{s_low:.0%}",
        verdict=judge(
            held and high["out_of_domain_high"] < low["out_of_domain"], test["p_smallest"], 0.05
        ),
        numbers=f"out of domain at {s_high:.0%}: {percent(high['out_of_domain_low'])} to "
        f"{percent(high['out_of_domain_high'])}, at {s_low:.0%}: "
        f"{percent(low['out_of_domain_low'])} to {percent(low['out_of_domain_high'])}; difference "
        f"of means {percent(test['difference'])} [{percent(test['low'])}, {percent(test['high'])}] "
        f"over examples, {p_value(test['p'])} over subnetworks (smallest possible "
        f"{test['p_smallest']:.3f}); asked: p < .05 with its interval, a narrower range, and none "
        f"at {s_high:.0%} as good as the mean at {s_low:.0%}",
        paper="MNLI at 70 %: 0 to 2.9; at 50 %: 3.4 to 28.2",
    )


def without_control(claims: Sequence[Claim]) -> list[Claim]:
    """The claims as they stand when the positive control, the first of them, did not hold."""
    control, *others = claims
    return [control, *(
        replace(c, verdict=UNTESTED, numbers=f"the positive control did not hold; {c.numbers}")
        for c in others
    )]
