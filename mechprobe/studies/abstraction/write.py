"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.abstraction import verdict
from mechprobe.studies.abstraction.borrowed import borrowed_table, borrows
from mechprobe.studies.abstraction.data import load_set
from mechprobe.studies.abstraction.effects import (
    Found,
    Probe,
    first_table,
    gain_table,
    item_kinds,
    kind_gains,
    kind_table,
    probes,
    procedure_table,
    set_table,
    whole_probe,
)
from mechprobe.studies.abstraction.generic_pretraining import generic_table
from mechprobe.studies.abstraction.mutations import kind_of_mutation_table, mutation_table
from mechprobe.studies.abstraction.pictures import draw
from mechprobe.studies.abstraction.settings import ADAPT, Settings, reads_files, smoke_test
from mechprobe.studies.abstraction.sources import SOURCES
from mechprobe.studies.abstraction.timeline import point_steps, timeline
from mechprobe.studies.claims import Claim, percent, traced
from mechprobe.studies.report_parts import Parts, write_tables

QUESTION = (
    "Does the model reuse concepts it learnt on one task for another, when does it come to, and in "
    "which heads? (An et al. 2023, Does Deep Learning Learn to Abstract?)"
)


def write_results(settings: Settings, run: Run, found: Found, command: str | None) -> None:
    """Derive tables from finished units, judge the claims, draw, and write ``report.json``."""
    tried = probes(settings, found)
    kinds = [
        item_kinds(load_set(settings, i).target["ood"], settings.probe)
        for i in range(settings.n_sets)
    ]
    tables = {
        "procedures": procedure_table(settings, tried), "gains": gain_table(settings, tried),
        "sets": set_table(settings, found, tried), "first-tasks": first_table(settings, found),
        "kinds": kind_table(tried, kinds), "kind-gains": kind_gains(settings, tried, kinds),
    }
    if borrows(settings):
        tables["borrowed"] = borrowed_table(
            settings, [found[f"borrowed-{i}"] for i in range(settings.n_sets)], kinds
        )
    times = timelines(settings, found)
    if times:
        tables["memorise-then-abstract"] = pd.concat(
            [table.assign(set=i + 1) for i, (table, _) in enumerate(times)], ignore_index=True
        )
        tables["change-points"] = pd.DataFrame(
            [{"set": i + 1, **points} for i, (_, points) in enumerate(times)]
        )
    if settings.mutations:
        tables["mutations"] = mutation_table(settings, found)
        tables["kinds-of-mutation"] = kind_of_mutation_table(settings, found)
    if settings.generic_steps:
        tables["generic-pretraining"] = generic_table(settings, found)
    paths = write_tables(run, tables)
    drawn = draw(settings, run, tables["procedures"], tables["gains"], [t for t, _ in times])
    claims = traced(
        judge_all(settings, run, found, tried, times, tables),
        SOURCES, run.folder,
    )
    run.write_json("report.json", {
        "title": f"Abstraction: {settings.preset} preset, {settings.card}, probe {settings.probe}",
        "question": QUESTION,
        "summary": summary(settings, tried),
        "claims": [claim.as_dict() for claim in claims],
        "sections": sections(settings, paths, drawn),
        "notes": notes(settings),
        "command": command or "",
    })


def timelines(
    settings: Settings, found: Found
) -> list[tuple[pd.DataFrame, Mapping[str, float]]]:
    """Memory and transfer over auxiliary training, for each set; empty without points."""
    steps = point_steps(settings)
    return [
        timeline(
            found[f"auxiliary-{i}"]["points"],
            {step: dict(found[f"point-{i}-{step:06d}"]) for step in (0, *steps)},
        )
        for i in range(settings.n_sets) if steps
    ]


def judge_all(
    settings: Settings, run: Run, found: Found, tried: Sequence[Probe],
    times: Sequence[tuple[pd.DataFrame, Mapping[str, float]]], tables: Mapping[str, pd.DataFrame],
) -> list[Claim]:
    """Every claim this run can speak about; all but the control fall with the control."""
    control = verdict.control_claim(settings, tried, tables["first-tasks"])
    whole = whole_probe(tried)
    capable = [verdict.capability_claim(settings, probe, whole) for probe in tried]
    heads = [found[f"heads-{i}"] for i in range(settings.n_sets)]
    layers = [
        run.read_table(f"tables/head-layers-set-{i + 1}.csv") for i in range(settings.n_sets)
    ]
    others = [*capable]
    if times:
        others.append(verdict.timeline_claim([points for _, points in times]))
    others.append(verdict.heads_claim(heads, capable[-1].verdict))
    n_layers = 1 + max(int(layer) for table in layers for layer in table["layer"].to_list())
    others.append(verdict.middle_claim(layers, n_layers))
    if settings.mutations:
        unchanged = tried[-1].gain("auxiliary", "control", "ood", settings)
        others.append(verdict.mutation_claim(tables["kinds-of-mutation"], unchanged))
    others += verdict.generic_claims(tables.get("generic-pretraining"))
    if control.verdict != verdict.judge(True):
        because = verdict.SMOKE if smoke_test(settings) else "the positive control failed: "
        others = [verdict.replace_verdict(c, verdict.UNTESTED, because) for c in others]
    return [control, *others]


def summary(settings: Settings, tried: Sequence[Probe]) -> list[str]:
    """The run in a few sentences."""
    lines = []
    if smoke_test(settings):
        lines.append(
            f"This is a smoke test: {settings.auxiliary_steps} steps of training show that every "
            "part works and teach the models nothing. No number below says anything about "
            "abstraction; `--preset laptop` does."
        )
    for probe in tried:
        first = probe.gain("auxiliary", "control", "ood", settings)
        second = probe.gain("auxiliary", "contrast", "ood", settings)
        main = probe.score("auxiliary", "ood", settings)
        lines.append(
            f"Learning the target task with {ADAPT[probe.adapt]}: after the auxiliary task the "
            f"model answers {percent(main.estimate)} % of the generalisation items, "
            f"{percent(first.estimate)} points [{percent(first.low)}, {percent(first.high)}] more "
            f"than without it and {percent(second.estimate)} points [{percent(second.low)}, "
            f"{percent(second.high)}] more than after the contrast task."
        )
    return lines


def sections(
    settings: Settings, tables: Mapping[str, str], drawn: Mapping[str, str]
) -> list[dict]:
    """The report's sections; what a preset does not produce is left out."""
    section = Parts(tables, drawn).section
    first = settings.baselines[0]
    found = [
        section(
            "Main, control and contrast",
            "Exact match of whole answers. Intervals: 95 % bootstrap over sets and, inside each, "
            "over examples; with few sets they are too narrow. 'frozen': only embeddings learn the "
            "target task, the body stays as the first task (or chance) left it; 'words': only "
            "those of words that the auxiliary task does not have; 'content': the same, but new "
            "prepositions have the embeddings of the auxiliary ones they stand for. Exact match is "
            + (f"by beam search with {settings.beams} beams." if settings.beams else
               "greedy, by teacher forcing."),
            {"procedures": "What each procedure reaches", "gains": "E1 and E2",
             "kinds": "By kind of item (probe mod: 'agent' where the agent's slot has a phrase, as "
             "none has in training; else 'theme or recipient': themes have phrases in training)",
             "kind-gains": "E1 and E2 on each kind of item",
             "sets": "Set by set", "first-tasks": "How well the first tasks were learnt"},
            {"procedures": "Exact match", "gains": "Gains in generalisation"},
        ),
    ]
    if "borrowed" in tables:
        found.append(section(
            "What the frozen body could do",
            "The model of MainExp (words), tested again with some of its new words' embeddings "
            "replaced by those of the auxiliary words they stand for (the dictionary's; no model "
            "sees it). 'all' is the most that this body can do; what a class alone brings back was "
            "lost in learning its words from target items that lack the concept.",
            {"borrowed": "Words that borrow, and exact match then"}, {},
        ))
    if "change-points" in tables:
        found.append(section(
            "Memorise, then abstract",
            f"At points of auxiliary training: exact match on its training pairs, and what "
            f"{settings.point_steps} steps on the target task ({settings.adapt[-1]}) then reach in "
            "generalisation, less what they reach without auxiliary training.",
            {"memorise-then-abstract": "Memory and transfer",
             "change-points": "Where each changes"},
            {"memorise-then-abstract": "Memory and transfer"},
        ))
    heads = {f"heads-{b}-set-1": f"Heads of set 1, {b} baseline" for b in settings.baselines}
    found.append(section(
        "Abstraction heads",
        "Score (ours): drop of the answers' log probability in generalisation when the head is "
        f"closed, less the drop in distribution ({first} baseline, its mean over in-distribution "
        "pairs). Heads are ranked on half of the pairs and reported on the other half. p: "
        "permutation test, Holm-corrected over heads. Framed heads: corrected p below .05.",
        {**heads, "heads-exact-match-set-1": "Heads of set 1 by exact match",
         "head-layers-set-1": "Layers", "head-methods-set-1": "Do the localisers agree?",
         "closing-top-set-1": "Closing the top heads first"},
        {name: "Score of each head, set 1" for name in drawn if name.startswith("heads")}
        | {"closing-top": "Top heads closed first", "closing-bottom": "Bottom heads closed first"},
    ))
    if "mutations" in tables:
        found.append(section(
            "Concept mutations",
            "The auxiliary task with one thing changed (ours), in every set. rho: share of the "
            "gain that is kept.",
            {"mutations": "Retained gain", "kinds-of-mutation": "By kind, paired by item"}, {},
        ))
    if "generic-pretraining" in tables:
        found.append(section(
            "Generic pretraining",
            f"First {settings.generic_steps:,} steps on the grammar in {settings.generic_sets} "
            f"other vocabularies, then the same procedures.",
            {"generic-pretraining": "Gain of MainExp over ControlExp"}, {},
        ))
    return found


def notes(settings: Settings) -> list[str]:
    """What a reader must know to judge the numbers."""
    contrast = f"Contrast task: {settings.contrast} (ours)"
    if settings.contrast == "no_generalisation":
        contrast += ", the auxiliary task without what is new in the test: E2 asks whether just " \
            "that is reused"
    items = ", and its own derivations"
    if reads_files(settings):
        items = "; the target task's items are the same in all, but the intervals take them for " \
            "others and are too narrow"
    found = [
        f"{contrast}. Words redrawn in auxiliary lines: {settings.redraw}. Label smoothing "
        f"{settings.label_smoothing:g}.",
        f"Each set has its own auxiliary vocabulary, weights and order of batches{items}.",
    ]
    if settings.model is None:
        found.append(
            f"Built from scratch: {settings.arch}, {settings.n_layers} layers, d_model "
            f"{settings.d_model}; the published claims are about pretrained models."
        )
    if settings.fold_case and settings.model is None:
        found.append("dog and DOG are one token here; --no-fold-case makes them two.")
    if set(settings.adapt) - {"full"}:
        found.append(
            "Where the body stays frozen, the control is a random body and hardly learns the "
            "target task, and the contrast task's body learns it badly; main is compared with the "
            "control and the contrast of 'full', which learn all weights, as well."
        )
    return found
