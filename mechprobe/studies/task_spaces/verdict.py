"""The study's claims, each judged by numbers of this run and set beside the published ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mechprobe.stats import bootstrap_mean
from mechprobe.studies.claims import HELD, UNTESTED, Claim, judge, p_value, percent
from mechprobe.studies.task_spaces.at_point import related, row_means
from mechprobe.studies.task_spaces.results import Results
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.verdict_tuning import tuning_claims
from mechprobe.training.pair_scores import macro_mean

ALPHA = 0.05
NO_NUMBER = "stated in the abstract; no number could be read"


def judge_all(
    settings: Settings, results: Results, tables: dict[str, pd.DataFrame]
) -> list[Claim]:
    """Every claim of the paper that this run can speak to, the positive control first.

    Args:
        tables: by name, as ``write.all_tables`` makes them.
    """
    last = tables["development"].iloc[-1]
    claims = [control(results), phenomena(settings, results)]
    claims += [gradients(results, last), signal(results, last)]
    claims += tuning_claims(settings, results)
    claims += [vocabulary(results), scales(settings, results, tables["sizes"])]
    claims += [spreads(results, tables), stable(results, tables["likeness"])]
    claims.append(heads(results))
    if claims[0].verdict == HELD:
        return claims
    return [claims[0], *(
        replace(c, verdict=UNTESTED, numbers=f"the positive control did not hold; {c.numbers}")
        for c in claims[1:]
    )]


def control(results: Results) -> Claim:
    """The language model knows something, and not everything."""
    at = results.main
    right = at.arrays["scores"] > 0
    ends = bootstrap_mean(right.astype(float), 0, 500)
    room = float((at.accuracy < 0.95).mean())
    macro = macro_mean(at.accuracy, results.pairs.phenomena)
    return Claim(
        claim="Positive control: the language model is above chance and its tasks leave room",
        verdict=judge(ends.low > 0.5 and room >= 0.3),
        numbers=f"accuracy {percent(ends.estimate)} [{percent(ends.low)}, {percent(ends.high)}], "
        f"mean over phenomena {percent(macro)}; {percent(room)} % of the tasks are below 95; "
        "asked: above 50 and 30 % of the tasks",
        paper="GPT-2 on BLiMP 83 (BLiMP paper); the paper's own models are not stated here",
    )


def phenomena(settings: Settings, results: Results) -> Claim:
    """Claim 1: transfer is larger within a phenomenon, and follows linguistic theory."""
    tests = results.main.tests
    c, interval = results.tuning.contrast, results.tuning.interval
    test, raw = tests["transfer ~ hypothesis"], tests["accuracy transfer ~ hypothesis"]
    unit = "nats" if settings.scale == "log_odds" else "share"
    return Claim(
        claim="Task spaces reflect linguistic theory: tuning on a task helps tasks of its "
        "phenomenon more than others",
        verdict=judge(test.p < ALPHA and c.p < ALPHA and interval[0] > 0),
        numbers=f"transfer within phenomena {c.within:.3f}, across {c.across:.3f} {unit}; "
        f"difference {c.difference:.3f} [{interval[0]:.3f}, {interval[1]:.3f}] "
        f"({p_value(c.p)}, phenomena shuffled); Mantel with the hypothesis space r = {test.r:.2f} "
        f"({p_value(test.p)}); on accuracy r = {raw.r:.2f} ({p_value(raw.p)})",
        paper=NO_NUMBER,
    )


def gradients(results: Results, row: pd.Series) -> Claim:
    """Claim 1, by gradients: tasks of one phenomenon use the same weights."""
    at = results.main
    test = at.tests["gradient overlap ~ hypothesis"]
    return Claim(
        claim="Gradients of tasks of one phenomenon lie in the same weights more than those of "
        "others",
        verdict=judge(at.gradients.p < ALPHA and test.p < ALPHA),
        numbers=f"overlap of the largest entries within {at.gradients.within:.3f}, across "
        f"{at.gradients.across:.3f} ({p_value(at.gradients.p)}); ceiling (two halves of a task) "
        f"{row.ceiling:.3f}, floor (sentences exchanged at random) {row.floor:.3f}; Mantel with "
        f"the hypothesis r = {test.r:.2f} ({p_value(test.p)})",
        paper=NO_NUMBER,
    )


def signal(results: Results, row: pd.Series) -> Claim:
    """Claim 2: the gradient of the difference is the task's own signal, and predicts transfer."""
    at = results.main
    tests = [at.tests[f"transfer ~ gradient {kind}"] for kind in ("overlap", "cosine")]
    own = row.ceiling_low > row.floor_high
    return Claim(
        claim="FTGD isolates a task's learning signal: it is reproducible, more than what remains "
        "of it without the contrast, and predicts transfer",
        verdict=judge(own and tests[1].p < ALPHA),
        numbers=f"overlap of two halves of a task {row.ceiling:.3f} [{row.ceiling_low:.3f}, "
        f"{row.ceiling_high:.3f}], of different tasks with sentences exchanged {row.floor:.3f} "
        f"[{row.floor_low:.3f}, {row.floor_high:.3f}]; Mantel of transfer with gradient overlap "
        f"r = {tests[0].r:.2f} ({p_value(tests[0].p)}), with cosine r = {tests[1].r:.2f} "
        f"({p_value(tests[1].p)})",
        paper=NO_NUMBER,
    )


def vocabulary(results: Results) -> Claim:
    """Claim 6, second half: structure, not words."""
    at = results.main
    clean, words = (at.tests[f"transfer ~ {k}"] for k in (
        "hypothesis | vocabulary", "vocabulary | hypothesis"))
    c = results.clusters["transfer"]
    return Claim(
        claim="The transfer space clusters by linguistic structure, not by shared vocabulary",
        verdict=judge(clean.p < ALPHA and clean.r > words.r),
        numbers=f"transfer with the hypothesis given vocabulary r = {clean.r:.2f} "
        f"({p_value(clean.p)}), with vocabulary given the hypothesis r = {words.r:.2f} "
        f"({p_value(words.p)}); nearest neighbour of the same phenomenon "
        f"{percent(c.neighbours)} % ({p_value(c.p_neighbours)}), adjusted Rand {c.rand:.2f} "
        f"({p_value(c.p_rand)}); clusters of vocabulary alone: "
        f"{percent(results.clusters['vocabulary'].neighbours)} %",
        paper=NO_NUMBER,
    )


def scales(settings: Settings, results: Results, sizes: pd.DataFrame) -> Claim:
    """Claim 3: larger models share structure better."""
    claim = "Larger models generalise better within phenomena and share structure better"
    paper = "three decoders of about 27, 70 and 203 M parameters; larger ones share more"
    shared = (sizes.overlap_within - sizes.overlap_across).to_numpy()
    helped = (sizes.transfer_within - sizes.transfer_across).to_numpy()
    shown = "; ".join(
        f"{row['model']}: accuracy {percent(row['accuracy'])}, overlap within minus across "
        f"{a:.3f}, transfer {b:.3f}"
        for row, a, b in zip(sizes.to_dict("records"), shared, helped, strict=True)
    )
    if len(sizes) < 3:
        return Claim(claim, UNTESTED, f"{len(sizes)} model(s), 3 are needed. {shown}", paper)
    ends = [grown(settings, results, name) for name in ("overlap", "transfer")]
    rising = all(np.diff(shared) > 0) and all(np.diff(helped) > 0)
    return Claim(
        claim=claim, verdict=judge(rising and all(low > 0 for _, low, _ in ends)),
        numbers=f"{shown}; largest minus smallest, over tasks: overlap {ends[0][0]:.3f} "
        f"[{ends[0][1]:.3f}, {ends[0][2]:.3f}], transfer {ends[1][0]:.3f} [{ends[1][1]:.3f}, "
        f"{ends[1][2]:.3f}]; asked: both rise with every size, both intervals above 0",
        paper=paper,
    )


def grown(settings: Settings, results: Results, name: str) -> tuple[float, float, float]:
    """Within minus across phenomena, largest minus smallest model; 95 % ends over tasks."""
    inside, outside = related(results.pairs.phenomena)
    each = []
    for at in (results.lasts[-1], results.lasts[0]):
        assert at.tuning is not None
        values = at.tuning.transfer if name == "transfer" else at.arrays["overlap"]
        each.append(row_means(values, inside) - row_means(values, outside))
    change = each[0] - each[1]
    ends = bootstrap_mean(change[np.isfinite(change)], settings.seed, settings.n_boot)
    return ends.estimate, ends.low, ends.high


def spreads(results: Results, tables: dict[str, pd.DataFrame]) -> Claim:
    """Claim 4: distributedness and sharing grow with training."""
    claim = "Distributedness grows with training, through sharing between related tasks"
    model = results.main.point.model
    table = tables["slopes"].set_index(["model", "quantity"])
    if (model, "participation") not in table.index:
        n = len(results.of_model(model))
        return Claim(claim, UNTESTED, f"{n} point(s) of training; 3 are needed", NO_NUMBER)
    spread, shared = (table.loc[(model, name)] for name in ("participation", "within - across"))
    mine = tables["development"]
    mine = mine[mine.model == model]
    others = "".join(
        f"; {name}: participation {table.loc[(name, 'participation')].slope:.3f}, within minus "
        f"across {table.loc[(name, 'within - across')].slope:.3f}"
        for name in dict.fromkeys(tables["slopes"].model) if name != model
    )
    return Claim(
        claim=claim,
        verdict=judge(all(row.slope_low > 0 and row.p < ALPHA for row in (spread, shared))),
        numbers=f"{model}, slopes against log steps, over tasks: of the log participation ratio "
        f"{spread.slope:.3f} [{spread.slope_low:.3f}, {spread.slope_high:.3f}] "
        f"({p_value(spread.p)}; {mine.participation.iloc[0]:.3f} at first, "
        f"{mine.participation.iloc[-1]:.3f} at last), of overlap within minus across phenomena "
        f"{shared.slope:.3f} [{shared.slope_low:.3f}, {shared.slope_high:.3f}] "
        f"({p_value(shared.p)}){others}; asked: both above 0, p < .05",
        paper=NO_NUMBER,
    )


def stable(results: Results, likeness: pd.DataFrame) -> Claim:
    """Claim 5: no sharp stages."""
    claim = "Patterns of generalisation are mostly stable through training, without sharp stages"
    mine = [at.point.name for at in results.of_model(results.main.point.model)]
    rows = [row for row in likeness.to_dict("records")
            if row["between"] == "checkpoints" and row["first"] in mine]
    found = [row for row in rows if row["space"] == "gradient cosine"]
    if len(found) < 2:
        return Claim(claim, UNTESTED, f"{len(found)} pair(s) of neighbouring checkpoints; 2 are "
                     "needed", NO_NUMBER)
    text = "; ".join(f"{row['first']} to {row['second']}: {row['r']:.2f}" for row in found)
    more = "".join(
        f"; transfer {row['first']} to {row['second']}: {row['r']:.2f} ({p_value(row['p'])})"
        for row in rows if row["space"] == "transfer"
    )
    held = all(row["p"] < ALPHA and row["r"] > 0.5 for row in found)
    return Claim(
        claim=claim, verdict=judge(held),
        numbers=f"correlation of neighbouring checkpoints' gradient spaces {text}{more}; asked: "
        "above 0.5 between all neighbours, each p < .05",
        paper="mostly stable, no sharp stages",
    )


def heads(results: Results) -> Claim:
    """Ours: the heads where a phenomenon's gradient lies are those it needs."""
    ends = results.head_agreement
    n = len(set(results.heads["head"]))
    mean = results.heads.groupby("head").gradient_share.transform("mean")
    share = results.heads.assign(over_mean=results.heads.gradient_share / mean)
    top = share.loc[share.groupby("phenomenon", sort=False).over_mean.idxmax()]
    shown = ", ".join(f"{k.replace('_', ' ')} {h}" for k, h in zip(
        top.phenomenon, top["head"], strict=True))
    return Claim(
        claim="The heads that hold more of a phenomenon's gradient than others are those whose "
        "closing hurts it more (our addition)",
        verdict=UNTESTED if int(n) < 6 or np.isnan(ends.low) else judge(ends.low > 0),
        numbers=f"Spearman correlation over {n} heads, mean over phenomena {ends.estimate:.2f} "
        f"[{ends.low:.2f}, {ends.high:.2f}]; head whose share most exceeds its mean: "
        f"{shown}",
        paper="not in the paper",
    )
