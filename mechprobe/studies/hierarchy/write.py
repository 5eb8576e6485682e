"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.claims import traced
from mechprobe.studies.hierarchy.bars import bar_table
from mechprobe.studies.hierarchy.judge import judge_all
from mechprobe.studies.hierarchy.pictures import draw
from mechprobe.studies.hierarchy.results import Results, gather, rise_then_fall
from mechprobe.studies.hierarchy.settings import PRESETS, Settings
from mechprobe.studies.hierarchy.shapes import shape_table
from mechprobe.studies.hierarchy.sources import SOURCES
from mechprobe.studies.hierarchy.specs import grammar_of
from mechprobe.studies.hierarchy.verdict_training import all_final, compressed
from mechprobe.studies.report_parts import Parts, write_tables

QUESTION = (
    "In which order does a vanilla encoder learn the levels of a hierarchy, does it come to exact "
    "inference, and where in the network is the hierarchy rebuilt? (Garnier-Brun, Mézard, "
    "Moscato, Saglietti 2024, How transformers learn structured data)"
)


def write_results(settings: Settings, run: Run, command: str | None) -> None:
    """Gather finished units, judge the claims, draw the figures and write ``report.json``."""
    results = gather(settings, run)
    tables = write_tables(run, gathered_tables(results))
    drawn = draw(settings, results, run)
    run.write_json("report.json", {
        "title": f"Hierarchical filtering: {settings.preset} preset",
        "question": QUESTION,
        "summary": summary(settings, results),
        "claims": [
            claim.as_dict()
            for claim in traced(judge_all(settings, results), SOURCES, run.folder)
        ],
        "sections": sections(results, tables, drawn),
        "notes": notes(settings),
        "command": command or "",
    })


def gathered_tables(results: Results) -> dict[str, pd.DataFrame]:
    """The tables made of more than one unit, by name."""
    every = list(results.models.values())
    whole = {
        "bars": bar_table(results),
        "final": all_final(results),
        "staircases": pd.concat([s for m in every for s in m.stairs.values()], ignore_index=True),
        "change-points": results.changes,
        "samples-to-level": results.scaling,
        "shapes": shape_table(results),
        "attention-layers": pd.concat([m.layers for m in every], ignore_index=True),
        "attention-strongest": pd.concat([m.strongest for m in every], ignore_index=True),
    }
    root = results.main("root", 0)
    if root is not None:
        whole["rise-and-fall"] = rise_then_fall(root)
    return whole


def summary(settings: Settings, results: Results) -> list[str]:
    """The run in a few sentences."""
    lines = []
    if settings.root_steps <= PRESETS["tiny"].root_steps:
        lines.append(
            f"This is a smoke test: {settings.root_steps} steps of training show that every part "
            "works. What models have not learnt here says nothing; `--preset laptop` does."
        )
    for model in results.models.values():
        if model.spec.variant:
            continue
        row, kl = model.final_accuracy("held out"), model.final_kl("held out")
        path = compressed(model.path())
        lines.append(
            f"{model.spec.name}: after {int(row['sequences']):,} sequences accuracy "
            f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}] against "
            f"{row[f'BP_{model.spec.k}']:.3f} of exact inference at its own filter level, KL "
            f"{kl[model.spec.k]['kl']:.3f} nats; closest filter level over training "
            f"{', '.join(map(str, path))}."
        )
    return lines


def sections(results: Results, tables: dict[str, str], drawn: dict[str, str]) -> list[dict]:
    """The report's sections; what a preset does not produce is left out."""
    section = Parts(tables, drawn).section
    names = list(results.models)
    arity = next(iter(results.models.values())).arity

    def each(name: str, caption: str) -> dict[str, str]:
        return {f"{name}-{model}": f"{caption} ({model})" for model in names}

    return [
        section(
            "Learning the hierarchy level by level", [
                "BP_k is exact inference under the grammar filtered at k: k = l knows single "
                "leaves only, k = 0 the full hierarchy. B_s (masked leaves only) is exact "
                f"inference that sees the leaf's own block of {arity}^s leaves. A checkpoint's "
                "closest observer has the least KL(observer || model) on held-out sequences; "
                "'share' is how often it stays the closest over bootstrap resamples of sequences.",
            ],
            {"final": "Every model at the end of training, on each kind of sequences (intervals: "
             "Wilson for accuracy, bootstrap over sequences for KL)",
             "change-points": "Change points of the staircases",
             "samples-to-level": "Sequences seen until the closest observer is of a level or "
             "deeper",
             "rise-and-fall": "Root, full hierarchy: highest and final accuracy on filtered sets",
             "shapes": "Encoders of other shapes trained equally long on the same sequences",
             "staircases": "Every checkpoint's closest observer"},
            {"staircase-root": "Root: closest BP_k over training",
             "staircase-masked": "Masked leaves: closest BP_k over training",
             "staircase-blocks": "Masked leaves: closest B_s",
             **each("accuracy", "Accuracy on test sets of every filter level"),
             **each("divergence", "Distance from every observer; dots mark the closest")},
        ),
        section(
            "Where attention goes", [
                "The height of a pair of leaves is that of their lowest common ancestor: 0 the "
                "leaf itself, l the root. E_h is the largest share of attention that a head has "
                "on height h, over the share under uniform attention. p: positions of the mean "
                "maps relabelled at random, the best of all heads. For masked models, queries "
                "are masked leaves. Maps are means over sequences; beside them the maps of the "
                "constructed network, one height a layer.",
            ],
            {"attention-strongest": "E_h, trained and before training",
             "attention-layers": "Share of attention by height and layer"},
            {"enrichment-root": "Root: E_h of trained models",
             "enrichment-masked": "Masked leaves: E_h of trained models",
             **each("heights", "Attention by height, all queries"),
             **each("maps", "Mean attention maps, and the ideal ones of one height each")},
        ),
        section(
            "Which heads rebuild a level", [
                "The level-s part of a masked prediction is sum_x (B_s(x) - B_{s-1}(x)) log p(x). "
                "Heads are ranked by attention on height s (less uniform), by what closing them "
                "costs the level-s part (gates, mean baseline), by activation patching (noising) "
                "from sequences that agree on the block of height s - 1 and are drawn anew beyond "
                "it, and by learned masks that keep the level-s part at half the heads (chance 0; "
                "intervals over masks). Each score's p is against 0; for attention that is uniform "
                "attention, which most heads differ from: relabelled positions, above, ask more. "
                "'all': mean rho of the four; p: heads relabelled.",
            ],
            {**each("head-agreement", "Rank agreement"),
             **each("head-sets", "The two heads that look most at the height, closed together"),
             **each("heads", "Scores of every head")},
            {},
        ),
        section(
            "Ancestors in the residual stream", [
                "MLP and linear probes of a leaf's vector after each layer (0: embedding) for its "
                "ancestor at each height. 'ceiling': an ideal observer of the leaf's own block of "
                f"{arity}^layer leaves. 'control': each content of the block has a random label "
                "(selectivity: accuracy less control; judged from height 2 on, since the few "
                "contents of a pair of leaves can be memorised, and the pair is all that either "
                "task asks for). 'reach': KL from observers of every block size to the probe's "
                "posterior. Intervals: bootstrap over sequences.",
            ],
            {**each("probes", "Accuracy"), **each("reach", "Distance from observers")},
            each("probes", "Accuracy of MLP probes"),
        ),
        section(
            "Attention limited to blocks", [
                "Every head of every layer may look only at the leaf's own block of "
                f"{arity}^s leaves; its predictions are then compared with B_0 .. B_l. Control: as "
                "many leaves at random places.",
            ],
            each("blocks", "KL to every B_s"), {},
        ),
        section(
            "Bars", [
                "What the prototype's measurements let one ask for, before this run was made. "
                "Exact bars must hold; learned ones are listed as met or missed.",
            ],
            {"bars": "Every bar with its value"}, {},
        ),
        section(
            "Planted truth", [
                "The same measures on the network that computes exact inference by construction, "
                "whose attention and messages are known.",
            ],
            {"planted": "Measures beside what is true"}, {},
        ),
    ]


def notes(settings: Settings) -> list[str]:
    """What a reader must know to judge the numbers."""
    grammar = grammar_of(settings)
    source = f"seed {settings.grammar_seed}"
    if settings.rules is not None:
        source = f"rules of {Path(settings.rules).name}"
    found = [
        f"One grammar ({source}; q = {grammar.q}, depth {grammar.depth}, arity "
        f"{grammar.arity}): intervals are over sequences, not over grammars or weights. "
        "benchmarks/bench_hierarchy.py repeats the bars on three grammars.",
        "Models: no dropout, Adam, "
        + ("fresh sequences" if not settings.n_train else f"{settings.n_train:,} fixed sequences")
        + f", batches of {settings.batch}, width {settings.d_model}, LayerNorm {settings.norm}, "
        f"{settings.positions} positions. Masked models are trained with 1 to "
        f"{settings.max_masks} masks and scored with 1.",
        "Limiting attention to blocks is not validated on the constructed network: with its "
        "siblings out of reach a layer there reads its own message instead, which no observer does "
        "(closing its heads to an empty message gives B_s exactly; the tests hold it to that).",
    ]
    if (grammar.transition.sum(0) == 0).any():
        found.append(
            "The rules leave child tuples out: uniform strings and filtered data can be impossible "
            "to an observer, which then counts as knowing nothing (a uniform prediction)."
        )
    return found
