"""Claims about the inside of models: attention, probes, causal tests, judged by this run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechprobe.studies.claims import UNTESTED, Claim, judge, p_value
from mechprobe.studies.hierarchy.results import ModelResults, Results
from mechprobe.studies.hierarchy.rows import records, values
from mechprobe.studies.hierarchy.verdict_training import TASKS, absent

ENRICHED, ABSENT_AT, ALPHA = 1.3, 1.1, 0.05


def attention_claims(results: Results) -> list[Claim]:
    """Claim 4, for each task."""
    return [attention_claim(results, kind) for kind in ("root", "masked")]


def attention_claim(results: Results, kind: str) -> Claim:
    """Attention goes to height h where, and only where, the data have correlations at h."""
    claim = (
        f"Attention maps reconstruct the hierarchy ({TASKS[kind]}): some head looks at height h "
        "more than chance at heights 1 and 2 where the data have correlations there, and at none "
        "where they have none"
    )
    paper = {
        "root": "figure; prototype E_h, h = 1..4: k=0 9.5 3.5 1.4 1.05; k=3 11 1 1 1; k=4 1.2 1 1 "
        "1 (asked: at least 1.3 for h up to min(l-k, 2), at most 1.1 above l-k)",
        "masked": "figure; prototype E_h, h = 1..4: k=0 15.4 4.1 1.7 .1; k=3 12.7 .58 .79 .78; "
        "k=4 1.3 1 1 1 (asked: as for the root)",
    }[kind]
    models = results.of_main_shape(kind)
    if not models:
        return absent(claim, "no such model in this run", paper)
    said, held = [], []
    for model in models:
        ok, text = enrichment(model)
        held.append(ok)
        said.append(text)
    return Claim(claim, judge(all(held)), "; ".join(said), paper)


def enrichment(model: ModelResults) -> tuple[bool, str]:
    """Whether E_h is large exactly up to height l - k, and the numbers."""
    reach = model.spec.depth - model.spec.k
    trained = records(model.strongest, by="height", weights="trained")
    fresh = values(model.strongest, "enrichment", by="height", weights="untrained")
    inside = [row for row in trained if row["height"] <= min(reach, 2)]
    beyond = [row for row in trained if row["height"] > reach]
    limit = 1.5 if reach == 0 else ABSENT_AT
    ok = all(row["enrichment"] >= ENRICHED and row["p"] < ALPHA for row in inside)
    ok = ok and all(row["enrichment"] <= limit for row in beyond)
    shown = " ".join(
        f"{row['enrichment']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in trained
    )
    least = ", ".join(p_value(row["p"]) for row in inside) or "none asked"
    return ok, (
        f"{model.spec.name}: E_h for h = 1..{model.spec.depth} {shown} (against some head "
        f"with relabelled positions: {least}); before training {numbers(fresh)}"
    )


def layers_claim(results: Results) -> Claim:
    """Successive layers look at successive heights."""
    claim = "Layer by layer attention moves to larger heights"
    paper = "figure; prototype, masked k=0: mean height 1.08, 1.65, 2.46, 1.95 in layers 1 to 4 " \
            "(uniform 3.06; asked: rising over layers 1 to 3)"
    model = results.main("masked", 0)
    if model is None or model.spec.n_layers < 3:
        return absent(claim, "no masked model of the full hierarchy with 3 layers or more", paper)
    if "masked" not in set(model.layers["queries"]):
        return absent(claim, "no attention of masked leaves", paper)

    def heights(queries: str, weights: str) -> list[float]:
        return values(model.layers, "mean_height", by="layer", queries=queries, weights=weights)

    every = heights("all", "trained")
    return Claim(
        claim, judge(bool((np.diff(every[:3]) > 0).all())),
        f"{model.spec.name}: mean height attended to in layers 1 to {len(every)}, all queries "
        f"{numbers(every)}, masked leaves {numbers(heights('masked', 'trained'))}; before training "
        f"{numbers(heights('masked', 'untrained'))}", paper,
    )


def probe_claims(results: Results) -> list[Claim]:
    """Claim 5: layers support ancestors of increasing height."""
    claims = []
    for model in (results.main("root", 0), results.main("masked", 0)):
        if model is not None and model.probes is not None:
            claims += [probe_claim(model), reach_claim(model)]
    return claims or [absent(
        "Layer i supports probes of ancestors up to height i", "no model of the full hierarchy"
    )]


def probe_claim(model: ModelResults) -> Claim:
    """Layer m tells the ancestor of height m, better than untrained and control probes.

    Not better than the control at height 1: it asks for the same pair of leaves, and the contents
    of a pair are few enough to be memorised.
    """
    assert model.probes is not None
    trained, fresh = (
        {(r["layer"], r["height"]): r for r in records(model.probes, weights=weights)}
        for weights in ("trained", "untrained")
    )
    depth = min(model.spec.depth - 1, model.spec.n_layers)
    held, said = [], []
    for m in range(1, depth + 1):
        row, none = trained[m, m], fresh[m, m]
        bar = 0.95 if m == 1 else 0.70
        held.append(row["mlp"] >= bar and row["mlp_low"] > none["mlp_high"]
                    and (m == 1 or row["selectivity"] > 0))
        said.append(
            f"layer {m}, height {m}: {row['mlp']:.2f} [{row['mlp_low']:.2f}, "
            f"{row['mlp_high']:.2f}] (ceiling of a block of {model.arity**m} leaves "
            f"{row['ceiling']:.2f}, untrained {none['mlp']:.2f}, control {row['control']:.2f}, "
            f"linear {row['linear']:.2f})"
        )
    return Claim(
        f"Layer i supports probes of ancestors up to height i ({TASKS[model.spec.kind]})",
        judge(all(held)), "; ".join(said),
        "figure, read off: with 1 layer .455 .65 .857, 2 layers .59 .99 1.0, 3 layers .985 .993 "
        ".99 for levels 1, 2, 3; prototype: layer m on height m 1.0, .78, .74 (asked: at least "
        ".70, the first .95 against .75 untrained)",
    )


def reach_claim(model: ModelResults) -> Claim:
    """Whether probe posteriors follow the messages of belief propagation layer by layer."""
    assert model.reach is not None
    said, held = [], []
    for height in sorted(set(model.reach["height"])):
        part = records(model.reach, by="layer", closest=True, height=height)
        path = [r["reach"] for r in part]
        held.append(bool((np.diff(path) >= 0).all() and path[-1] > path[0]))
        said.append(f"height {height}: " + ", ".join(
            f"{r['reach']} ({r['kl']:.2f})" for r in part
        ))
    return Claim(
        "Probe posteriors follow the messages of belief propagation: the observer they are closest "
        f"to sees a larger block in each further layer ({TASKS[model.spec.kind]})",
        judge(all(held)),
        f"log{model.arity} of the closest observer's block in layers 0, 1, ... (KL(observer || "
        "probe), nats): "
        + "; ".join(said),
        "not reported",
    )


def construction_claim(results: Results) -> Claim:
    """Claim 6: exact inference fits in l layers, and the study's measures see it there."""
    claim = (
        "Exact inference fits an encoder of l layers, and the measures of attention and probes say "
        "what is true of that network"
    )
    paper = "existence argument for l layers; prototype: equal to 3e-15 for all k"
    error = results.exact.get("construction")
    if error is None or len(results.planted) == 0:
        return absent(claim, "the construction is for binary trees", paper)
    wrong = records(results.planted, agrees=False)
    missed = "; ".join(
        f"{r['measure']} in layer {r['layer']}: {r['found']:.2f}, true {r['truth']:.2f}"
        for r in wrong
    )
    return Claim(
        claim, judge(error < 1e-8 and len(wrong) == 0),
        f"largest difference from inference over all k and both tasks {error:.1e}; "
        f"{len(results.planted) - len(wrong)} of {len(results.planted)} measures agree with the "
        f"truth{f' ({missed})' if missed else ''}", paper,
    )


def blocks_claim(results: Results) -> Claim:
    """The causal test: attention limited to the own block of height s leaves B_s."""
    model = results.main("masked", 0)
    arity = 2 if model is None else model.arity
    claim = f"Limiting attention to the own block of {arity}^s leaves turns the model into B_s"
    paper = "not reported; prototype (ours): closest = s for s = 0..3, KL .024, .068, .056, .014"
    if model is None or model.blocks is None:
        return absent(claim, "no masked model of the full hierarchy in this run", paper)
    table = model.blocks
    own_block, random = "own block", "random leaves"
    (whole,) = records(table, allowed=own_block, s=model.spec.depth, closest=True)
    said, held = [], []
    for s in range(model.spec.depth):
        (best,) = records(table, allowed=own_block, s=s, closest=True)
        (own,) = records(table, allowed=own_block, s=s, rung=s)
        (other,) = records(table, allowed=random, s=s, rung=s)
        (nearest,) = records(table, allowed=random, s=s, closest=True)
        held.append(best["rung"] == s and best["share"] >= 0.95)
        said.append(
            f"s = {s}: closest B_{best['rung']}, KL to B_{s} {own['kl']:.3f} "
            f"[{own['low']:.3f}, {own['high']:.3f}] (as many random leaves: {other['kl']:.3f}, "
            f"closest B_{nearest['rung']})"
        )
    return Claim(
        claim, judge(all(held)),
        f"{model.spec.name}, unlimited closest to B_{whole['rung']}: " + "; ".join(said), paper,
    )


def ranking_claims(results: Results) -> list[Claim]:
    """Whether four methods name the same heads as rebuilding a level."""
    models = [m for m in results.models.values() if m.agreement is not None]
    models = [m for m in models if m.spec.n_heads * m.spec.n_layers >= 6]
    claim = (
        "Attention, causal effect, patching and learned masks name the same heads as rebuilding a "
        "level"
    )
    if not models:
        return [absent(claim, "no masked model with six heads or more in this run")]
    return [*(ranking_claim(claim, m) for m in models), *(sets_claim(m) for m in models)]


def ranking_claim(claim: str, model: ModelResults) -> Claim:
    """The four rankings of one model, against relabelled heads."""
    assert model.agreement is not None
    said, held = [], []
    for level in sorted(set(model.agreement["level"])):
        (whole,) = records(model.agreement, level=level, first="all")
        (pair,) = records(model.agreement, level=level, first="attention", second="gates")
        held.append(bool(whole["p"] < ALPHA))
        said.append(
            f"level {level}: mean rho {whole['rho']:.2f}, {p_value(whole['p'])}; attention "
            f"and gates {pair['rho']:.2f} [{pair['low']:.2f}, {pair['high']:.2f}]"
        )
    learnt = model.path("B_s")[-1]
    due = [ok for level, ok in enumerate(held, start=1) if level <= learnt]
    return Claim(
        f"{claim} ({model.spec.name})", judge(all(due)) if due else UNTESTED,
        f"{model.spec.n_heads * model.spec.n_layers} heads; Spearman's rho over heads, p against "
        f"relabelled heads; the model has learnt levels up to {learnt} (judged on these): "
        + "; ".join(said), "not reported",
    )


def sets_claim(model: ModelResults) -> Claim:
    """The heads that look at a height matter for its level more than random heads."""
    assert model.sets is not None
    claim = f"The two heads that look most at height s carry the level-s part ({model.spec.name})"
    if len(model.sets) == 0:
        return absent(claim, "too few heads")
    learnt = model.path("B_s")[-1]
    said, held = [], []
    for row in records(model.sets):
        ok = row["p"] < ALPHA and row["low"] > 0
        if row["level"] <= learnt:
            held.append(bool(ok))
        said.append(
            f"level {row['level']}: closing {row['set']} costs {row['observed']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] nats, other pairs {row['expected']:.3f} "
            f"({row['null_low']:.3f} to {row['null_high']:.3f}), {p_value(row['p'])}"
        )
    return Claim(
        claim, judge(all(held)) if held else UNTESTED,
        f"chosen and scored on different sequences; learnt up to level {learnt}: "
        + "; ".join(said), "not reported",
    )


def numbers(found: Sequence[float]) -> str:
    """Numbers with two decimals, side by side."""
    return " ".join(f"{value:.2f}" for value in found)
