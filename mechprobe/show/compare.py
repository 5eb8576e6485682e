"""Two runs of one study on one page: verdicts, settings that differ, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs import atomic_write, read_config
from mechprobe.show.content import (
    Claim,
    Content,
    Section,
    Shown,
    inside,
    picture_file,
    read_content,
)
from mechprobe.show.document import Part, badge, document, verdict_counts
from mechprobe.show.page import element, figure, join, prose, source, table, text
from mechprobe.show.report import CONFIG, NAME, claim_files, plain

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class _Run:
    """A run to compare: its folder, the name it goes by here, what it tells, all its settings."""

    folder: Path
    name: str
    content: Content
    settings: Mapping[str, Any]


def compare_runs(
    first: str | Path, second: str | Path, page: str | Path | None = None
) -> Path:
    """Write one self-contained page with two finished runs of a study side by side.

    Claims are paired by their words, numbers in them aside; those whose verdict differs come first.
    Tables and figures are paired by file name.

    Args:
        page: the file to write; None: ``compare-FIRST-SECOND.html`` beside the first run's folder.

    Returns:
        The page.

    Raises:
        InputError: a folder without a finished run, the same folder twice, runs of different
            studies, or a page that cannot be written.
    """
    a, b = (Path(folder) for folder in (first, second))
    if a.resolve() == b.resolve():
        raise InputError(f"{a} is given twice; name two run folders")
    same = a.resolve().name == b.resolve().name
    runs = tuple(
        _read(folder, str(folder) if same else folder.resolve().name) for folder in (a, b)
    )
    studies = [str(run.settings["study"]) for run in runs]
    if studies[0] != studies[1]:
        raise InputError(
            f"{a} is a run of {studies[0]} and {b} of {studies[1]}; compare runs of one study"
        )
    names = "-".join(("compare", a.resolve().name, b.resolve().name))
    target = Path(page) if page is not None else a.resolve().parent / f"{names}.html"
    return atomic_write(target, _page(studies[0], runs, target.resolve().parent).encode())


def _read(folder: Path, name: str) -> _Run:
    config, content = read_config(folder), read_content(folder)
    environment = dict(config["environment"])
    versions = environment.pop("versions", {})
    machine = {f"machine: {key}": value for key, value in environment.items()}
    settings = {**machine, **versions, **config["settings"]}
    if "resumed" in config:
        settings["resumed with"] = config["resumed"]
    return _Run(folder.resolve(), name, content, settings)


def _page(study: str, runs: Sequence[_Run], beside: Path) -> str:
    titles = dict.fromkeys(
        section.title for run in runs for section in run.content.sections
    )
    parts = [
        Part("verdicts", "Verdicts", _verdicts(runs, beside)),
        Part("settings", "Settings that differ", _differences(runs, beside)),
        *(
            Part(f"section-{i}", title, _section(title, runs, beside))
            for i, title in enumerate(titles, start=1)
        ),
    ]
    title = f"{study}: {runs[0].name} and {runs[1].name}"
    told = _pair(runs, [
        element("p", f"{prose(run.content.title)} {source(NAME, run.folder / NAME, beside)}")
        + verdict_counts(run.content) for run in runs
    ])
    footer = "Made by mechprobe. The files named here lie in the folders of the two runs."
    return document(title, element("h1", text(title)) + told, parts, footer)


def _verdicts(runs: Sequence[_Run], beside: Path) -> str:
    texts = [{claim.claim for claim in run.content.claims} for run in runs]
    told = [_keyed(run.content.claims, texts[0] & texts[1]) for run in runs]
    pairs = [[one.get(key) for one in told] for key in dict.fromkeys((*told[0], *told[1]))]
    both = [pair for pair in pairs if None not in pair]
    moved = sum(_moved(pair) for pair in both)
    lead = f"{moved} of the {len(both)} claims in both runs get another verdict"
    lead += ": they come first." if moved else "."
    order = sorted(pairs, key=lambda pair: not _moved(pair))
    return element("p", lead) + _older(runs) + join(_claims(pair, runs, beside) for pair in order)


def _keyed(claims: Sequence[Claim], shared: Collection[str]) -> dict[tuple[str, int], Claim]:
    """Claims by what they are paired on: text that both runs have, else the words and which of
    the claims with these words it is.
    """
    found: dict[tuple[str, int], Claim] = {}
    for claim in claims:
        words = claim.claim if claim.claim in shared else _words(claim)
        found[words, sum(key[0] == words for key in found)] = claim
    return found


def _words(claim: Claim) -> str:
    """What a claim says apart from the numbers of its run."""
    return _NUMBER.sub("#", claim.claim)


def _older(runs: Sequence[_Run]) -> str:
    """Which reports name no file behind any claim, as those of earlier versions do not."""
    return join(
        element("p", prose(
            f"{run.name}: this report names no files behind its claims, as reports of earlier "
            "versions do not; run the study again for one that does."
        ), class_="source")
        for run in runs
        if run.content.claims and not any(claim.files for claim in run.content.claims)
    )


def _moved(pair: Sequence[Claim | None]) -> bool:
    return len({claim.verdict for claim in pair if claim is not None}) == len(pair) > 1


def _claims(pair: Sequence[Claim | None], runs: Sequence[_Run], beside: Path) -> str:
    told = dict.fromkeys(claim.claim for claim in pair if claim is not None)
    papers = dict.fromkeys(claim.paper for claim in pair if claim is not None and claim.paper)
    cells = [
        element("p", "not among this run's claims") if claim is None else
        badge(claim.verdict) + element("p", prose(claim.numbers))
        + claim_files(claim, run.folder, beside)
        for run, claim in zip(runs, pair, strict=True)
    ]
    paper = join(element("p", "Paper: " + prose(one), class_="source") for one in papers)
    head = element("h3", " / ".join(map(prose, told)))
    return element("article", head + _pair(runs, cells) + paper, class_="claim")


def _differences(runs: Sequence[_Run], beside: Path) -> str:
    files = ", ".join(
        source(f"{run.name}/{CONFIG}", run.folder / CONFIG, beside) for run in runs
    )
    rows, same = [], 0
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        cells = [plain(run.settings[key]) if key in run.settings else "–" for run in runs]
        if cells[0] == cells[1]:
            same += 1
        else:
            rows.append([key, *cells])
    told = f"{same} other settings and versions are the same."
    if not rows:
        return element("p", "None: " + told) + element("p", files, class_="source")
    head = element("tr", join(
        element("th", text(name), scope="col") for name in ("setting", *(r.name for r in runs))
    ))
    body = join(
        element("tr", element("th", text(row[0]), scope="row") + join(
            element("td", text(cell)) for cell in row[1:]
        )) for row in rows
    )
    grid = element("table", element("thead", head) + element("tbody", body))
    box = element("div", grid, class_="box", tabindex="0", role="region", aria_label="settings")
    return box + element("p", told) + element("p", files, class_="source")


def _section(title: str, runs: Sequence[_Run], beside: Path) -> str:
    found = [
        next((s for s in run.content.sections if s.title == title), None) for run in runs
    ]
    out = ""
    for kind, drawn in (("figures", _figure), ("tables", _table)):
        shown = [_by_file(section, kind) for section in found]
        for file in dict.fromkeys((*shown[0], *shown[1])):
            out += _pair(runs, [
                drawn(run, one[file], beside) if file in one else
                element("p", f"no {text(file)} in this run", class_="source")
                for run, one in zip(runs, shown, strict=True)
            ])
    return out or element("p", "No tables and no figures.")


def _by_file(section: Section | None, kind: str) -> dict[str, Shown]:
    items: Iterable[Shown] = () if section is None else getattr(section, kind)
    return {shown.file: shown for shown in items}


def _figure(run: _Run, shown: Shown, beside: Path) -> str:
    return figure(inside(run.folder, picture_file(shown.file)), shown, beside)


def _table(run: _Run, shown: Shown, beside: Path) -> str:
    return table(inside(run.folder, shown.file), shown, beside)


def _pair(runs: Sequence[_Run], cells: Sequence[str]) -> str:
    """Two pieces side by side, or one above the other on a narrow page, each under its run."""
    return element("div", join(
        element("div", element("p", text(run.name), class_="run") + cell, class_="half")
        for run, cell in zip(runs, cells, strict=True)
    ), class_="pair")
