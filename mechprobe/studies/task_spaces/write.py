"""Write the run's tables, figures and the content of its report."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.runs import Run
from mechprobe.studies.claims import percent
from mechprobe.studies.task_spaces.models import Point
from mechprobe.studies.task_spaces.pictures import draw
from mechprobe.studies.task_spaces.results import Results, gather, kinds_summary, rows_where
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.verdict import judge_all
from mechprobe.tasks.blimp import load_reference
from mechprobe.tasks.minimal_pairs import MinimalPairs

QUESTION = (
    "Which linguistic tasks help each other when a language model is tuned on one of them, do they "
    "use the same weights, and does that follow linguistic theory? (Weber, Jumelet, Bruni, Hupkes "
    "2024, Interpretability of Language Models via Task Spaces)"
)


def write_results(
    settings: Settings, pairs: MinimalPairs, points: list[Point], run: Run, command: str | None
) -> None:
    """Gather finished units, judge the claims, draw the figures and write ``report.json``."""
    results = gather(settings, pairs, points, run)
    tables = write_tables(settings, results, run)
    drawn = draw(settings, results, run)
    run.write_json("report.json", {
        "title": f"Task spaces: {settings.preset} preset, {len(pairs)} paradigms",
        "question": QUESTION,
        "summary": summary(settings, results),
        "claims": [claim.as_dict() for claim in judge_all(settings, results)],
        "sections": sections(settings, tables, drawn),
        "notes": notes(settings, results),
        "command": command or "",
    })


def write_tables(settings: Settings, results: Results, run: Run) -> dict[str, str]:
    """Write each table as CSV; name -> path inside the run folder."""
    accuracy = results.accuracy
    if settings.pairs == "blimp" and settings.data_dir is not None:
        accuracy = with_reference(accuracy, settings.data_dir)
    whole = {
        "accuracy": accuracy, "tests": results.tests, "development": results.development,
        "neighbours": results.neighbours, "heads": results.heads, "groups": groups(results),
        "clusters": clusters(results), "tuned": tuned(results),
    }
    if not results.kinds.empty:
        whole["kinds-of-tuning"] = kinds_summary(results.kinds)
    for name, table in whole.items():
        run.write_table(f"tables/{name}.csv", table)
    return {name: f"tables/{name}.csv" for name, table in whole.items() if len(table)}


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


def groups(results: Results) -> pd.DataFrame:
    """Transfer and overlap within and across phenomena at every point with a space."""
    rows = []
    for at in results.points:
        row: dict[str, object] = {
            "model": at.point.model, "step": at.point.step,
            "overlap_within": at.gradients.within, "overlap_across": at.gradients.across,
            "overlap_p": at.gradients.p,
        }
        if at.contrast is not None and at.interval is not None:
            row |= {
                "transfer_within": at.contrast.within, "transfer_across": at.contrast.across,
                "difference": at.contrast.difference, "difference_low": at.interval[0],
                "difference_high": at.interval[1], "transfer_p": at.contrast.p,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def clusters(results: Results) -> pd.DataFrame:
    """How well clusters of each space fit the phenomena."""
    return pd.DataFrame([
        {"space": name, "adjusted_rand": c.rand, "p_rand": c.p_rand,
         "same_phenomenon_neighbour": c.neighbours, "p_neighbour": c.p_neighbours}
        for name, c in results.clusters.items()
    ])


def tuned(results: Results) -> pd.DataFrame:
    """What tuning on each task did at the last point."""
    at = results.main
    assert at.space is not None
    space, kinds = at.space, np.array(results.pairs.phenomena)
    raw = space.transfer("raw")
    same = (kinds[:, None] == kinds[None, :]) & ~np.eye(len(kinds), dtype=bool)
    other = kinds[:, None] != kinds[None, :]
    log_odds = space.transfer("log_odds")

    def mean(values: np.ndarray, keep: np.ndarray) -> list[float]:
        return [float(v[k].mean()) if k.any() else np.nan for v, k in zip(values, keep)]

    return pd.DataFrame({
        "task": results.pairs.names, "phenomenon": kinds, "accuracy_before": space.eval1,
        "gain": np.diag(raw), "same_phenomenon": mean(raw, same),
        "other_phenomena": mean(raw, other), "gain_nats": np.diag(log_odds),
        "same_phenomenon_nats": mean(log_odds, same),
        "other_phenomena_nats": mean(log_odds, other),
        "perplexity_ratio": space.perplexity_ratio, "weights_changed": space.changed,
    })


def summary(settings: Settings, results: Results) -> list[str]:
    """The run in a few sentences."""
    at = results.main
    assert at.space is not None
    assert at.contrast is not None
    raw = at.space.transfer("raw")
    ratio = float(np.median(at.space.perplexity_ratio))
    lines = [
        f"{len(results.pairs)} paradigms of {len(set(results.pairs.phenomena))} phenomena; the "
        f"model {at.point.name} is right on {percent(float(at.accuracy.mean()))} % of the pairs.",
        f"Tuning on a task changes its own accuracy by {100 * np.diag(raw).mean():+.1f} points and "
        f"its log odds by {np.diag(at.space.transfer('log_odds')).mean():+.2f} nats on average, at "
        f"a median perplexity ratio of {ratio:.3f}, in {100 * at.space.changed.mean():.2f} % of "
        "the weights.",
        f"Transfer within phenomena {at.contrast.within:+.3f}, across {at.contrast.across:+.3f} "
        f"({settings.scale.replace('_', ' ')}).",
    ]
    return lines if results.kinds.empty else [*lines, regime(settings, results.kinds)]


def regime(settings: Settings, kinds: pd.DataFrame) -> str:
    """Where each kind of tuning works: its best learning rate within the perplexity budget."""
    means = kinds_summary(kinds)
    found = []
    for method in dict.fromkeys(means["method"]):
        fit = rows_where(
            means, (means["method"] == method) & (means["perplexity_ratio"] <= settings.budget)
        )
        if fit.empty:
            found.append(f"{method} at no learning rate")
            continue
        best = fit.loc[fit["gain"].idxmax()]
        found.append(
            f"{method} {100 * best['gain']:+.1f} at learning rate {best['lr']:g} (perplexity x"
            f"{best['perplexity_ratio']:.3f}, other phenomena {100 * best['other_phenomena']:+.1f})"
        )
    n_tasks = len(set(kinds["task"]))
    return (
        f"The regime of each kind of tuning, mean gain in points over {n_tasks} tasks "
        f"with the median perplexity at most x{settings.budget:g} ({settings.optimiser}, "
        f"{settings.steps} steps): " + "; ".join(found) + "."
    )


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

    def section(
        title: str, text: str, of_tables: dict[str, str], of_figures: dict[str, str]
    ) -> dict:
        return {
            "title": title, "text": [text],
            "tables": [{"file": tables[n], "caption": c} for n, c in of_tables.items()
                       if n in tables],
            "figures": [{"file": drawn[n], "caption": c} for n, c in of_figures.items()
                        if n in drawn],
        }

    heads = {name: f"Gradient by head: {name.removeprefix('heads-').replace('_', ' ')}"
             for name in drawn if name.startswith("heads-")}
    return [
        section(
            "The transfer space",
            "Each row is the model tuned on one task, each column a task it is tested on. 'within' "
            "and 'across' phenomena leave out the tuned task itself. Intervals: 95 % bootstrap "
            "over evaluation pairs.",
            {"groups": "Within and across phenomena", "tests": "Mantel tests, Spearman",
             "tuned": "What tuning on each task did", "clusters": "Clusters against phenomena"},
            {"transfer": "Transfer", "accuracy-transfer": "Transfer on the scale of accuracy",
             "map-transfer": "Tasks by the likeness of their transfer (classical scaling)"},
        ),
        section(
            "Gradients of tasks",
            f"The largest {settings.top_overlap:.0%} of the entries of each task's gradient of "
            "the difference; chance overlap is that share.",
            {}, {"gradient-overlap": "Overlap", "gradient-cosine": "Cosine",
                 "map-gradients": "Tasks by their overlap (classical scaling)"},
        ),
        section(
            "Kinds of tuning",
            "Compared at the first checkpoint that has a whole transfer space; means over the "
            "compared tasks, the perplexity ratio is the median. Each line joins learning rates. "
            "A good kind lies to the right and low.",
            {"kinds-of-tuning": "Gain, effect on other tasks and perplexity"},
            {"kinds-of-tuning": "Perplexity against gain"},
        ),
        section(
            "Over training and scales",
            "Ceiling: the two halves of a task; floor: sentences of a pair exchanged at random. "
            "Participation: (sum |g|)^2 / (N sum g^2). Intervals: 95 % bootstrap over tasks.",
            {"development": "Sharing and distributedness", "neighbours": "Likeness of neighbouring "
             "checkpoints' spaces", "accuracy": "Accuracy of every paradigm"},
            {"sharing": "Overlap over training", "distributedness": "Spread of the gradients"},
        ),
        section(
            "Heads", "Share of the sum of |g| in each head's query, key, value and output weights, "
            "and the fall of the log odds (nats) when the head is closed.",
            {"heads": "Heads and phenomena"}, heads,
        ),
    ]
