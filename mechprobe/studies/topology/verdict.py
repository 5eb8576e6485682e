"""The claims, each judged by numbers of this run with its null, beside published ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechprobe.studies.topology.baselines import CHAIN
from mechprobe.studies.topology.finetune import PLAIN, null_of
from mechprobe.studies.topology.gains import by_condition, mcc_gain, pulled_streams
from mechprobe.studies.topology.results import UNTRAINED, Results, inequality_table

HELD, FAILED, UNTESTED = "held", "did not hold", "not testable here"
FEW = 1_000
"""Training sentences below which the bars of small samples are asked for."""


@dataclass(frozen=True)
class Claim:
    """A claim, the verdict here, the numbers behind it, and what the paper says."""

    claim: str
    verdict: str
    numbers: str
    paper: str


def judge_all(results: Results) -> list[Claim]:
    """Every claim of the study."""
    return [
        probes_find_trees(results),
        probes_are_selective(results),
        lower_bound(results),
        upper_bound(results),
        division_of_work(results),
        separates_training(results),
        heads_carry(results),
        regularising_helps(results),
    ]


def verdict(held: bool | np.bool_) -> str:
    """The words for a claim that could be tested."""
    return HELD if held else FAILED


def span(found: tuple[float, float, float], form: str = ".3f") -> str:
    """An estimate with its interval."""
    value, low, high = (format(part, form) for part in found)
    return f"{value} [{low}, {high}]"


def probes_find_trees(results: Results) -> Claim:
    """Positive control: trees are read from the trained model, not from chance or position."""
    place = results.best()
    own, chain = results.score("uuas"), results.baselines[CHAIN, "test", "uuas"]
    untrained = results.minus(own, results.score("uuas", UNTRAINED))[place]
    over_chain = _over_baseline(results, place)
    asked = (0.18, 0.20) if results.settings.n_train > FEW else (0.15, 0.10)
    held = (
        untrained[0] >= asked[0] and over_chain[0] >= asked[1]
        and untrained[1] > 0 and over_chain[1] > 0
    )
    last = results.residual()[-1]
    second = ""
    if "second" in results.parts:
        there = results.score("uuas", part="second")
        second = f"; second treebank {there.value()[there.at(place)]:.3f} (chain " \
            f"{results.baselines[CHAIN, 'second', 'uuas'].value()[0]:.3f})"
    low, high = own.interval(n=results.settings.n_boot, seed=results.settings.seed)
    i = own.at(place)
    return Claim(
        "Positive control: structural probes find trees in the trained model that an untrained "
        "model and the chain do not give",
        verdict(held),
        f"UUAS at {place} (chosen on other sentences) {span((own.value()[i], low[i], high[i]))}; "
        f"over untrained {span(untrained)}, over the chain ({chain.value()[0]:.3f}) "
        f"{span(over_chain)}; last layer {own.value()[own.at(last)]:.3f}{second}; asked: "
        f"{asked[0]:.2f} over untrained and {asked[1]:.2f} over the chain, both intervals above 0. "
        "Where this did not hold, no other verdict means anything",
        "Hewitt and Manning 2019, Penn Treebank: BERT-large block 15 .825, BERT-base block 7 .798, "
        "chain .489",
    )


def _over_baseline(results: Results, place: str) -> tuple[float, float, float]:
    """UUAS at a stream minus the chain's, with its paired interval."""
    own = results.score("uuas")
    chain = results.baselines[CHAIN, "test", "uuas"]
    i = own.at(place)
    one = type(own)((CHAIN,), own.top[i : i + 1], own.bottom, own.group)
    return results.minus(one, chain)[CHAIN]


def probes_are_selective(results: Results) -> Claim:
    """Linear part-of-speech probes beat their control in the trained model only."""
    place = results.best()
    found = {}
    for model in ("trained", UNTRAINED):
        task, control = results.score("upos", model), results.score("upos-control", model)
        found[model] = results.minus(task, control)[place]
    held = found["trained"][1] > 0.10 and found["trained"][0] - found[UNTRAINED][0] > 0.10
    mlp = ""
    if results.has("mlp"):
        value = results.minus(results.score("mlp"), results.score("mlp-control"))[place]
        mlp = f"; MLP probes {span(value)}"
    return Claim(
        "Linear probes of parts of speech are selective in the trained model, not in an untrained",
        verdict(held),
        f"selectivity at {place}: trained {span(found['trained'])}, untrained "
        f"{span(found[UNTRAINED])}{mlp}; asked: above .10 with its interval, and .10 more than "
        "untrained",
        "Hewitt and Liang 2019: linear probes are more selective than MLP probes",
    )


def lower_bound(results: Results) -> Claim:
    """X_ssp <= X_sp: follows from exact labels at equal B, asked of separate probes too."""
    table = inequality_table(results)
    same = table["x_ssp_at_the_x_sp_probe"] <= table["x_sp"] + 1e-9
    apart = table["x_ssp"] <= table["x_sp"]
    sure = table["sp_minus_ssp_low"] > 0
    n = len(table)
    return Claim(
        "X_ssp <= X_sp",
        verdict(bool(same.all()) and bool(apart.all())),
        f"at the same B in {same.sum()} of {n} streams (it must be: the gold profile is one of "
        f"those the exact label is chosen from); with a probe trained for each in {apart.sum()} of "
        f"{n}, the interval of the difference above 0 in {sure.sum()}",
        "claimed; holds in all of the authors' logs",
    )


def upper_bound(results: Results) -> Claim:
    """X_sp <= X_essp: claimed, not provable."""
    table = inequality_table(results)
    held = table["x_sp"] <= table["x_essp"]
    flat = sum(share > 0.5 for share in results.probes["trained", "essp"]["flat"]["test"].values())
    against = table["essp_minus_sp_high"] < 0
    resid = table.query(f"stream in {results.residual()}")
    shown = ", ".join(
        f"{row['stream']} {row['x_sp']:.3f} and {row['x_essp']:.3f}"
        for row in resid.to_dict("records")
    )
    return Claim(
        "X_sp <= X_essp",
        verdict(bool(held.all())),
        f"in {held.sum()} of {len(table)} streams; in {against.sum()} X_essp is smaller and the "
        f"interval of the difference excludes 0; the labels of X_essp are mostly one 1 and all "
        f"others 2 in {flat} of {len(table)}. X_sp and X_essp of the residual stream: {shown}",
        "claimed; does not hold at blocks 1 to 15 of the authors' own validation logs",
    )


def division_of_work(results: Results) -> Claim:
    """X_sp is best between the ends, in the trained model and more than in an untrained one."""
    names = results.residual()
    place = results.best("x_sp", least=True)
    drops = {
        (model, end): _drop(results, model, end, place)
        for model in ("trained", UNTRAINED) for end in (names[0], names[-1])
    }
    first, last = drops["trained", names[0]], drops["trained", names[-1]]
    null = drops[UNTRAINED, names[0]]
    inside = place not in (names[0], names[-1])
    held = inside and first[1] > 0 and last[1] > 0 and first[0] > null[2]
    if len(names) < 4:
        return Claim(
            "The metrics divide the layers: X_sp is best in between", UNTESTED,
            f"{len(names)} points of the residual stream; 4 or more are needed",
            "supervised depth best at blocks 14 to 18 of BERT-large; X_ssp jumps at blocks 11-12",
        )
    ssp = results.score("x_ssp")
    shown = " ".join(f"{ssp.value()[ssp.at(name)]:.3f}" for name in names)
    return Claim(
        "The metrics divide the layers: X_sp is best between the first and the last",
        verdict(held),
        f"X_sp is least at {place} (chosen on other sentences): lower than at {names[0]} by "
        f"{span(first)}, than at {names[-1]} by {span(last)}; untrained, the same against "
        f"{names[0]}: {span(null)}. X_ssp from {names[0]} to {names[-1]}: {shown}",
        "supervised depth best at blocks 14 to 18 of BERT-large; X_ssp jumps 2.6-fold between 11 "
        "and 12",
    )


def _drop(results: Results, model: str, end: str, place: str) -> tuple[float, float, float]:
    """X_sp at one stream minus that at another, paired by sentence."""
    score = results.score("x_sp", model)
    one, other = (
        type(score)(("x",), score.top[i : i + 1], score.bottom, score.group)
        for i in (score.at(end), score.at(place))
    )
    return results.minus(one, other)["x"]


def separates_training(results: Results) -> Claim:
    """Ours: does the label-free metric tell a trained model from an untrained one?"""
    found = results.minus(results.score("x_ssp"), results.score("x_ssp", UNTRAINED))
    names = results.residual()
    lower = [n for n in names if found[n][2] < 0]
    higher = [n for n in names if found[n][1] > 0]
    flat = results.probes["trained", "ssp"]["flat"]["test"]
    mostly = [n for n in names if flat[n] > 0.5]
    return Claim(
        "Ours: X_ssp is smaller in a trained model than in an untrained one (over half of the "
        "points of the residual stream)",
        verdict(len(lower) > len(names) / 2),
        f"smaller at {len(lower)} of {len(names)} points ({', '.join(lower) or 'none'}), larger at "
        f"{len(higher)} ({', '.join(higher) or 'none'}), intervals excluding 0; labels mostly one "
        f"1 and all others 2 at {', '.join(mostly) or 'none'} (there a small X_ssp is no sign of "
        "a tree)",
        "not asked in the paper",
    )


def heads_carry(results: Results) -> Claim:
    """Ours: closing single heads costs later layers the tree, beyond equal random changes."""
    text = "Ours: single heads carry the tree to later layers, beyond what a random change of " \
        "their output in size costs"
    if results.heads is None:
        return Claim(text, UNTESTED, "no head was closed", "not asked in the paper")
    rows = results.heads["uuas"]["table"]
    hits = sorted((row for row in rows if carries(row)), key=lambda row: row["excess"])
    by_layer = Counter(row["head"].split(".")[0] for row in hits)
    worst = "; ".join(
        f"{row['head']} {span((row['change'], row['change_low'], row['change_high']))} (turned "
        f"{row['turned']:.3f})" for row in hits[:4]
    )
    return Claim(
        text, verdict(len(hits) > 0),
        f"{len(hits)} of {len(rows)} heads lower UUAS at the best later point more than "
        f"{results.settings.n_turns} random turns of equal size (Holm-corrected p < .05): "
        f"{worst or 'none'}; by layer: "
        + (", ".join(f"{layer}: {n}" for layer, n in sorted(by_layer.items()))
           or "none"),
        "not asked in the paper",
    )


def carries(row: Mapping[str, Any]) -> bool:
    """Whether closing a head lowers the score more than every turn, and surely so."""
    below = row["excess"] < 0 and row["change"] < row["turned_low"]
    return below and row["p_corrected"] < 0.05


def regularising_helps(results: Results) -> Claim:
    """Fine-tuning with the pull scores higher than without and than with its null, over seeds."""
    text = "Regularising a submodule towards a tree raises fine-tuning performance"
    paper = "CoLA, BERT-large, 10 seeds: plain .6335 +- .0171; block 5 .6391, 9 .6356, 11 .6396; " \
        "blocks 12 to 19 collapse to 0 in all seeds"
    units = results.finetuned
    by = by_condition(units)
    plain, streams = by.get(PLAIN, []), pulled_streams(units)
    if len(plain) < 2:
        return Claim(text, UNTESTED, "fewer than two fine-tuned models a condition", paper)
    collapsed = sum(unit["collapsed"] for unit in plain)
    if collapsed == len(plain):
        return Claim(text, UNTESTED, "plain fine-tuning collapsed in every seed", paper)
    level = 1 - 0.05 / len(streams)
    lines, helped = [], []
    for name in streams:
        gain, over_null = (mcc_gain(units, name, base, level) for base in (PLAIN, null_of(name)))
        helped.append(gain.low > 0 and over_null.low > 0)
        fell = np.mean([unit["probe_loss_before"][name] / max(unit["probe_loss_after"][name], 1e-12)
                        for unit in by[name]])
        lines.append(
            f"{name}: {np.mean([unit['mcc'] for unit in by[name]]):.3f}, gain {gain:.3f}, over the "
            f"same pull with labels read backwards {over_null:.3f}, "
            f"{sum(unit['collapsed'] for unit in by[name])} of {len(by[name])} collapsed, L_probe "
            f"fell {fell:.1f}-fold"
        )
    base = np.array([unit["mcc"] for unit in plain])
    return Claim(
        text, verdict(any(helped)),
        f"Matthews' correlation, {len(plain)} seeds: plain {base.mean():.3f} (sd "
        f"{base.std(ddof=1):.3f}, {collapsed} collapsed); " + "; ".join(lines)
        + f"; gains are paired by seed, {level:.1%} intervals over seeds (t), both asked to be "
        "above 0",
        paper,
    )
