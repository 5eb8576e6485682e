"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.claims import traced
from mechprobe.studies.heuristic_core.analysis import view_file
from mechprobe.studies.heuristic_core.data import StudyData
from mechprobe.studies.heuristic_core.judge import judge_all
from mechprobe.studies.heuristic_core.pictures import draw
from mechprobe.studies.heuristic_core.results import Results, gather, searched_sparsities
from mechprobe.studies.heuristic_core.search import mask_settings
from mechprobe.studies.heuristic_core.settings import Settings
from mechprobe.studies.heuristic_core.sources import SOURCES
from mechprobe.studies.heuristic_core.verdict import percent
from mechprobe.studies.report_parts import Parts, write_tables

QUESTION = (
    "Does one fine-tuned model contain many subnetworks that agree in domain and differ out of "
    "domain, and what do they share? (Bhaskar, Friedman, Chen 2024, The Heuristic Core)"
)


def write_results(settings: Settings, data: StudyData, run: Run, command: str | None) -> None:
    """Gather finished units, judge the claims, draw the figures and write ``report.json``."""
    results = gather(settings, data, run)
    tables = write_tables(run, gathered_tables(results))
    drawn = draw(settings, results, run, data.score_groups)
    claims = traced(judge_all(settings, results), SOURCES, run.folder)
    run.write_json("report.json", {
        "title": f"The heuristic core: {settings.preset} preset, {data.task.name}"
        + ("" if settings.arch == "encoder" else f", {settings.arch}"),
        "question": QUESTION,
        "summary": summary(settings, results),
        "claims": [claim.as_dict() for claim in claims],
        "sections": sections(settings, results, tables, drawn, views(results, run)),
        "notes": notes(settings, data),
        "command": command or "",
    })


def gathered_tables(results: Results) -> dict[str, pd.DataFrame]:
    """The tables made of more than one unit, by name."""
    whole: dict[str, pd.DataFrame] = {
        "subnetworks": results.members, "full-models": results.models,
        "sub-cases": results.groups, "spread": results.spreads,
        "published-parity": pd.concat([at.parity for at in results.final]),
        "emergence": results.emergence, "core-overlap": results.core_overlap,
        "first-kept": results.first_kept,
    }
    for at in results.final:
        tag = f"{at.plan.sparsity:g}"
        whole[f"overlap-sparsity-{tag}"] = at.overlap
        if at.necessity is not None:
            whole[f"necessity-sparsity-{tag}"] = at.necessity
    return whole


def summary(settings: Settings, results: Results) -> list[str]:
    """The run in a few sentences."""
    lines = []
    for at in results.final:
        s = at.spread
        lines.append(
            f"At {at.plan.sparsity:.0%} sparsity, {s['subnetworks']:.0f} subnetworks of one model "
            f"score {percent(s['in_domain_low'])} to {percent(s['in_domain_high'])} % in domain "
            f"(full model {percent(s['full_in_domain'])} %) and "
            f"{percent(s['out_of_domain_low'])} to {percent(s['out_of_domain_high'])} % out of "
            f"domain (full model {percent(s['full_out_of_domain'])} %); {len(at.core)} of "
            f"{at.found.sites.n_head_sites} heads are in all of them"
            + (f": {', '.join(map(str, at.core))}." if at.core else ".")
        )
    if len(results.final) > 1:
        both = [s for s in results.final[0].core if all(s in at.core for at in results.final[1:])]
        lines.append(
            f"{len(both)} heads are in every subnetwork at every sparsity"
            + (f": {', '.join(map(str, both))}." if both else ".")
        )
    many = results.between_models
    inside = results.final[0].spread
    if many["models"] > 1:
        lines.append(
            f"Spread out of domain: {many['models']} full models trained from different seeds "
            f"have sd {percent(many['sd'])} and range {percent(many['range'])} points (mean "
            f"{percent(many['mean'])}, 95 % interval {percent(many['low'])} to "
            f"{percent(many['high'])}); subnetworks within the first model have sd "
            f"{percent(inside['out_of_domain_sd'])} and range {percent(inside['range'])} points."
        )
    return lines


def views(results: Results, run: Run) -> list[dict[str, str]]:
    """The attention views that the run has, as a section of ``report.json`` names them."""
    found = []
    for at in results.final:
        file = view_file(at.plan)
        if run.path(file).is_file():
            caption = f"Attention of core heads on one pair ({at.plan.sparsity:.0%} closed)"
            found.append({"file": file, "caption": caption})
    return found


def sections(
    settings: Settings, results: Results, tables: dict[str, str], drawn: dict[str, str],
    shown: list[dict[str, str]],
) -> list[dict]:
    """The report's sections; what a preset does not produce is left out."""
    section = Parts(tables, drawn).section
    tags = {f"{at.plan.sparsity:g}": at for at in results.final}

    def each(name: str, caption: str, mark: str = "") -> dict[str, str]:
        return {f"{name}-{mark}{tag}": f"{caption} ({float(tag):.0%} closed)" for tag in tags}

    def tabled(name: str, caption: str) -> dict[str, str]:
        return each(name, caption, "sparsity-")

    return [
        section(
            "Subnetworks of one model", [
                "Each point is one subnetwork: the same frozen model with a share of its heads and "
                "MLP layers closed (replaced by their mean activation). Gates are binary. The "
                "out-of-domain score is the mean over the scored sub-cases, which are the first "
                "rows below it. 'gap' picks the best and worst member on one half of the examples "
                "and compares them on the other half; 'p_excess' tests whether members differ "
                "beyond evaluation sampling on their shared examples.",
            ],
            {"spread": "Spread of subnetworks, in domain and out of domain",
             "published-parity": "Soft gates (as the paper scores them) beside binary gates (all "
             "other tables)",
             "sub-cases": "Accuracy by out-of-domain sub-case",
             "full-models": "Full models, with 95 % intervals over examples (Wilson)",
             "subnetworks": "Every subnetwork"},
            {"spread": "Accuracy of each subnetwork and of the full model",
             "sparsity": "Accuracy against the share of sites closed"},
        ),
        section(
            "What the subnetworks share", [
                "A site is framed when every subnetwork keeps it. Chance: random sets of heads of "
                "the same sizes, drawn from all layers, or with as many heads in each layer as "
                "each subnetwork keeps.",
            ],
            tabled("overlap", "Core size and mean Jaccard similarity against chance"),
            {"keep-frequency": "How often each head and MLP layer is kept",
             **each("overlap", "Observed overlap against random sets"),
             **each("jaccard", "Similarity of kept heads between subnetworks")},
        ),
        section(
            "Is it a core?", [
                "MLPs stay open in these tests. 'close' shuts a set of heads in the full model, "
                "'keep' shuts all other heads. p counts random sets at least as extreme in domain; "
                f"{settings.n_random_sets} sets give at best "
                f"{1 / (1 + settings.n_random_sets):.3f}. Columns ending in _low and _high are the "
                "range over sets, _ci_low and _ci_high 95 % bootstrap intervals over examples. "
                "Examples here were not used to choose anything.",
            ],
            {**tabled("necessity", "Keep or close the core, and random sets of equal size"),
             **tabled("core-contrasts", "The core minus random sets")},
            each("core", "The core beside random sets with as many heads in each layer"),
        ),
        section(
            "Which heads make a subnetwork generalise", [
                "Each head of the best (worst) subnetwork is flipped: open heads are closed, "
                "closed heads opened. Best and worst were chosen on other examples than those "
                "scored here. Intervals: 95 % bootstrap over examples; p: exact McNemar test, "
                "Holm-corrected over heads.",
            ],
            {**tabled("head-edits-best", "Flip one head of the best subnetwork"),
             **tabled("head-edits-worst", "Flip one head of the worst subnetwork")},
            each("edits", "Change out of domain when one head is flipped; core heads framed"),
        ),
        section(
            "Do the further heads depend on the core?", [
                "Path patching in the full model: the core's heads are closed, the further heads "
                "(those the best subnetwork keeps beside the core) are recomputed, and only their "
                "new outputs are put into an otherwise untouched run. Numbers are drops of the log "
                "odds of the right answer (nats) on out-of-domain examples not used to choose "
                "anything. Where all of those have one label, a path that only shifts the model "
                "towards that label counts too.",
            ],
            tabled("dependence", "Paths from the core through the further heads"),
            each("dependence", "The core's path beside paths from random heads"),
        ),
        section(
            "Where heads look", [
                "Share of attention, on in-domain pairs, from ordinary words to: the same word in "
                "the other sentence (overlap), [SEP], [CLS] (first), the word before, after, and "
                "itself. p: core label permuted over heads.",
            ],
            tabled("attention-core", "Core heads against the others"),
            each("attention", "Each head's attention; core heads apart"),
        ) | {"views": shown},
        section(
            "Over training", [
                "Effective size: the smallest share of sites, among the sparsities searched "
                f"({searched_sparsities(settings)} closed at the end), whose subnetworks keep "
                "accuracy within 3 points of the full model at that step; 1 when none does. Steps "
                "are compared over the sparsities searched at all of them; the verdict on sizes "
                "uses all sparsities of the last step. Intervals: 95 % bootstrap over examples.",
            ],
            {"emergence": "Accuracy and effective size over training",
             "core-overlap": "How much of the final core (of other seeds) earlier subnetworks keep",
             "first-kept": "First searched step at which at least half of the masks keep a head"},
            {"emergence": "Accuracy and effective size over training"},
        ),
    ]


def mask_steps(settings: Settings) -> str:
    """Steps of one mask, of each sparsity where the rule gives them different ones."""
    found = [mask_settings(settings, sparsity).steps for sparsity in settings.sparsities]
    return " or ".join(f"{steps:,}" for steps in dict.fromkeys(found))


def notes(settings: Settings, data: StudyData) -> list[str]:
    """What a reader must know to judge the numbers."""
    found = [
        f"Sparsity rule: {settings.rule}; {mask_steps(settings)} steps a mask; "
        f"baseline: {settings.baseline}; KL to the full model's outputs, never the labels.",
        f"Cut to {settings.max_length} tokens: {data.train.n_truncated} training pairs, "
        f"{data.dev.n_truncated} of {len(data.dev.examples)} in-domain and "
        f"{data.ood.n_truncated} of {len(data.ood.examples)} out-of-domain test pairs.",
        "Claims about subnetworks rest on the first model alone; the others give the spread "
        "between full models." if settings.n_models > 1 and not settings.n_masks_others else
        f"{settings.n_models} model(s), {settings.n_masks_others} subnetworks of each after the "
        "first.",
    ]
    if settings.encoder is None:
        found.append(
            "The encoder starts with attention between equal tokens (mimetic initialisation, "
            f"strength {settings.equal_token_init:g}), so the claim about overlap attention is "
            "partly built in here; test it on a pretrained encoder."
        )
    if settings.hans_train_share > 0 and settings.pair == "mnli-hans":
        found.append(
            f"{settings.hans_train_share:.0%} of the HANS training rows were mixed into "
            "fine-tuning, so the out-of-domain sub-cases are not unseen kinds of sentences; "
            "evaluation rows are."
        )
    return found
