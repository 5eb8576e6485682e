"""The report of a run: one HTML file that opens anywhere, verdicts first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mechprobe.runs import atomic_write, read_config
from mechprobe.runs.files import read_json
from mechprobe.show.content import (
    FILE,
    Claim,
    Content,
    Section,
    inside,
    picture_file,
    read_content,
)
from mechprobe.show.document import BADGES, Part, badge, document, verdict_counts
from mechprobe.show.kept_view import read_view
from mechprobe.show.page import element, figure, join, prose, source, table, text
from mechprobe.show.record import write_summary
from mechprobe.show.view import Panel, panel_section

__all__ = ["build_report", "write_summary"]

NAME = "report.html"
CONFIG, UNITS = "config.json", "units"


def build_report(folder: str | Path) -> Path:
    """Write report.html in a run folder from its report.json, tables, figures, views and config.

    The page carries all it shows and loads nothing. It runs no script, unless a study kept views
    to point at (``mechprobe.show.kept_view``); those share one copy of circuitsvis.

    Raises:
        InputError: the folder holds no finished run, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    content = read_content(folder)
    panels: dict[str, Panel] = {}
    parts = [
        Part("verdicts", "Verdicts", _verdicts(content, folder)),
        *(
            Part(f"section-{i}", section.title, _section(folder, section, panels))
            for i, section in enumerate(content.sections, start=1)
        ),
        *([Part("notes", "Notes", _bullets(content.notes))] if content.notes else []),
        Part("reproduce", "How to reproduce", _reproduce(folder, content, config)),
    ]
    head = (
        element("h1", text(content.title))
        + element("p", prose(content.question), class_="question") + verdict_counts(content)
    )
    footer = "Made by mechprobe. The files named here lie beside this one."
    page = document(content.title, head, parts, footer, panels)
    return atomic_write(folder / NAME, page.encode())


def _verdicts(content: Content, folder: Path) -> str:
    summary = join(element("p", prose(line)) for line in content.summary)
    told = element(
        "p", f"The words and numbers of this section stand in {_file(FILE)}.", class_="source",
    )
    claims = join(_claim(claim, folder) for claim in content.claims)
    return element("div", summary, class_="summary") + claims + told


def _claim(claim: Claim, folder: Path) -> str:
    facts = join(
        element("div", element("dt", name) + element("dd", prose(value)))
        for name, value in (("This run", claim.numbers), ("Paper", claim.paper)) if value
    )
    inner = badge(claim.verdict) + element("h3", prose(claim.claim)) + element("dl", facts)
    inner += claim_files(claim, folder, folder)
    return element("article", inner, class_=f"claim {BADGES[claim.verdict][0]}")


def claim_files(claim: Claim, folder: Path, beside: Path) -> str:
    """Links from a page in the folder ``beside`` to the files a claim's numbers come from."""
    if not claim.files:
        return ""
    links = ", ".join(source(file, inside(folder, file), beside) for file in claim.files)
    return element("p", f"Numbers from {links}", class_="source")


def _section(folder: Path, section: Section, panels: dict[str, Panel]) -> str:
    """A section's HTML; panels of its views are added to ``panels``."""
    paragraphs = join(element("p", prose(line)) for line in section.text)
    pictures = join(
        figure(inside(folder, picture_file(shown.file)), shown, folder)
        for shown in section.figures
    )
    views = ""
    for shown in section.views:
        views += element("h3", prose(shown.caption))
        views += element("p", _file(shown.file), class_="source")
        for panel in read_view(inside(folder, shown.file)).panels:
            name = f"panel-{len(panels)}"
            panels[name] = panel
            views += element("div", panel_section(name, panel, "h4"), class_="view")
    tables = join(table(inside(folder, shown.file), shown, folder) for shown in section.tables)
    gallery = element("div", pictures, class_="figures") if pictures else ""
    return paragraphs + gallery + views + tables


def _file(rel: str) -> str:
    return source(rel, Path(rel), Path())


def _bullets(lines: Iterable[str]) -> str:
    return element("ul", join(element("li", prose(line)) for line in lines))


def _reproduce(folder: Path, content: Content, config: Mapping[str, Any]) -> str:
    environment = dict(config["environment"])
    versions = environment.pop("versions", {})
    command = element("pre", element("code", text(content.command))) if content.command else ""
    said = (
        "The same command with the same settings and versions gives the same numbers; stopped "
        "half-way, it goes on where it was."
    )
    resumed = [
        ", ".join(f"{key}: {old} → {new}" for key, (old, new) in change.items())
        for change in config.get("resumed", [])
    ]
    return (
        (element("p", text(said)) + command if command else "")
        + (element("p", "Resumed with changes that may move numbers by rounding:")
           + _bullets(resumed) if resumed else "")
        + _pairs("Settings", CONFIG, config["settings"], opened=True)
        + _pairs("Machine and versions", CONFIG, {**environment, **versions}, opened=True)
        + _pairs("Time of each part, seconds", UNITS, unit_seconds(folder), opened=False)
    )


def unit_seconds(folder: Path) -> dict[str, float]:
    """Seconds that each finished unit took (its last attempt), in the order they finished."""
    kept = sorted((folder / UNITS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return {path.stem: read_json(path)["seconds"] for path in kept}


def _pairs(title: str, file: str, values: Mapping[str, Any], *, opened: bool) -> str:
    if not values:
        return ""
    rows = join(
        element("div", element("dt", text(str(key))) + element("dd", text(plain(value))))
        for key, value in values.items()
    )
    head = element("summary", text(title))
    inner = head + element("dl", rows, class_="pairs") + element("p", _file(file), class_="source")
    return element("details", inner, **({"open": ""} if opened else {}))


def plain(value: Any) -> str:
    """A setting as a reader writes it."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(plain, value)) or "none"
        case float():
            return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.12g}")
    return str(value)
