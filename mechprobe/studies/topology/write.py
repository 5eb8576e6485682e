"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.claims import traced
from mechprobe.studies.report_parts import Parts
from mechprobe.studies.topology import published
from mechprobe.studies.topology.bars import FALL, bar_table
from mechprobe.studies.topology.gains import condition_table, fall, model_table, pulled_streams
from mechprobe.studies.topology.kinds import topology_of
from mechprobe.studies.topology.pictures import draw
from mechprobe.studies.topology.results import (
    Results,
    against_untrained,
    baseline_table,
    fit_table,
    inequality_table,
    label_table,
    long_table,
    rank_table,
    selectivity_table,
    sentence_table,
    wide_table,
)
from mechprobe.studies.topology.settings import COLA, EWT, OWN, Settings
from mechprobe.studies.topology.sources import SOURCES
from mechprobe.studies.topology.verdict import judge_all

QUESTION = (
    "Which layers and submodules hold the tree of a sentence, and does the label-free tree "
    "topological probe show it? (Li, Yin, Lin 2023, Rethinking the Construction of Effective "
    "Metrics for Understanding the Mechanisms of Pretrained Language Models)"
)


def write_results(results: Results, run: Run, command: str | None) -> None:
    """Judge the claims, write the tables, draw the figures and write ``report.json``."""
    tables = write_tables(results, run)
    drawn = draw(results, run)
    settings = results.settings
    run.write_json("report.json", {
        "title": f"Tree topology: {settings.preset} preset, {named(settings)}",
        "question": QUESTION,
        "summary": summary(results),
        "claims": [
            claim.as_dict() for claim in traced(judge_all(results), SOURCES, run.folder)
        ],
        "sections": sections(results, tables, drawn),
        "notes": notes(results),
        "command": command or "",
    })


def named(settings: Settings) -> str:
    """The model and the sentences in a few words."""
    model = settings.encoder or "an encoder trained here"
    names = {OWN: "our own treebank", EWT: "UD English EWT"}
    sentences = names.get(settings.treebank, settings.treebank.rsplit("/", 1)[-1])
    return f"{model.rsplit('/', 1)[-1]} on {sentences}"


def write_tables(results: Results, run: Run) -> dict[str, str]:
    """Write each table as CSV; name -> path inside the run folder."""
    whole: dict[str, pd.DataFrame] = {
        "scores": long_table(results), "against-untrained": against_untrained(results),
        "baselines": baseline_table(results), "inequality": inequality_table(results),
        "labels": label_table(results), "train-and-test": fit_table(results),
        "ranks": rank_table(results), "selectivity": selectivity_table(results),
        "sentences": sentence_table(results), "bars": bar_table(results),
        "published-metrics": published.published_metrics(),
        "published-structural": published.published_structural(),
    }
    for part in results.parts:
        whole[f"by-stream-{part}"] = wide_table(results, part)
    if results.heads is not None:
        for metric in ("uuas", "x_ssp"):
            whole[f"heads-{metric}"] = pd.DataFrame(results.heads[metric]["table"])
            changes = pd.DataFrame(
                results.heads[metric]["changes"], columns=results.heads["streams"]
            )
            changes.insert(0, "head", results.heads["heads"])
            whole[f"heads-{metric}-by-layer"] = changes
    if results.finetuned:
        whole["finetuned"] = model_table(results.finetuned)
        whole["finetuning"] = condition_table(results.finetuned)
        whole["published-finetuning"] = published.published_finetuning()
    whole = {name: table for name, table in whole.items() if len(table)}
    for name, table in whole.items():
        run.write_table(f"tables/{name}.csv", table)
    return {name: f"tables/{name}.csv" for name in whole}


def summary(results: Results) -> list[str]:
    """The run in a few sentences."""
    table = wide_table(results).set_index("stream")
    place = results.best()
    lines = [
        f"The distance probe reads trees best at {place}: UUAS {table.loc[place, 'uuas']:.3f}, "
        f"DSpr. {table.loc[place, 'dspr']:.3f} on sentences that chose nothing (untrained "
        f"{results.score('uuas', 'untrained').value()[results.score('uuas').at(place)]:.3f}, "
        f"chain {results.baselines['chain', 'test', 'uuas'].value()[0]:.3f}).",
    ]
    resid = table.loc[results.residual()]
    for metric, name in (("x_ssp", "X_ssp"), ("x_sp", "X_sp"), ("x_essp", "X_essp")):
        lines.append(f"{name} along the residual stream: "
                     + " ".join(f"{value:.3f}" for value in resid[metric]) + ".")
    others = table.drop(index=results.residual())
    if len(others):
        best = others["uuas"].idxmax()
        lines.append(
            f"Of what submodules write, {best} scores highest (UUAS "
            f"{others.loc[best, 'uuas']:.3f})."
        )
    return lines


def sections(
    results: Results, tables: Mapping[str, str], drawn: Mapping[str, str]
) -> list[dict]:
    """The report's sections; what a run does not produce is left out."""
    section = Parts(tables, drawn).section

    where = {"test": "test sentences", "second": "the second treebank"}

    def each(name: str, caption: str) -> dict[str, str]:
        return {f"{name}-{part}": f"{caption}, {where[part]}" for part in results.parts}

    found = [
        section(
            "Trees at every layer and submodule", [
                "All streams of a model are probed in one optimisation over vectors from one pass. "
                "A stream is resid.l (what block l reads; the last: what the last block leaves), "
                "attn_out.l or mlp_out.l (what attention and MLP of block l write). UUAS and "
                "DSpr.: distance probe (Hewitt and Manning 2019); NSpr. and root accuracy: the "
                "probe of X_sp. Intervals: 95 % bootstrap over sentences; differences are paired "
                "by sentence. Dev sentences stop the probes and choose streams; every number here "
                "is from other sentences.",
            ],
            {**each("by-stream", "Every metric of the trained model"),
             "against-untrained": "Trained minus untrained",
             "baselines": "Trees that know nothing of the sentence",
             "bars": "What was asked of this model beforehand",
             "sentences": "Sentences read, and left out",
             "published-structural": "Published structural probes (other data and models)"},
            each("trees", "Trees along the layers"),
        ),
        section(
            "The topological metrics", [
                "X_ssp: mean squared error of squared norms against the nearest depth profile, no "
                "labels used (exact: by dynamic programming; greedy: the rule of the released "
                "code). X_essp: the same labels read backwards. X_sp: gold depths, root 1. The "
                "degenerate optimum of X_ssp is one token at 1 and all others at 2; 'flat' is the "
                "share of sentences with that profile.",
            ],
            {"inequality": "X_ssp, X_sp and X_essp in each stream",
             "labels": "What the labels are: flat profiles, share of words a level",
             "ranks": "X_ssp with other numbers of columns of B",
             "train-and-test": "The metrics on fitted and on other sentences, as in the logs below",
             "published-metrics": "The authors' committed logs, BERT-large (other sentences)"},
            each("topology", "The metrics along the layers"),
        ),
        section(
            "Are linear probes selective?", [
                "Parts of speech against a control task that gives each word type a random tag "
                "(Hewitt and Liang 2019). Selectivity: accuracy minus control accuracy.",
            ],
            {"selectivity": "Accuracy, control, selectivity"},
            each("tags", "Parts of speech along the layers"),
        ),
        section(
            "Which heads carry the tree", [
                "Each head is closed (replaced by its mean) and the later layers are read with the "
                "same probes. 'turned': the head's output is changed by as much, token by token, "
                "in a random direction. 'excess' is the change beyond that; p from random signs "
                "over sentences, Holm-corrected over heads. Each head is judged at the later point "
                "of the residual stream where trees are read best.",
            ],
            {"heads-uuas": "UUAS with one head closed",
             "heads-x_ssp": "X_ssp with one head closed",
             "heads-uuas-by-layer": "Change in UUAS at each later layer"},
            {"heads-uuas": "Change in UUAS beyond random turns; framed: corrected p < .05",
             "heads-x_ssp": "Change in X_ssp beyond random turns; framed: corrected p < .05"},
        ) if results.heads is not None else None,
        section(
            "Fine-tuning pulled towards a tree", [
                f"L = cross-entropy + {results.settings.finetune_weight:g} x L_probe at one "
                f"stream, only acceptable sentences are pulled, probe "
                f"{results.settings.finetune_probe}. '-reversed' is the null: the same pull "
                "towards the labels read backwards. Corpus-level Matthews' correlation; "
                "'collapsed': the model gives one answer only.",
            ],
            {"finetuning": "Conditions", "finetuned": "Every fine-tuned model",
             "published-finetuning": "The authors' results, BERT-large on CoLA"},
            {},
        ) if results.finetuned else None,
    ]
    return [one for one in found if one is not None and (one["tables"] or one["figures"])]


def unfinished(results: Results) -> str:
    """How many probes of the topological metrics were stopped by the number of epochs."""
    epochs = [n for (_, kind), unit in results.probes.items() if topology_of(kind)
              for n in unit["epochs"]]
    return f"{sum(n == results.settings.probe_epochs for n in epochs)} of {len(epochs)}"


def left_out(results: Results) -> str:
    """Which sentences the models could not read, part by part."""
    table = sentence_table(results)
    why = "longer than the context, or with words of which the tokenizer leaves nothing"
    lost = [
        f"{row['too_long']} too long and {row['vanished']} with vanished words of "
        f"{row['too_long'] + row['vanished'] + row['kept']} in {row['sentences']}"
        for row in table.to_dict("records") if row["too_long"] + row["vanished"]
    ]
    if not lost:
        return f"No sentence was left out ({why})."
    return f"Sentences left out ({why}): {'; '.join(lost)}."


def notes(results: Results) -> list[str]:
    """What a reader must know to judge the numbers."""
    settings = results.settings
    found = [
        "The text of the paper's theorems and tables was not available to us; definitions follow "
        "what its released code computes. Exact labels, intervals, heads and nulls are ours.",
        "Metrics are means over real words, a word being the mean of its sub-words"
        if not settings.released_masking else
        "Topology metrics are means over all tokens, special ones and padding too, each sub-word "
        "with its word's depth, as in the released code",
        "A metric is a minimum over B found by gradient descent. That problem is not convex, least "
        "of all with labels made from B itself: X_ssp and X_essp may have smaller minima.",
        f"{unfinished(results)} probes of X had not stopped by themselves after "
        f"{settings.probe_epochs} epochs; their X might still fall.",
        f"Probes: Adam, {settings.probe_epochs} epochs at most, patience 5, one seed; "
        f"{settings.n_untrained} untrained model(s).",
    ]
    if results.encoder is not None:
        first, last = (np.mean(results.encoder[key]) for key in ("loss_first", "loss_last"))
        found.append(
            "The encoder was trained here so that distances between half of its last layer's "
            f"units are tree distances (loss {first:.2f} to {last:.2f}): the tree is there by "
            "construction. This run shows what the probes and nulls do when it is; it says nothing "
            "about pretrained models."
        )
    found.append(left_out(results))
    found += [
        f"The pull at {stream} lowers L_probe of held-out sentences {times:.1f}-fold; at least "
        f"{FALL:g}-fold was asked beforehand{'' if times >= FALL else ', and is not reached here'}."
        for stream in pulled_streams(results.finetuned)
        for times in (fall(results.finetuned, stream),)
    ]
    if results.finetuned and settings.finetune == OWN:
        found.append("The task of fine-tuning is ours: two neighbouring words exchanged or not.")
    if results.finetuned and settings.finetune == COLA:
        found.append(
            f"Fine-tuning: {settings.finetune_steps} steps of {settings.finetune_batch} sentences "
            f"of CoLA at {settings.finetune_lr:g}, {settings.finetune_seeds} seeds, scored on both "
            "dev files; the paper: 804 steps of 32 (three passes) at 2e-05, 10 seeds."
        )
    return found
