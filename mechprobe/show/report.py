"""The report of a run: one HTML file that opens anywhere, verdicts first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from mechprobe.runs import atomic_write, read_config
from mechprobe.runs.files import read_json
from mechprobe.show.content import Claim, Content, Section, inside, picture_file, read_content
from mechprobe.show.page import element, figure, join, prose, table, text
from mechprobe.show.record import write_summary

__all__ = ["build_report", "write_summary"]

NAME = "report.html"
BADGES = {
    "held": ("held", "✓"), "did not hold": ("failed", "✗"), "not testable here": ("untested", "–"),
}
ASIDE = {"held": "held", "did not hold": "did not hold", "not testable here": "not testable"}


def build_report(folder: str | Path) -> Path:
    """Write report.html in a run folder from its report.json, tables, figures and config.

    The page carries its pictures and style, loads nothing and runs no script.

    Raises:
        InputError: the folder holds no finished run, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    content = read_content(folder)
    sections = [
        ("verdicts", "Verdicts", _verdicts(content)),
        *(
            (f"section-{i}", section.title, _section(folder, section))
            for i, section in enumerate(content.sections, start=1)
        ),
        *([("notes", "Notes", _bullets(content.notes))] if content.notes else []),
        ("reproduce", "How to reproduce", _reproduce(folder, content, config)),
    ]
    page = _page(content, sections)
    return atomic_write(folder / NAME, page.encode())


def _page(content: Content, sections: list[tuple[str, str, str]]) -> str:
    style = files("mechprobe.show").joinpath("report.css").read_text(encoding="utf-8")
    links = join(element("a", text(title), href=f"#{name}") for name, title, _ in sections)
    body = join(
        element("section", element("h2", text(title)) + inner, id=name)
        for name, title, inner in sections
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{text(content.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + element("header", _head(content))
        + '<div class="columns">\n'
        + element("nav", element("strong", "Contents") + links, aria_label="Contents")
        + element("main", body)
        + "</div>\n"
        + element("footer", "Made by mechprobe. The tables and figures lie beside this file.")
        + "</body>\n</html>\n"
    )


def _head(content: Content) -> str:
    counts = join(
        element(
            "div", element("b", str(count)) + element("span", ASIDE[verdict]),
            class_=f"count {BADGES[verdict][0]}" + ("" if count else " none"),
        )
        for verdict, count in content.verdicts()
    )
    return (
        element("h1", text(content.title))
        + element("p", prose(content.question), class_="question")
        + element("div", counts, class_="counts")
    )


def _verdicts(content: Content) -> str:
    summary = join(element("p", prose(line)) for line in content.summary)
    return element("div", summary, class_="summary") + join(map(_claim, content.claims))


def _claim(claim: Claim) -> str:
    kind, sign = BADGES[claim.verdict]
    badge = element("span", f'<i aria-hidden="true">{sign}</i> {text(claim.verdict)}',
                    class_=f"badge {kind}")
    facts = join(
        element("div", element("dt", name) + element("dd", prose(value)))
        for name, value in (("This run", claim.numbers), ("Paper", claim.paper)) if value
    )
    inner = badge + element("h3", prose(claim.claim)) + element("dl", facts)
    return element("article", inner, class_=f"claim {kind}")


def _section(folder: Path, section: Section) -> str:
    paragraphs = join(element("p", prose(line)) for line in section.text)
    pictures = join(
        figure(inside(folder, picture_file(shown.file)), folder, shown)
        for shown in section.figures
    )
    tables = join(table(inside(folder, shown.file), shown) for shown in section.tables)
    return paragraphs + (element("div", pictures, class_="figures") if pictures else "") + tables


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
        + _pairs("Settings", config["settings"], opened=True)
        + _pairs("Machine and versions", {**environment, **versions}, opened=True)
        + _pairs("Time of each part, seconds", unit_seconds(folder), opened=False)
    )


def unit_seconds(folder: Path) -> dict[str, float]:
    """Seconds that each finished unit took (its last attempt), in the order they finished."""
    kept = sorted((folder / "units").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return {path.stem: read_json(path)["seconds"] for path in kept}


def _pairs(title: str, values: Mapping[str, Any], *, opened: bool) -> str:
    if not values:
        return ""
    rows = join(
        element("div", element("dt", text(str(key))) + element("dd", text(_plain(value))))
        for key, value in values.items()
    )
    inside_ = element("summary", text(title)) + element("dl", rows, class_="pairs")
    return element("details", inside_, **({"open": ""} if opened else {}))


def _plain(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_plain, value)) or "none"
        case float():
            return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.12g}")
    return str(value)
