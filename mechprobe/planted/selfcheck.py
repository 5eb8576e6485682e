"""Every localiser on every planted circuit: what each finds, misses and cannot see."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from mechprobe.errors import InputError
from mechprobe.locate.ablate import ablate
from mechprobe.locate.attribute import attribute
from mechprobe.locate.circuits import find_circuits
from mechprobe.locate.direct import direct_logit_attribution
from mechprobe.locate.learn import learn_masks
from mechprobe.locate.patch import patch
from mechprobe.locate.paths import path_patch
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import site_grid
from mechprobe.planted.cases import Case, load_case
from mechprobe.planted.handmade import all_cases
from mechprobe.planted.trained import trained_induction
from mechprobe.runs import atomic_write, progress
from mechprobe.runs.config import environment
from mechprobe.sites import Site

LEVEL = 0.05
Found = frozenset[frozenset[Site]]


@dataclass(frozen=True)
class Method:
    """A localiser with the settings it is checked with, and what it cannot see by design."""

    name: str
    run: Callable[[Case, int], Found]
    limits: str


def significant(scores: Scores) -> Found:
    """The heads with a positive held-out effect, p < .05 after Holm's correction, as one set."""
    table = scores.table()
    kept = table[(table["effect"] > 0) & (table["p_corrected"] < LEVEL)]["site"]
    sites = (Site.parse(name) for name in kept)
    return frozenset({frozenset(site for site in sites if site.kind == "head")})


def _ablated(kind: str, how: str, case: Case, seed: int) -> Found:
    return significant(ablate(
        case.model, case.task, baseline=kind, how=how, seed=seed, progress=False,  # pyright: ignore
    ))


def _patched(direction: str, case: Case, seed: int) -> Found:
    return significant(patch(
        case.model, case.task, direction=direction, seed=seed, progress=False,
    ))


def _attributed(method: str, case: Case, seed: int) -> Found:
    return significant(attribute(
        case.model, case.task, method=method, metric="logit_difference", seed=seed, progress=False,
    ))


def _direct(case: Case, seed: int) -> Found:
    return significant(direct_logit_attribution(case.model, case.task, "heads", seed=seed))


def _paths(case: Case, seed: int) -> Found:
    table = path_patch(case.model, case.task, metric="logit_difference", seed=seed,
                       progress=False).table()
    kept = table[(table["effect"] > 0) & (table["p_corrected"] < LEVEL)]["sender"]
    return frozenset({frozenset(map(Site.parse, kept))})


def _masks(kind: str, case: Case, seed: int) -> Found:
    heads = site_grid(case.model).n_head_sites
    union = frozenset().union(*case.minimal)
    if len(union) == heads:
        raise InputError("every head matters here; a sparse mask cannot keep them all")
    return significant(learn_masks(
        case.model, case.task, baseline=kind, sparsity=1 - len(union) / heads,
        seeds=range(12 * seed, 12 * seed + 12), steps=60, n=64, seed=seed, progress=False,
    ))


def _circuits(case: Case, seed: int) -> Found:
    return frozenset(find_circuits(case.model, case.task, baseline="paired", seed=seed))


FINDER = "minimal circuits"
METHODS: tuple[Method, ...] = (
    Method(FINDER, _circuits, "cost: many passes; needs counterfactuals"),
    *(
        Method(f"ablation, {kind}", partial(_ablated, kind, "single"), limits)
        for kind, limits in (
            ("zero", "blames heads whose usual output is only a constant; blind to OR"),
            ("mean", "blind to OR, and where the mean still carries the answer"),
            ("mean_position", "as mean, less often where positions differ"),
            ("resample", "blind to OR, and to what the whole data set shares"),
            ("paired", "blind to OR; sees only what the pairs vary"),
        )
    ),
    Method("leave one in, paired", partial(_ablated, "paired", "leave_one_in"),
           "blind to AND: heads that work only together"),
    Method("patching, noising", partial(_patched, "noising"), "blind to OR"),
    Method("patching, denoising", partial(_patched, "denoising"),
           "blind to AND; sees heads that only pass on"),
    Method("attribution, first order", partial(_attributed, "first_order"),
           "gradients vanish in saturated attention and past hard thresholds"),
    Method("attribution, integrated", partial(_attributed, "integrated"),
           "shares an effect among heads that act together; spreads over OR"),
    Method("direct logit attribution", _direct,
           "sees only heads that write to the logits; blames constant ones; blind behind MLPs"),
    Method("path patching to logits", _paths, "sees only heads with a direct path to the logits"),
    Method("learned masks, mean", partial(_masks, "mean"), "is told how many heads; as mean"),
    Method("learned masks, paired", partial(_masks, "paired"),
           "is told how many heads; picks among equals by chance"),
)


def collect_cases(
    folder: str | Path | None = None, seed: int = 0, *, trained: bool = True, progress: bool = True
) -> list[Case]:
    """The hand-made cases, the trained one, and all compiled cases below a folder.

    Raises:
        InputError: a folder without cases.
    """
    found: list[Path] = []
    if folder is not None:
        found = sorted(path.parent for path in Path(folder).glob("*/truth.json"))
        if not found:
            raise InputError(f"no planted cases in {folder}; give a folder of case folders")
    cases = all_cases(seed)
    if trained:
        cases.append(trained_induction(seed, steps=800, progress=progress))
    for place in found:
        first = load_case(place, _sets(place)[0])
        cases += [first, *(load_case(place, name) for name in _sets(place)[1:])]
    return cases


def _sets(folder: Path) -> list[str]:
    """The data sets of a case folder that its truth file lists circuits for, ``main`` first."""
    truth = pd.read_json(folder / "truth.json", typ="series")
    names = [str(name) for name in dict(truth["sets"])]
    return sorted(names, key=lambda name: (name != "main", name))


def selfcheck(
    cases: Sequence[Case], methods: Sequence[Method] = METHODS, *, seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Run every method on every case.

    Returns:
        One row a method and case. Columns: method, case, set, truth and found (circuits as text),
        exact (the same sets of heads; for methods that give one set, the union of the circuits),
        hits, extra, missed (heads, against the union), seconds, and refused (why it could not run).
    """
    rows = []
    jobs = [(method, case) for case in cases for method in methods]
    for method, case in progress(jobs, "selfcheck") if show_progress else jobs:
        union: frozenset[Site] = frozenset().union(*case.minimal)
        truth = case.minimal if method.name == FINDER else frozenset({union})
        row: dict[str, object] = {
            "method": method.name, "case": case.name, "set": case.set, "truth": written(truth),
        }
        began = time.perf_counter()
        try:
            found = method.run(case, seed)
        except InputError as error:
            rows.append(row | {"found": "", "exact": False, "hits": 0, "extra": 0, "missed": 0,
                               "seconds": 0.0, "refused": str(error)})
            continue
        heads: frozenset[Site] = frozenset().union(*found)
        rows.append(row | {
            "found": written(found), "exact": found == truth, "hits": len(heads & union),
            "extra": len(heads - union), "missed": len(union - heads),
            "seconds": time.perf_counter() - began, "refused": "",
        })
    return pd.DataFrame(rows)


def written(circuits: Found) -> str:
    """Circuits as text: ``0.1 1.2 | 0.3``."""
    return " | ".join(sorted(" ".join(map(str, sorted(circuit))) for circuit in circuits))


def summary(detail: pd.DataFrame, methods: Sequence[Method] = METHODS) -> pd.DataFrame:
    """One row a method: cases run, exact, precision and recall over all heads, seconds, limits."""
    limits = {method.name: method.limits for method in methods}
    rows = []
    for name in detail["method"].unique():
        part = [row for row in detail.to_dict("records") if row["method"] == name]
        ran = [row for row in part if not row["refused"]]
        hits, extra, missed = (sum(row[c] for row in ran) for c in ("hits", "extra", "missed"))
        rows.append({
            "method": name, "cases": len(ran), "refused": len(part) - len(ran),
            "exact": sum(row["exact"] for row in ran),
            "precision": hits / (hits + extra) if hits + extra else float("nan"),
            "recall": hits / (hits + missed) if hits + missed else float("nan"),
            "seconds": sum(row["seconds"] for row in ran), "limits": limits[name],
        })
    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame) -> str:
    """The summary as a table for a terminal or a README."""
    head = ["method", "exact", "precision", "recall", "seconds", "known limits"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in table.to_dict("records"):
        lines.append(
            "| {method} | {exact}/{cases} | {precision:.2f} | {recall:.2f} | {seconds:.1f} | "
            "{limits} |".format(**row)
        )
    return "\n".join(lines)


def conclusion(detail: pd.DataFrame) -> str:
    """One line: of how many cases the default finder names exactly the minimal circuits."""
    mine = [row for row in detail.to_dict("records") if row["method"] == FINDER]
    return (
        f"selfcheck: the default finder names exactly the minimal circuits of "
        f"{sum(row['exact'] for row in mine)} of {len(mine)} cases"
    )


def record(detail: pd.DataFrame, seed: int, folder: str | Path) -> Path:
    """Write ``detail.csv`` and ``summary.md`` (table, conclusion, versions) into a folder."""
    detail = detail.assign(seconds=detail["seconds"].round(2))
    atomic_write(Path(folder) / "detail.csv", detail.to_csv(index=False).encode())
    own = environment()
    machine = {k: v for k, v in own.items() if k != "versions"} | own["versions"]
    cases = detail[["case", "set"]].drop_duplicates()
    text = "\n".join([
        "# Every localiser on planted circuits", "",
        f"`mechprobe selfcheck --seed {seed}`: {len(cases)} cases "
        f"({', '.join(f'{c} ({s})' for c, s in cases.itertuples(index=False))}). Precision and "
        "recall count heads over all cases; exact counts cases where the heads named are exactly "
        "those of the circuits (for minimal circuits: exactly the circuits); a method is left out "
        "of a case where it cannot run. Every cell: [detail.csv](detail.csv).", "",
        as_markdown(summary(detail)), "", conclusion(detail), "",
        ", ".join(f"{name} {value}" for name, value in machine.items()), "",
    ])
    path = Path(folder) / "summary.md"
    atomic_write(path, text.encode())
    return path
