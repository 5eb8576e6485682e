"""The claims, each judged by numbers of this run with its null, beside published ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mechprobe.stats import t_interval
from mechprobe.studies.claims import UNTESTED, Claim, judge
from mechprobe.studies.topology.bars import margins
from mechprobe.studies.topology.baselines import CHAIN
from mechprobe.studies.topology.finetune import PLAIN, null_of
from mechprobe.studies.topology.gains import by_condition, collapses, fall, mcc_gain, pulled_streams
from mechprobe.studies.topology.results import UNTRAINED, Results, span
from mechprobe.studies.topology.verdict_metrics import (
    division_of_work,
    lower_bound,
    separates_training,
    upper_bound,
)


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


def probes_find_trees(results: Results) -> Claim:
    """Positive control: trees are read from the trained model, not from chance or position."""
    place = results.best()
    own, chain = results.score("uuas"), results.baselines[CHAIN, "test", "uuas"]
    untrained = results.minus(own, results.score("uuas", UNTRAINED))[place]
    over_chain = _over_baseline(results, place)
    asked = margins(results.settings)
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
        judge(held),
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
        judge(held),
        f"selectivity at {place}: trained {span(found['trained'])}, untrained "
        f"{span(found[UNTRAINED])}{mlp}; asked: above .10 with its interval, and .10 more than "
        "untrained",
        "Hewitt and Liang 2019: linear probes are more selective than MLP probes",
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
        text, judge(len(hits) > 0),
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
    level = 1 - 0.05 / len(streams)
    learned = t_interval(np.array([unit["mcc"] for unit in plain]))
    lines, helped = [f"plain {learned:.3f}, {collapses(plain)}"], []
    for name in streams:
        gain, over_null = (mcc_gain(units, name, base, level) for base in (PLAIN, null_of(name)))
        helped.append(gain.low > 0 and over_null.low > 0)
        lines.append(
            f"{name}: gain {gain:.3f}, {collapses(by[name])}; over the same pull with labels read "
            f"backwards {over_null:.3f}, of which {collapses(by[null_of(name)])}; L_probe fell "
            f"{fall(units, name):.1f}-fold"
        )
    asked = f"gains are paired by seed, {level:.1%} intervals over seeds (t), both asked to be " \
        "above 0"
    if not learned.low > 0:
        asked = "plain fine-tuning did not surely learn the task, so nothing can be said of a gain"
    return Claim(
        text, judge(any(helped)) if learned.low > 0 else UNTESTED,
        f"Matthews' correlation, {len(plain)} seeds: {'; '.join(lines)}; {asked}", paper,
    )
