"""The small record of a run that is kept with the code: summary, settings, tables, pictures."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs import atomic_write, read_config
from mechprobe.runs.files import unreadable
from mechprobe.show.cells import shown_table
from mechprobe.show.content import Content, Section, inside, picture_file, read_content

NAME = "summary.md"
MOST_ROWS = 40
_ABSOLUTE = re.compile(
    r"(?<![\w.:/~-])(?:[A-Za-z]:(?:\\[\w.+@-]+)*\\|(?:/[\w.+@-]+)+/)([\w.+@-]+)"
)


def write_summary(folder: str | Path, target: str | Path) -> Path:
    """Copy the record of a finished run to ``target`` and return its summary.md.

    summary.md (verdicts, tables, settings, versions), config.json, the CSV of each table shown and
    the PNG of each figure shown. Absolute paths lose all but their last part.

    Raises:
        InputError: the run is not finished or a file of it is missing; ``target`` holds something
            else or cannot be written.
    """
    folder, target = Path(folder), Path(target)
    config, content = read_config(folder), read_content(folder)
    check_target(target)
    kept = {"config.json": _read(folder / "config.json")}
    for section in content.sections:
        for shown in section.tables:
            kept[shown.file] = _read(inside(folder, shown.file))
        for shown in section.figures:
            rel = picture_file(shown.file)
            kept[rel] = _read(inside(folder, rel))
    kept[NAME] = markdown(folder, content, config).encode()
    for rel, data in kept.items():
        atomic_write(target / rel, data)
    for old in (*target.glob("tables/*.csv"), *target.glob("figures/*.png")):
        if old.relative_to(target).as_posix() not in kept:
            old.unlink()
    return target / NAME


def check_target(target: Path) -> None:
    """Make the folder of a record; raise InputError when it cannot be, or holds something else."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in target.iterdir())
    except OSError as error:
        raise InputError(
            f"cannot make the folder {target} ({error.strerror}); give a folder that can be written"
        ) from None
    if found and NAME not in found:
        raise InputError(f"{target} holds {found[0]!r} and no {NAME}; give a new or empty folder")


def markdown(folder: Path, content: Content, config: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in content.verdicts() if n)
    parts = [
        f"# {_line(content.title)}", _line(content.question),
        *(f"- {_line(text)}" for text in content.summary),
        f"## Verdicts: {counts or 'none'}",
        _grid(
            ["Verdict", "Claim", "This run", "Paper"],
            [[f"**{c.verdict}**", c.claim, c.numbers, c.paper] for c in content.claims],
        ),
        *(part for section in content.sections for part in _section(folder, section)),
        *(["## Notes", *(f"- {_line(note)}" for note in content.notes)] if content.notes else []),
        "## How to reproduce",
        *([f"```sh\n{command_without_places(content.command)}\n```"] if content.command else []),
        f"```json\n{json.dumps(config, indent=1, ensure_ascii=False)}\n```",
    ]
    blocks = "\n\n".join(parts)
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", blocks) + "\n"


def without_places(text: str) -> str:
    """Text in which an absolute path is only its last part: /home/me/data -> .../data."""
    return _ABSOLUTE.sub(r".../\1", text)


def command_without_places(command: str) -> str:
    """A command line whose absolute paths are only their last parts."""
    try:
        words = shlex.split(command)
    except ValueError:
        return without_places(command)
    short = [re.sub(r"(^|=)/.*?([^/]+)/?$", r"\1.../\2", word) for word in words]
    return shlex.join(short)


def _section(folder: Path, section: Section) -> Iterable[str]:
    yield f"## {_line(section.title)}"
    yield from map(_line, section.text)
    for shown in section.figures:
        yield f"![{_line(shown.caption)}]({picture_file(shown.file)})"
        yield f"*{_line(shown.caption)}*"
    for shown in section.tables:
        names, rows, numeric, n_rows = shown_table(inside(folder, shown.file), MOST_ROWS)
        more = f" (first {len(rows)} of {n_rows} rows)" if n_rows > len(rows) else ""
        yield f"**{_line(shown.caption)}**{more}, [{shown.file}]({shown.file})"
        yield _grid(names, rows, numeric)


def _grid(
    names: list[str], rows: list[list[str]], numeric: list[bool] | None = None
) -> str:
    marks = ["---:" if number else "---" for number in numeric or [False] * len(names)]
    lines = [names, marks, *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: str) -> str:
    return _line(value).replace("|", "\\|")


def _line(value: str) -> str:
    """One line of Markdown in which data cannot become HTML."""
    return without_places(" ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
