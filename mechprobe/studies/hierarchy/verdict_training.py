"""Claims about what models learn and in which order, judged by numbers of this run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.studies.claims import FAILED, HELD, UNTESTED, Claim, judge, percent
from mechprobe.studies.hierarchy.results import ModelResults, Results, rise_then_fall
from mechprobe.studies.hierarchy.rows import records, values
from mechprobe.studies.hierarchy.sequences import IN, OUT
from mechprobe.studies.hierarchy.trajectory import BLOCKS, FILTERS
from mechprobe.trees import inversions

TASKS = {"root": "root classification", "masked": "masked language modelling"}


def absent(claim: str, why: str, paper: str = "") -> Claim:
    """A claim that this run's models cannot speak to."""
    return Claim(claim, UNTESTED, why, paper)


def control_claim(results: Results) -> Claim:
    """Exact parts are exact, and the models on the full hierarchy beat BP_l, to which leaves are
    independent given the root."""
    exact = results.exact
    tools = exact["enumeration"] < 1e-10 and exact["sampler"] < 0.02
    built = exact.get("construction")
    tools = tools and (built is None or built < 1e-8)
    said, learned = [], []
    for model in results.models.values():
        if not model.spec.full or model.spec.variant:
            continue
        row = model.final_accuracy(IN)
        least = float(row[f"BP_{model.spec.depth}"])
        learned.append(float(row["low"]) > least)
        said.append(
            f"{model.spec.name}: {percent(row['accuracy'])} [{percent(row['low'])}, "
            f"{percent(row['high'])}] against {percent(least)}"
        )
    return Claim(
        claim="Positive control: inference, sampler and constructed network are exact, and models "
        "of the full hierarchy beat what needs no hierarchy",
        verdict=judge(bool(tools and learned and all(learned))) if learned else judge(bool(tools)),
        numbers=f"inference against enumeration {exact['enumeration']:.1e}, sampled against "
        f"enumerated strings {exact['sampler']:.3f} (total variation), constructed network against "
        f"inference {'no binary tree' if built is None else f'{built:.1e}'}; accuracy (%) against "
        f"inference for independent leaves: {'; '.join(said) or 'no such model'}",
        paper="prototype: 1e-10, below .02, 3e-15",
    )


def exact_inference_claims(results: Results) -> list[Claim]:
    """Claim 1, in sample and on uniform strings, for both tasks."""
    return [exact_inference(results, "root"), exact_inference(results, "masked"),
            outside(results)]


def exact_inference(results: Results, kind: str) -> Claim:
    """A model of the full hierarchy approaches exact inference on held-out sequences."""
    claim = f"A vanilla encoder approaches exact inference ({TASKS[kind]}, full hierarchy)"
    prototype = {
        "root": "matches the oracle; prototype: accuracy .994, KL .029 after 6,000 steps; asked: "
        "accuracy .97 and KL at most .10",
        "masked": "matches the oracle after 2,000 epochs of 2^18 sequences; prototype: accuracy "
        ".684 against .714, KL .077 after 14,000 steps; asked: accuracy within .04 of exact "
        "inference, KL to B_3 at most .03",
    }[kind]
    model = results.main(kind, 0)
    if model is None:
        return absent(claim, "no such model in this run", prototype)
    row, kl = model.final_accuracy(IN), model.final_kl(IN)[0]
    best = float(row["BP_0"])
    numbers = (
        f"accuracy {percent(row['accuracy'])} [{percent(row['low'])}, {percent(row['high'])}] "
        f"against {percent(best)} of exact inference, same first choice in "
        f"{percent(row['agreement'])}; KL(BP_0 || model) {interval(kl)} nats"
    )
    if kind == "root":
        held = row["accuracy"] >= 0.97 and kl["high"] <= 0.10
    else:
        block = model.final_kl(IN, BLOCKS)
        top = block[max(0, model.spec.depth - 1)]
        numbers += f", KL(B_{model.spec.depth - 1} || model) {interval(top)}"
        held = row["accuracy"] >= best - 0.04 and top["kl"] <= 0.03
    return Claim(claim, judge(bool(held)), numbers, prototype)


def outside(results: Results) -> Claim:
    """The same on uniform random strings."""
    claim = "The same holds on uniform random strings, which training never showed"
    paper = "holds in and out of sample; prototype on CPU: not reached for k of 2 or less"
    said, held = [], []
    for kind in TASKS:
        model = results.main(kind, 0)
        if model is None:
            continue
        row, kl = model.final_accuracy(OUT), model.final_kl(OUT)
        said.append(
            f"{model.spec.name}: same first choice as BP_0 in {percent(row['agreement'])} %, KL "
            f"{interval(kl[0])}, closest BP_{nearest(kl)}"
        )
        held.append(row["agreement"] >= 0.9 and kl[0]["kl"] <= 0.2)
    if not said:
        return absent(claim, "no model of the full hierarchy in this run", paper)
    return Claim(claim, judge(all(held)), "; ".join(said), paper)


def staircase_claims(results: Results) -> list[Claim]:
    """Claim 2: correlations at larger distances are included one level after the other."""
    return [staircase_claim(results, "root"), staircase_claim(results, "masked")]


def staircase_claim(results: Results, kind: str) -> Claim:
    """The closest filter level falls step by step; a filtered model's staircase ends early."""
    ladder = "BP_k"
    claim = (
        f"Larger distances are included one level after the other ({TASKS[kind]}): the closest "
        f"{ladder} falls from the independent leaves towards the full hierarchy"
    )
    paper = {
        "root": "falls from k = l to 0; prototype: 4, 3, 2, 1, 0 (asked: at least 4 of 5 stages, "
        "one inversion at most)",
        "masked": "falls from k = l to 0; prototype: 4, 3, 2 within 60 s (asked: through 4, 3, 2)",
    }[kind]
    model = results.main(kind, 0)
    if model is None:
        return absent(claim, "no such model in this run", paper)
    depth = model.spec.depth
    every = model.path()
    path = compressed(every)
    wanted = max(2, depth) if kind == "root" else min(3, depth)
    wrong = inversions(every)
    sure = float(np.mean([s >= 0.95 for s in values(model.stairs[FILTERS], "share")]))
    stages = len(set(path))
    held = wrong <= 1 and stages >= wanted and path[0] >= depth - 1
    controls = [
        f"{other.spec.name} ends at {other.path()[-1]}"
        for other in results.trained(kind) if other.spec.k > 0 and not other.spec.variant
    ]
    numbers = (
        f"{model.spec.name}: closest filter level {', '.join(map(str, path))} ({stages} of "
        f"{depth + 1} stages, {wrong} inversions); {percent(sure)} % of checkpoints have the same "
        "closest level in 95 % of resamples"
    )
    if BLOCKS in model.stairs:
        own = compressed(model.path(BLOCKS))
        numbers += f"; on the ladder of blocks: {', '.join(f'B_{s}' for s in own)}"
    if controls:
        numbers += f"; control, trained on filtered data: {'; '.join(controls)}"
    return Claim(claim, judge(bool(held)), numbers, paper)


def rise_and_fall_claim(results: Results) -> Claim:
    """While deeper levels are learnt, accuracy on more filtered test sets rises, then falls."""
    claim = (
        "On test sets filtered above the training data accuracy first rises, then falls, as the "
        "model comes to rely on levels that these sets do not have"
    )
    paper = "figure; prototype: peak minus final .156, .190, .221 at k = 2, 3, 4 (asked: .10)"
    model = results.main("root", 0)
    if model is None:
        return absent(claim, "no model of the full hierarchy in this run", paper)
    falls = rise_then_fall(model)
    judged = [r for r in records(falls) if r["test set"] != "k=1" or model.spec.depth == 1]
    held = bool(judged) and all(r["fall"] >= 0.10 for r in judged)
    said = ", ".join(
        f"{r['test set']} {r['fall']:.3f} ({r['peak']:.3f} at {r['peak_at']:,} sequences, then "
        f"{r['final']:.3f})" for r in records(falls)
    )
    return Claim(claim, judge(held), f"peak minus final accuracy: {said}", paper)


def own_level_claim(results: Results) -> Claim:
    """Claim 3: a model trained at filter k matches BP_k and no other."""
    claim = "A model trained on data filtered at k matches BP_k, and the next best observer is far"
    paper = (
        "holds for all k; prototype: root k = 2, 3, 4 KL .047, .0064, .0033, masked .038, .018, "
        ".008, runner-up at least 3 times (asked: k >= 2 KL at most .08, 3 times)"
    )
    rows = [
        m for m in results.models.values()
        if not m.spec.variant and (m.spec.kind == "root" or m.spec.k >= min(2, m.spec.depth))
        and m.spec.k != 1
    ]
    if not rows:
        return absent(claim, "no model with such a k in this run", paper)
    said, held = [], []
    for model in rows:
        kl = model.final_kl(IN)
        best, own = nearest(kl), kl[model.spec.k]
        ratio = min(r["kl"] for k, r in kl.items() if k != model.spec.k) / own["kl"]
        ok = best == model.spec.k and ratio >= 3
        if model.spec.k >= 2:
            ok = ok and own["kl"] <= 0.08
        held.append(ok)
        said.append(
            f"{model.spec.name}: KL to BP_{model.spec.k} {interval(own)}, closest "
            f"BP_{best}, "
            + (f"next best {ratio:.1f} times" if best == model.spec.k else "which is nearer")
        )
    return Claim(claim, judge(all(held)), "; ".join(said), paper)


def scaling_claim(results: Results) -> Claim:
    """Deeper levels take more sequences."""
    claim = (
        "Deeper levels take more sequences: none is reached before the one above it, and the last "
        "takes at least twice as many as the first"
    )
    paper = "figure (transitions in the sequential order); no numbers"
    table = results.scaling
    if len(table) == 0:
        return absent(claim, "no model of the full hierarchy in this run", paper)
    said, held = [], []
    for name in dict.fromkeys(table["model"]):
        part = [r for r in records(table, model=name)
                if r["level"] < r["depth"] and not math.isnan(r["sequences"])]
        if len(part) < 2:
            continue
        counts = [r["sequences"] for r in part]
        held.append(bool(min(np.diff(counts)) >= 0 and counts[-1] >= 2 * counts[0]))
        said.append(f"{name}: " + ", ".join(
            f"k <= {int(r['level'])} after {int(r['sequences']):,}" for r in part
        ))
    if not said:
        return absent(claim, "no staircase with two levels below the first", paper)
    return Claim(claim, HELD if all(held) else FAILED, "; ".join(said), paper)


def compressed(values: list[int]) -> list[int]:
    """A sequence without repetitions of neighbours: 4, 4, 3, 3, 4 as 4, 3, 4."""
    found = [int(v) for v in values]
    return [v for i, v in enumerate(found) if i == 0 or v != found[i - 1]]


def interval(row: Mapping[str, Any]) -> str:
    """A divergence with its interval, where it has one."""
    low, high = float(row["low"]), float(row["high"])
    if math.isnan(low):
        return f"{row['kl']:.3g}"
    return f"{row['kl']:.3g} [{low:.3g}, {high:.3g}]"


def nearest(kl: Mapping[int, Mapping[str, Any]]) -> int:
    """The rung of least divergence."""
    return min(kl, key=lambda rung: kl[rung]["kl"])


def all_final(results: Results) -> pd.DataFrame:
    """Every model at the end of training, one row a model and kind of sequences."""
    rows = []
    for model in results.models.values():
        for drawn in dict.fromkeys(model.accuracy["drawn"]):
            row = model.final_accuracy(drawn)
            if drawn in (IN, OUT):
                kl = model.final_kl(drawn)
                own = kl[model.spec.k]
                row |= {"closest": nearest(kl), "kl_own": own["kl"], "kl_own_low": own["low"],
                        "kl_own_high": own["high"]}
            rows.append(row)
    return pd.DataFrame(rows)


def model_label(model: ModelResults) -> str:
    """A model's name for pictures."""
    spec = model.spec
    shape = f", {spec.n_heads} heads" if spec.n_heads > 1 else ""
    if "-layers" in spec.name:
        shape += f", {spec.n_layers} layers"
    return f"{spec.kind}, k = {spec.k}{shape}" + (
        f", depth {spec.depth}" if "-depth" in spec.name else ""
    ) + (f", q = {spec.q}" if "-q" in spec.name else "")
