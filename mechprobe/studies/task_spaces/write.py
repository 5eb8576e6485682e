"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mechprobe.runs import Run
from mechprobe.studies.claims import percent, traced
from mechprobe.studies.report_parts import Parts
from mechprobe.studies.task_spaces import growth, tables
from mechprobe.studies.task_spaces.pictures import draw
from mechprobe.studies.task_spaces.results import Results
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.sources import SOURCES
from mechprobe.studies.task_spaces.verdict import judge_all
from mechprobe.tasks.blimp import load_reference

QUESTION = (
    "Which linguistic tasks help each other when a language model is tuned on one of them, do they "
    "use the same weights, and does that follow linguistic theory? (Weber, Jumelet, Bruni, Hupkes "
    "2024, Interpretability of Language Models via Task Spaces)"
)


def write_results(settings: Settings, results: Results, run: Run, command: str | None) -> None:
    """Judge the claims, write tables and figures, and ``report.json``."""
    found = all_tables(settings, results)
    for name, table in found.items():
        run.write_table(f"tables/{name}.csv", table)
    files = {name: f"tables/{name}.csv" for name, table in found.items() if len(table)}
    drawn = draw(settings, results, found, run)
    run.write_json("report.json", {
        "title": f"Task spaces: {settings.preset} preset, {len(results.pairs)} paradigms",
        "question": QUESTION,
        "summary": summary(settings, results, found),
        "claims": [
            claim.as_dict()
            for claim in traced(judge_all(settings, results, found), SOURCES, run.folder)
        ],
        "sections": sections(settings, files, drawn),
        "notes": notes(settings, results),
        "command": command or "",
    })


def all_tables(settings: Settings, results: Results) -> dict[str, pd.DataFrame]:
    """Every table of the run, by name."""
    accuracy = tables.accuracy(results)
    if settings.pairs == "blimp" and settings.data_dir is not None:
        accuracy = with_reference(accuracy, settings.data_dir)
    found = {
        "accuracy": accuracy, "tests": tables.tests(results), "groups": tables.groups(results),
        "clusters": tables.clusters(results), "tuned": tables.tuned(results),
        "development": growth.development(settings, results),
        "slopes": growth.slopes(settings, results),
        "likeness": growth.likeness(settings, results), "sizes": growth.sizes(results),
        "heads": results.heads, "parts": tables.parts(results),
    }
    if not results.kinds.empty:
        found |= {"regime": tables.regime(results.kinds, settings.budget),
                  "kinds-of-tuning": tables.kinds_summary(results.kinds),
                  "kinds-by-task": results.kinds}
    return found


def with_reference(accuracy: pd.DataFrame, data_dir: str) -> pd.DataFrame:
    """The accuracies beside those that BLiMP's authors published."""
    try:
        reference = load_reference(data_dir)
    except ValueError:  # no such file there: the run needs none
        return accuracy
    return accuracy.assign(**{
        f"published {model}": [values.get(name, np.nan) for name in accuracy.paradigm]
        for model, values in reference.items()
    })


def summary(
    settings: Settings, results: Results, found: dict[str, pd.DataFrame]
) -> list[str]:
    """The run in a few sentences."""
    at, tuning = results.main, results.tuning
    raw, nats = (tuning.space.transfer(scale) for scale in ("raw", "log_odds"))
    ratio = float(np.median(tuning.space.perplexity_ratio))
    lines = [
        f"{len(results.pairs)} paradigms of {len(set(results.pairs.phenomena))} phenomena; the "
        f"model {at.point.name} is right on {percent(float(at.accuracy.mean()))} % of the pairs"
        f"{beside_reference(found['accuracy'], at.point.name)}.",
        f"Tuning on a task changes its own accuracy by {100 * np.diag(raw).mean():+.1f} points and "
        f"its log odds by {np.diag(nats).mean():+.2f} nats on average, at "
        f"a median perplexity ratio of {ratio:.3f}, in {100 * tuning.space.changed.mean():.2f} % "
        "of the weights.",
        f"Transfer within phenomena {tuning.contrast.within:+.3f}, across "
        f"{tuning.contrast.across:+.3f} ({settings.scale.replace('_', ' ')}).",
    ]
    if not results.kinds.empty:
        lines.append(regime(settings, found["regime"], results.kinds.task.nunique()))
    return lines


def beside_reference(accuracy: pd.DataFrame, name: str) -> str:
    """How the paradigms' accuracies go with those published for GPT-2, where they are known."""
    if (known := "published gpt2") not in accuracy:
        return ""
    ours, theirs = (accuracy[column].to_numpy(dtype=float) for column in (name, known))
    r = spearmanr(ours, theirs, nan_policy="omit").statistic  # pyright: ignore
    return (f" (GPT-2, published: {percent(float(np.nanmean(theirs)))} %; Spearman correlation "
            f"over paradigms {r:.2f})")


def regime(settings: Settings, table: pd.DataFrame, n_tasks: int) -> str:
    """What each kind of tuning gains within the budget, in a sentence."""
    gains = "; ".join(
        f"{row['method']} {100 * row['gain']:+.1f}" if np.isfinite(row["lr"])
        else f"{row['method']} none"
        for row in table.to_dict("records")
    )
    return (f"Gain in points of each kind of tuning on {n_tasks} tasks, at its best learning rate "
            f"with a perplexity of at most x{settings.budget:g}: {gains}.")


def notes(settings: Settings, results: Results) -> list[str]:
    """What a reader must know to judge the numbers."""
    n = len(results.main.arrays["before"]) // len(results.pairs)
    found = [
        "Only the abstract and secondary notes of the paper could be read; hinge, masks on "
        "updates, the log-odds scale, overlap, alignment and distributedness are our definitions.",
        f"{n} evaluation pairs a task: a single accuracy of one half has a 95 % interval of about "
        f"+-{98 / np.sqrt(n):.0f} points, so log odds, which do not saturate, are judged.",
        f"Tuning: {settings.objective}, hinge {settings.hinge}, top {settings.top:g} of the "
        f"weights, {settings.optimiser}, learning rate {settings.lr:g}, {settings.steps} steps.",
        "p-values are one-sided over permuted tasks or phenomena; tasks are the units.",
    ]
    if settings.pairs == "own":
        found.append(
            "The pairs and the training text come from one set of templates and share their "
            "vocabulary; what is found here is about this small language, not about English."
        )
    return found


def sections(
    settings: Settings, tables: dict[str, str], drawn: dict[str, str]
) -> list[dict]:
    """The report's sections; what a run does not produce is left out."""
    section = Parts(tables, drawn).section

    return [
        section(
            "The transfer space",
            "Each row is the model tuned on one task, each column a task it is tested on. 'within' "
            "and 'across' phenomena leave out the tuned task itself. Intervals: 95 % bootstrap "
            "over evaluation pairs.",
            {"groups": "Within and across phenomena", "tests": "Mantel tests, Spearman",
             "tuned": "What tuning on each task did", "clusters": "Clusters against phenomena"},
            {"transfer": "Transfer", "accuracy-transfer": "Transfer on the scale of accuracy",
             "map-transfer": f"Tasks by the likeness of their transfer ({settings.map})",
             "tree-transfer": "Average-linkage tree of the tasks by the likeness of their "
             "transfer"},
        ),
        section(
            "Gradients of tasks",
            f"Overlap: of the largest {settings.top_overlap:.0%} of the entries of each task's "
            "gradient of the difference; chance is that share. Sign agreement and shared cosine: "
            "over the weights in both tasks' sets, above one half or 0 where they pull the same "
            "way.",
            {}, {"gradient-overlap": "Overlap", "gradient-cosine": "Cosine",
                 "sign-agreement": "Sign agreement in shared weights",
                 "map-gradients": f"Tasks by their overlap ({settings.map})",
                 "tree-gradients": "Average-linkage tree of the tasks by their overlap"},
        ),
        section(
            "Kinds of tuning",
            f"Compared on {settings.regime_model or 'the last model'}, at its first checkpoint "
            "with a whole transfer space; means over the compared tasks, the perplexity ratio is "
            "the median. Each line joins learning rates. A good kind lies to the right and low.",
            {"regime": f"Best learning rate with a perplexity of at most x{settings.budget:g}, and "
             "the smallest that breaks it",
             "kinds-of-tuning": "Gain, effect on other tasks and perplexity"},
            {"kinds-of-tuning": "Perplexity against gain"},
        ),
        section(
            "Over training and sizes",
            "Ceiling: the two halves of a task; floor: sentences of a pair exchanged at random. "
            "Participation: (sum |g|)^2 / (N sum g^2). Intervals: 95 % bootstrap over tasks.",
            {"sizes": "The last point of every size", "slopes": "Slopes against log steps",
             "development": "Sharing and distributedness",
             "likeness": "Likeness of neighbouring checkpoints' and sizes' spaces",
             "accuracy": "Accuracy of every paradigm; ends of the last point's 95 % interval"},
            {"sharing": "Overlap over training", "distributedness": "Spread of the gradients"},
        ),
        section(
            "Heads and layers", "Share of the sum of |g| in each head's query, key, value and "
            "output weights and in each MLP layer, and the fall of the log odds (nats) when a head "
            "is closed; means over the tasks of a phenomenon.",
            {"parts": "Layers", "heads": "Heads and phenomena"},
            {"parts": "Gradient by layer", "heads-gradient": "Gradient by head, over that head's "
             "mean", "heads-closed": "Fall of the log odds when a head is closed"},
        ),
    ]
