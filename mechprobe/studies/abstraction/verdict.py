"""The study's claims, each judged by this run's numbers, beside what the paper says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.stats.intervals import Interval
from mechprobe.studies.abstraction.effects import Probe
from mechprobe.studies.abstraction.mutations import KINDS
from mechprobe.studies.abstraction.settings import ADAPT, Settings, smoke_test
from mechprobe.studies.abstraction.timeline import MEMORY
from mechprobe.studies.claims import (
    FAILED,
    HELD,
    UNTESTED,
    Claim,
    judge,
    p_value,
    percent,
    replace_verdict,
)

LEARNT = 0.9
SMOKE = "a smoke test, whose few steps teach nothing: "
NO_NUMBERS = "claimed for pretrained T5 and GPT-2; the paper's numbers were not available here"


def shown(ends: Interval) -> str:
    """An estimate in percent with its interval."""
    return f"{percent(ends.estimate)} [{percent(ends.low)}, {percent(ends.high)}]"


def control_claim(settings: Settings, tried: Sequence[Probe], first: pd.DataFrame) -> Claim:
    """Learnt at all: control and auxiliary training reach .9 in distribution."""
    learnt = [p.score("control", "test", settings).estimate for p in tried if p.adapt == "full"]
    inside = learnt or [p.score("auxiliary", "test", settings).estimate for p in tried]
    auxiliary = [row for row in first.to_dict("records") if row["task"] == "auxiliary"]
    means = {
        name: float(np.mean([row[name] for row in auxiliary]))
        for name in ("in_distribution", "generalisation")
    }
    who = "control" if learnt else "target task after the auxiliary one"
    claim = Claim(
        claim="Positive control: target and auxiliary task are learnt in distribution",
        verdict=judge(min(inside) >= LEARNT and means["in_distribution"] >= LEARNT),
        numbers=f"exact match: {who} {percent(min(inside))}, auxiliary task "
        f"{percent(means['in_distribution'])} (its own generalisation items "
        f"{percent(means['generalisation'])}); asked: {percent(LEARNT)} of both. Where this did "
        "not hold, no other verdict means anything",
        paper="no claim of the paper; asked here so that the others mean something",
    )
    if smoke_test(settings):
        return replace_verdict(claim, UNTESTED, SMOKE)
    return claim


def capability_claim(settings: Settings, probe: Probe, whole: Probe | None = None) -> Claim:
    """E1 and E2: the auxiliary task helps, the contrast task does not help as much.

    ``whole``: the probe whose control and contrast learn all weights; a frozen body must beat
    these, too.
    """
    pairs = [probe]
    if whole is not None and whole.adapt != probe.adapt:
        pairs.append(probe.against(whole))
    gains = {
        test: [pair.gain("auxiliary", over, "ood", settings) for pair in pairs]
        for test, over in (("E1", "control"), ("E2", "contrast"))
    }
    told = "; ".join(
        f"{test} {shown(ends[0])} points"
        + "".join(f", against one that learns all weights {shown(other)}" for other in ends[1:])
        + f" ({judge(all(each.low > 0 for each in ends))})"
        for test, ends in gains.items()
    )
    how = ADAPT[probe.adapt] + ("" if probe.adapt == "full" else " (ours)")
    scores = "; ".join(
        f"{name} {shown(probe.score(start, 'ood', settings))}, in distribution "
        f"{percent(probe.score(start, 'test', settings).estimate)}"
        for start, name in (("auxiliary", "main"), ("control", "control"), ("contrast", "contrast"))
    )
    seeds = f"{settings.n_sets} set{'s' if settings.n_sets > 1 else ''}, intervals over sets and "
    seeds += "examples" + (", too narrow with so few sets" if settings.n_sets < 10 else "")
    claim = Claim(
        claim="The model reuses the concept of the auxiliary task, learning the target task with "
        f"{how} (E1: main above control, E2: main above contrast)",
        verdict=judge(all(each.low > 0 for ends in gains.values() for each in ends)),
        numbers=f"{told}; generalisation: {scores}; {seeds}",
        paper=NO_NUMBERS,
    )
    learnt = max(pair.score("contrast", "test", settings).estimate for pair in pairs)
    if claim.verdict == HELD and learnt < LEARNT:
        return replace_verdict(
            claim, UNTESTED, "E2 needs a contrast that learns the target task in distribution, and "
            f"it reaches {percent(learnt)} (asked: {percent(LEARNT)}): ",
        )
    return claim


def timeline_claim(found: Sequence[Mapping[str, float]]) -> Claim:
    """Memorise, then abstract: transfer comes more than one point of the grid after memory."""
    cells = [each["cells"] for each in found if np.isfinite(each["cells"])]
    late = sum(cell > 1 for cell in cells)
    steps = "; ".join(
        f"memory {each['memory_step']:g}, transfer {each['abstraction_step']:g}" for each in found
    )
    claim = Claim(
        claim="Training memorises first and abstracts later",
        verdict=judge(late > len(found) / 2),
        numbers=f"first steps with memory of {percent(MEMORY)} and with half of the largest gain, "
        f"by set: {steps}; later by more than one point of the grid in {late} of {len(found)}",
        paper=NO_NUMBERS,
    )
    if len(cells) <= len(found) / 2:
        return replace_verdict(claim, UNTESTED, "memory or transfer was not reached: ")
    return claim


def heads_claim(found: Sequence[Mapping[str, Any]], capability: str) -> Claim:
    """A few heads: concentrated beyond chance, and closing them hurts more than random ones.

    What the same closing costs in distribution is told beside: heads may serve both.

    Args:
        capability: the verdict on the capability of these models.
    """
    ends = [each["top_beyond_random_low"] > 0 for each in found]
    few = [each["concentration_p"] < 0.05 for each in found]
    text = "; ".join(
        f"{each['concentration_half']:.0f} of {each['concentration_sites']:.0f} heads hold half of "
        f"the score (Gini {each['concentration_gini']:.2f}, chance "
        f"{each['concentration_null']:.2f}, {p_value(each['concentration_p'])}), closing the top "
        f"{each['closed']:.0f} costs {each['top_beyond_random']:.2f} "
        f"[{each['top_beyond_random_low']:.2f}, {each['top_beyond_random_high']:.2f}] nats a token "
        f"more than as many random ones ({each['full'] - each['top_closed']:.2f} in all; in "
        f"distribution {each['in_distribution_full'] - each['in_distribution_top_closed']:.2f})"
        for each in found
    )
    claim = Claim(
        claim="Generalisation rests on a few heads, ranked by what it loses beyond the target task",
        verdict=judge(all(ends) and all(few)),
        numbers=f"by set: {text}; asked: both in every set",
        paper=NO_NUMBERS,
    )
    because = {
        FAILED: "the model did not show the capability, so these heads carry little of it: ",
        UNTESTED: "whether the model has the capability was not testable here: ",
    }
    return replace_verdict(claim, claim.verdict, because.get(capability, ""))


def middle_claim(layers: Sequence[pd.DataFrame], n_layers: int) -> Claim:
    """The heads stand in the middle layers."""
    centres = [float(value) for table in layers
               for value in table.drop_duplicates("stack")["centre"]]
    known = [value for value in centres if np.isfinite(value)]
    claim = Claim(
        claim="The heads of generalisation stand in middle layers",
        verdict=judge(bool(known) and all(0.25 <= value <= 0.75 for value in known)),
        numbers="centre of the positive score from 0 (first layer) to 1 (last), by set and "
        f"attention type: {', '.join(f'{value:.2f}' for value in known)}; asked: .25 to .75",
        paper=NO_NUMBERS,
    )
    if n_layers < 4:
        return replace_verdict(claim, UNTESTED, f"{n_layers} layers have no clear middle: ")
    return claim


def mutation_claim(kinds: pd.DataFrame, whole: Interval) -> Claim:
    """Robust to concept mutations: low more than high, source more than target.

    ``whole``: the gain of the unchanged task; where it may be 0 there is nothing to keep.
    """
    rows = kinds.to_dict("records")
    told = [
        f"{row['first']} {row['rho_first']:.2f}, {row['second']} {row['rho_second']:.2f} of the "
        f"gain kept, difference in gain {percent(row['difference'])} [{percent(row['low'])}, "
        f"{percent(row['high'])}] points" for row in rows
    ]
    claim = Claim(
        claim="The concept survives mutations: low-level more than high-level ones, source more "
        "than target",
        verdict=judge(all(row["low"] > 0 for row in rows)),
        numbers="; ".join([f"gain of the unchanged task {shown(whole)} points", *told])
        + "; asked: both differences above 0; intervals over sets and items, of these mutations",
        paper=NO_NUMBERS,
    )
    if len(rows) < len(KINDS):
        return replace_verdict(claim, UNTESTED, "not every kind was run: ")
    return claim if whole.low > 0 else replace_verdict(claim, UNTESTED, "no gain to keep: ")


def generic_claims(gains: pd.DataFrame | None) -> list[Claim]:
    """Generic pretraining raises the gain, for each way to learn the target task."""
    name = "Generic pretraining is critical for abstraction"
    if gains is None:
        return [Claim(name, UNTESTED, "no generic pretraining in this run (--generic-steps)",
                      NO_NUMBERS)]
    return [
        generic_claim(name, str(adapt), part.set_index("start").to_dict("index"))
        for adapt, part in gains.groupby("adapt", sort=False)
    ]


def generic_claim(name: str, adapt: str, rows: Mapping[str, Mapping[str, Any]]) -> Claim:
    """The gain from a pretrained model less that from a random one is above 0."""
    told = {
        start: f"{shown(Interval(row['delta'], row['low'], row['high'], 0))} (main "
        f"{percent(row['main'])}, control {percent(row['control'])})" for start, row in rows.items()
    }
    return Claim(
        claim=f"{name} (stand-in: the grammar in other vocabularies), learning the target task "
        f"with {ADAPT[adapt]}",
        verdict=judge(rows["difference"]["low"] > 0),
        numbers=f"gain after generic pretraining {told['pretrained']}, from random weights "
        f"{told['random']}, difference {told['difference']} points; asked: the difference of "
        "gains above 0. The generic vocabularies' tasks hold the concept too, so that the control "
        "may have learnt it there",
        paper=NO_NUMBERS,
    )
