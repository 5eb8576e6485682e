"""What a study tells its report: report.json, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs.files import read_json, unreadable

FILE = "report.json"
VERDICTS = ("held", "did not hold", "not testable here")


@dataclass(frozen=True)
class Claim:
    """A claim, its verdict in this run, the numbers behind it, and what the paper reported.

    Attributes:
        files: of the run, where the numbers come from.
    """

    claim: str
    verdict: str
    numbers: str
    paper: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A table (CSV), figure or view of a run: its path inside the run folder, and its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, figures, views to point at, and tables."""

    title: str
    text: tuple[str, ...]
    tables: tuple[Shown, ...]
    figures: tuple[Shown, ...]
    views: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Content:
    """Everything a report says that is not read from the run folder itself."""

    title: str
    question: str
    summary: tuple[str, ...]
    claims: tuple[Claim, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    command: str

    def verdicts(self) -> list[tuple[str, int]]:
        """Each verdict with how many claims got it."""
        return [(v, sum(claim.verdict == v for claim in self.claims)) for v in VERDICTS]


def read_content(folder: Path) -> Content:
    """The content of a run's report.

    Raises:
        InputError: there is no report.json yet, or it is damaged; the field is named.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            f"{folder} has no {FILE}: the run is not finished, or this is no run; run the study "
            "to its end (finished parts are not computed again)"
        )
    raw = read_json(path)
    try:
        return _content(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(path, ValueError(f"{type(error).__name__}: {error}")) from None


def inside(folder: Path, rel: str) -> Path:
    """A path of the run; raises InputError when it leads out of the run folder."""
    path = folder / rel
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / FILE} names a file outside the run folder: {rel!r}")
    return path


def picture_file(rel: str) -> str:
    """The PNG or SVG of a figure that is named so, by its PDF, or without an ending."""
    if rel.endswith((".png", ".svg")):
        return rel
    return rel.removesuffix(".pdf") + ".png"


def _content(raw: Mapping[str, Any]) -> Content:
    claims = tuple(map(_claim, raw["claims"]))
    for claim in claims:
        if claim.verdict not in VERDICTS:
            raise ValueError(f"verdict {claim.verdict!r} is none of {VERDICTS}")
    return Content(
        title=_text(raw["title"]),
        question=_text(raw["question"]),
        summary=_texts(raw["summary"]),
        claims=claims,
        sections=tuple(
            Section(
                _text(part["title"]), _texts(part.get("text", ())),
                *(_shown(part.get(kind, ())) for kind in ("tables", "figures", "views")),
            )
            for part in raw["sections"]
        ),
        notes=_texts(raw.get("notes", ())),
        command=_text(raw.get("command") or ""),
    )


def _claim(raw: Mapping[str, Any]) -> Claim:
    words = {key: _text(value) for key, value in raw.items() if key != "files"}
    return Claim(**words, files=_texts(raw.get("files", ())))


def _shown(items: Any) -> tuple[Shown, ...]:
    return tuple(Shown(_text(item["file"]), _text(item["caption"])) for item in items)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"a list of texts was expected, not {value[:40]!r}")
    return tuple(_text(item) for item in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {value!r}")
    return value
