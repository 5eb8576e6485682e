"""What ``localise`` found: the check, scores by method, random-set tests, independent checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import hypergeom

from mechprobe.figures import save_figure
from mechprobe.locate.above_chance import BehaviourCheck
from mechprobe.locate.random_sets import SetTest
from mechprobe.locate.scores import Scores, spearman
from mechprobe.locate.tabled import Tabled
from mechprobe.runs import atomic_write
from mechprobe.runs.files import to_json
from mechprobe.tasks.language import ExpectedHeads

SHOWN = 8


@dataclass(frozen=True, eq=False, repr=False)
class Located(Tabled):
    """The heads behind a behaviour by several methods, and what speaks for and against them.

    Attributes:
        check: that the model shows the behaviour.
        scores: by method.
        tests: by method, its top heads closed together on held-out examples beside random sets;
            None where no head had a positive effect.
        matching: prefix matching of each head, for tasks that repeat themselves.
        expected: heads that the literature names for this model.
        settings: what made it.
    """

    check: BehaviourCheck
    scores: Mapping[str, Scores]
    tests: Mapping[str, SetTest | None]
    matching: Scores | None
    expected: tuple[ExpectedHeads, ...]
    settings: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """A method's best heads: method, site, effect, low, high, p_corrected, and their matching.

        Effects are held-out means in the method's own unit; the order is the selection half's.
        """
        parts = []
        for name, scores in self.scores.items():
            part = scores.table().head(SHOWN).drop(columns=["selection", "p"])
            part.insert(0, "method", name)
            if self.matching is not None:
                seen = dict(zip(self.matching.sites, self.matching.estimate, strict=True))
                part["prefix_matching"] = [seen[site] for site in part["site"]]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def sets(self) -> pd.DataFrame:
        """The top heads of each method, closed together, beside random sets of as many heads."""
        named = self.tests.items()
        rows = [test.table().assign(method=name) for name, test in named if test is not None]
        if not rows:
            return pd.DataFrame(columns=["method", "set", "size", "observed", "p"])
        found = pd.concat(rows, ignore_index=True)
        return found.reindex(columns=["method", *(c for c in found.columns if c != "method")])

    def agreement(self) -> pd.DataFrame:
        """Rank agreement with prefix matching, and how many of its best heads a method names too.

        Columns: method, rho (Spearman, over all heads), shared (of the ``top`` of both), by_chance,
        p (hypergeometric). Empty where there is no prefix matching.
        """
        if self.matching is None:
            return pd.DataFrame(columns=["method", "rho", "shared", "by_chance", "p"])
        k, every = int(self.settings["top"]), len(self.matching.sites)
        best = set(self.matching.top(k))
        rows = []
        for name, scores in self.scores.items():
            shared = len(best & set(scores.top(k)))
            rows.append({
                "method": name, "rho": spearman(scores, self.matching), "shared": shared,
                "by_chance": k * k / every, "p": float(hypergeom.sf(shared - 1, every, k, k)),
            })
        return pd.DataFrame(rows)

    def literature(self) -> pd.DataFrame:
        """Of the heads that the literature names, how many a method ranks first.

        Columns: method, part, named, found (among as many first as are named in all, by size of
        effect, whichever its sign), by_chance, p (hypergeometric). Empty without such heads.
        """
        rows = []
        for entry in self.expected:
            parts = {**entry.heads, "all": tuple(entry.all())}
            total = len(parts["all"])
            for name, scores in self.scores.items():
                size = np.abs(scores.effects[:, scores.select].mean(1))
                first = {scores.sites[i] for i in np.argsort(-size, kind="stable")[:total]}
                for part, heads in parts.items():
                    found, every = len(first & set(heads)), len(scores.sites)
                    rows.append({
                        "method": name, "part": part, "named": len(heads), "found": found,
                        "by_chance": total * len(heads) / every,
                        "p": float(hypergeom.sf(found - 1, every, len(heads), total)),
                    })
        return pd.DataFrame(rows, columns=["method", "part", "named", "found", "by_chance", "p"])

    def plot(self, method: str | None = None) -> Figure:
        """The map of held-out effects of one method (the first when None), or "matching"."""
        if method == "matching" and self.matching is not None:
            return self.matching.plot()
        return self.scores[method or next(iter(self.scores))].plot()

    def summary(self) -> str:
        """All of it as Markdown."""
        parts = [f"# {self.settings['task']}", "", f"{self.check}.", ""]
        told = self.settings
        parts += [
            f"{told['n']} examples (split {told['split']}, seed {told['seed']}), baseline "
            f"{told['baseline']}. Heads are ranked on one half of them; every number below is from "
            "the other half.", "",
        ]
        shown = [
            ("Best heads", self.table()),
            (f"The {told['top']} best closed together, beside random sets", self.sets()),
            ("Agreement with prefix matching (attention alone)", self.agreement()),
            ("Heads that the literature names", self.literature()),
        ]
        for title, table in shown:
            if len(table):
                parts += [f"## {title}", "", markdown(table), ""]
        if self.matching is not None:
            parts += ["## Prefix matching", "", markdown(_short(self.matching)), ""]
        parts += [f"{entry.model}: {entry.source}." for entry in self.expected]
        return "\n".join(parts).rstrip() + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write summary.md, settings.json, a table a method, and maps of heads into a folder.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder).expanduser()
        tables = {"check": self.check.table(), "sets": self.sets()}
        tables |= {name: scores.table() for name, scores in self.scores.items()}
        tables |= {"agreement": self.agreement(), "literature": self.literature()}
        if self.matching is not None:
            tables["prefix-matching"] = shown = self.matching.table()
            save_figure(self.plot("matching"), folder / "figures" / "prefix-matching", shown)
        for name, table in tables.items():
            if len(table):
                written = table.to_csv(index=False, float_format="%.6g").encode()
                atomic_write(folder / "tables" / f"{name}.csv", written)
        for name in self.scores:
            save_figure(self.plot(name), folder / "figures" / name, tables[name])
        atomic_write(folder / "settings.json", to_json(dict(self.settings)))
        atomic_write(folder / "summary.md", self.summary().encode())
        return folder / "summary.md"


def _short(scores: Scores) -> pd.DataFrame:
    return scores.table().head(SHOWN).drop(columns=["selection", "p"])


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers with three digits."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return str(value)
