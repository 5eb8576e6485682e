"""What the units of a run found, gathered for tables, figures and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.models.streams import Stream
from mechprobe.probes.sentence_scores import SentenceScore, difference
from mechprobe.studies.topology.kinds import TOPOLOGY, rank_kind, topology_of
from mechprobe.studies.topology.models import TRAINED
from mechprobe.studies.topology.settings import Settings

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Attributes:
        scores: by (model, part, metric); model "untrained" is the mean over untrained models,
            sentence by sentence.
        baselines: by (baseline, part, metric).
        probes: the unit of each (model, kind).
        heads: of ``heads_unit``, None without.
        finetuned: one dict a fine-tuned model.
        encoder: how the encoder was trained, None when it was given.
        checks: of ``checks_unit``, None without.
    """

    settings: Settings
    parts: tuple[str, ...]
    scores: dict[tuple[str, str, str], SentenceScore]
    baselines: dict[tuple[str, str, str], SentenceScore]
    probes: dict[tuple[str, str], dict[str, Any]]
    heads: dict[str, Any] | None = None
    finetuned: list[dict[str, Any]] = field(default_factory=list)
    encoder: dict[str, Any] | None = None
    checks: dict[str, int | float] | None = None

    def score(self, metric: str, model: str = TRAINED, part: str = "test") -> SentenceScore:
        """One score."""
        return self.scores[model, part, metric]

    def has(self, metric: str, model: str = TRAINED, part: str = "test") -> bool:
        """Whether there is such a score."""
        return (model, part, metric) in self.scores

    def train_loss(self, kind: str, model: str = TRAINED) -> dict[str, float]:
        """Mean loss by stream on the training sentences; of untrained models the mean."""
        units = [unit for (name, own), unit in self.probes.items()
                 if own == kind and name.startswith(model)]
        means = np.mean([unit["train_loss"] for unit in units], axis=0)
        return dict(zip(units[0]["streams"], means.tolist(), strict=True))

    def minus(
        self, first: SentenceScore, second: SentenceScore
    ) -> dict[str, tuple[float, float, float]]:
        """Paired differences with intervals, as the run's settings say."""
        return dict(difference(first, second, n=self.settings.n_boot, seed=self.settings.seed))

    def residual(self) -> list[str]:
        """Names of the points of the residual stream (or of the first part probed)."""
        names = self.score("uuas").names
        first = Stream.parse(names[0]).part
        return [name for name in names if Stream.parse(name).part == first]

    def best(self, metric: str = "uuas", *, least: bool = False) -> str:
        """The point of the residual stream that scores best on the dev sentences."""
        score = self.score(metric, part="dev")
        values = score.value()
        sign = -1 if least else 1
        return max(self.residual(), key=lambda name: sign * values[score.at(name)])

    def selectivity(self, kind: str, model: str = TRAINED, part: str = "test") -> SentenceScore:
        """Accuracy minus control accuracy, by sentence."""
        task, control = (self.score(k, model, part) for k in (kind, f"{kind}-control"))
        return SentenceScore(task.names, task.top - control.top, task.bottom, task.group)


def span(found: tuple[float, float, float], form: str = ".3f") -> str:
    """An estimate with its interval."""
    value, low, high = (format(part, form) for part in found)
    return f"{value} [{low}, {high}]"


def mean_score(scores: list[SentenceScore]) -> SentenceScore:
    """The mean of several models' scores on the same sentences."""
    first = scores[0]
    top = np.mean([score.top for score in scores], axis=0)
    return SentenceScore(first.names, top, first.bottom, first.group)


def long_table(results: Results) -> pd.DataFrame:
    """Every score with its interval: model, sentences, metric, part, layer, value, low, high."""
    rows: list[dict[str, Any]] = []
    for (model, part, metric), score in results.scores.items():
        if part == "dev":
            continue
        low, high = score.interval(n=results.settings.n_boot, seed=results.settings.seed)
        for i, (name, value) in enumerate(zip(score.names, score.value(), strict=True)):
            stream = Stream.parse(name)
            rows.append({
                "model": model, "sentences": part, "metric": metric, "part": stream.part,
                "layer": stream.layer, "value": value, "low": low[i], "high": high[i],
            })
    return pd.DataFrame(rows)


def wide_table(results: Results, part: str = "test") -> pd.DataFrame:
    """One row a stream, one column a metric, of the trained model; X_ssp of one rank."""
    names = results.score("uuas").names
    table = pd.DataFrame({"stream": names})
    other_ranks = [f"x_{rank_kind(rank)}" for rank in results.settings.topology_ranks]
    for (model, where, metric), score in results.scores.items():
        if (model, where) == (TRAINED, part) and metric not in other_ranks:
            found = dict(zip(score.names, score.value(), strict=True))
            table[metric] = [found.get(name, np.nan) for name in names]
    return table


def against_untrained(results: Results, part: str = "test") -> pd.DataFrame:
    """Trained minus untrained at each stream, with the interval of the difference."""
    rows = []
    for metric in ("uuas", "dspr", "sp_nspr", "sp_root", "x_sp", "x_ssp", "upos"):
        if not results.has(metric, UNTRAINED, part):
            continue
        first, second = results.score(metric, TRAINED, part), results.score(metric, UNTRAINED, part)
        for name, (value, low, high) in results.minus(first, second).items():
            rows.append({
                "metric": metric, "stream": name, "trained": first.value()[first.at(name)],
                "untrained": second.value()[second.at(name)], "difference": value, "low": low,
                "high": high,
            })
    return pd.DataFrame(rows)


def inequality_table(results: Results, part: str = "test") -> pd.DataFrame:
    """X_ssp, X_sp and X_essp at each stream, and whether they are in the claimed order."""
    ssp, sp, essp = (results.score(m, part=part) for m in ("x_ssp", "x_sp", "x_essp"))
    same = results.score("x_ssp_at_sp", part=part)
    below, above = results.minus(sp, ssp), results.minus(essp, sp)
    rows = []
    for i, name in enumerate(sp.names):
        rows.append({
            "stream": name, "x_ssp": ssp.value()[i], "x_sp": sp.value()[i],
            "x_essp": essp.value()[i], "x_ssp_at_the_x_sp_probe": same.value()[i],
            "sp_minus_ssp": below[name][0], "sp_minus_ssp_low": below[name][1],
            "essp_minus_sp": above[name][0], "essp_minus_sp_low": above[name][1],
            "essp_minus_sp_high": above[name][2],
        })
    return pd.DataFrame(rows)


def fit_table(results: Results) -> pd.DataFrame:
    """X of each stream on the sentences B was fitted to and on the test sentences."""
    names = results.score("x_sp").names
    table = pd.DataFrame({"stream": names})
    for kind in TOPOLOGY:
        table[f"{kind} train"] = results.probes[TRAINED, kind]["train_loss"]
        table[f"{kind} test"] = results.score(f"x_{kind}").value()
    return table


def rank_table(results: Results) -> pd.DataFrame:
    """X_ssp of the residual stream by number of columns of B, one row a point."""
    rows = []
    for kind in ssp_kinds(results):
        for model in (TRAINED, UNTRAINED):
            test, train = results.score(f"x_{kind}", model), results.train_loss(kind, model)
            rows += [
                {"rank": rank_of(results, kind), "model": model, "stream": name,
                 "train": train[name], "test": test.value()[test.at(name)]}
                for name in results.residual()
            ]
    return pd.DataFrame(rows)


def ssp_kinds(results: Results) -> list[str]:
    """The X_ssp probes with exact labels: of every stream, and of other ranks."""
    return ["ssp", *(rank_kind(rank) for rank in results.settings.topology_ranks)]


def rank_of(results: Results, kind: str) -> int:
    """Columns of B of an X_ssp probe."""
    return int(results.probes[TRAINED, kind]["rank"])


def label_table(results: Results, part: str = "test") -> pd.DataFrame:
    """How flat the labels of each X_ssp probe are: share of flat profiles, words a level."""
    rows = []
    for (model, kind), unit in results.probes.items():
        if kind == "sp" or topology_of(kind) is None:
            continue
        for name, flat in unit["flat"][part].items():
            share = unit["levels"][part][name]
            levels = {f"level {i + 1}": v for i, v in enumerate(share[:6])}
            rows.append({"model": model, "probe": kind, "stream": name, "flat": flat, **levels})
    return pd.DataFrame(rows)


def selectivity_table(results: Results) -> pd.DataFrame:
    """Accuracy, control accuracy and selectivity of the part-of-speech probes."""
    rows = []
    for kind in ("upos", "mlp"):
        for model in (TRAINED, UNTRAINED):
            if not results.has(kind, model):
                continue
            task, control = results.score(kind, model), results.score(f"{kind}-control", model)
            for name, (value, low, high) in results.minus(task, control).items():
                rows.append({
                    "model": model, "probe": "linear" if kind == "upos" else "MLP", "stream": name,
                    "accuracy": task.value()[task.at(name)],
                    "control": control.value()[control.at(name)], "selectivity": value,
                    "low": low, "high": high,
                })
    return pd.DataFrame(rows)


def baseline_table(results: Results) -> pd.DataFrame:
    """Chain and random trees."""
    rows = []
    for (name, part, metric), score in results.baselines.items():
        low, high = score.interval(n=results.settings.n_boot, seed=results.settings.seed)
        rows.append({
            "baseline": name, "sentences": part, "metric": metric, "value": score.value()[0],
            "low": low[0], "high": high[0],
        })
    return pd.DataFrame(rows)


def sentence_table(results: Results) -> pd.DataFrame:
    """How many sentences of each part were read and how many left out, by reason.

    Untrained models share the trained one's tokenizer and context, so they leave out the same.
    """
    skipped = results.probes[TRAINED, "distance"]["skipped"]
    return pd.DataFrame([{"sentences": part, **n} for part, n in skipped.items()])
