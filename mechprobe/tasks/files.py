"""Labelled sentence pairs from TSV, CSV and JSON-lines files, plain, .gz or .xz."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_DELIMITERS = {".tsv": "\t", ".txt": "\t", ".csv": ","}
_JSON = (".jsonl", ".json")
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)

Fields = Mapping[str | int, Any]
"""One row: field by column name, or by number in a file without header."""


@dataclass(frozen=True)
class Row:
    """One labelled pair; ``where`` is file and line, for messages."""

    first: str
    second: str
    label: str
    group: str
    where: str


@dataclass(frozen=True)
class Columns:
    """What a card says about the columns of one source.

    Attributes:
        first, second, label: column names, or numbers (from 0) in a file without header.
        group: column with the sub-case, ``"label"`` for the label's own name, None for none.
        labels: value in the data to label name.
        drop: label values whose rows are left out.
        drop_empty: leave out rows with an empty sentence instead of refusing them.
        detokenize: undo Penn Treebank tokenisation (``do n't`` becomes ``don't``).
    """

    first: str | int
    second: str | int
    label: str | int
    group: str | int | None
    labels: Mapping[str, str]
    drop: tuple[str, ...] = ()
    drop_empty: bool = False
    detokenize: bool = False


def find_file(data_dir: Path, name: str, card: str, on_hub: bool = False) -> Path:
    """A card's file in ``data_dir``, with or without the folders of its name.

    With ``on_hub`` the error says that the card can be loaded without files, too.
    """
    if not data_dir.is_dir():
        raise InputError(f"card {card}: data_dir {data_dir} is no folder; give the data's folder")
    for path in (data_dir / name, data_dir / Path(name).name):
        if os.path.isfile(path):  # noqa: PTH113 - False, too, for a name the system refuses
            return path
    raise InputError(
        f"card {card}: no file {name} in {data_dir}; put it there"
        + (", or leave data_dir out to load from the hub" if on_hub else
           " (it has no public copy on the hub), or give the folder that holds it as data_dir")
    )


def read_fields(path: Path, quoting: str | None, header: bool) -> Iterator[tuple[int, Fields]]:
    """Line number and fields of each row.

    Args:
        path: .tsv, .txt, .csv, .jsonl or .json (one object a line), also .gz or .xz of these.
        quoting: ``"csv"`` where a field may stand in double quotes, ``"none"`` where a quote is an
            ordinary character; by default ``"csv"`` for .csv, else ``"none"``.
        header: whether the first line names the columns.

    Raises:
        InputError: a file that cannot be read, or rows with a wrong number of fields (how many,
            and the line of the first).
    """
    packing = path.suffix if path.suffix in _OPENERS else ""
    kind = Path(path.name.removesuffix(packing)).suffix
    if kind not in (*_DELIMITERS, *_JSON):
        raise InputError(
            f"{path.name}: cannot tell the format; expected .tsv, .txt, .csv, .jsonl or .json, "
            "also followed by .gz or .xz"
        )
    if quoting not in (None, "csv", "none"):
        raise InputError(f"{path.name}: quoting is {quoting!r}; expected 'csv' or 'none'")
    opener = _OPENERS.get(packing, open)
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            if kind in _JSON:
                yield from _json_rows(file, path.name)
            else:
                quoted = (quoting or ("csv" if kind == ".csv" else "none")) == "csv"
                rows = _rows(file, path.name, _DELIMITERS[kind], quoted)
                yield from _named(rows, path.name, header)
    except _UNREADABLE as error:
        raise InputError(
            f"{path.name} cannot be read ({error}); check that it is whole and UTF-8 text"
        ) from error


def _json_rows(file: Iterable[str], name: str) -> Iterator[tuple[int, Fields]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{name} line {number} is not JSON ({error.msg}); expected one object a line"
            ) from error
        if not isinstance(fields, dict):
            raise InputError(
                f"{name} line {number} holds a {type(fields).__name__}; expected one JSON object "
                "a line"
            )
        yield number, fields


def _rows(
    file: Iterable[str], name: str, delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    if not quoted:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    start = 1
    try:
        for fields in reader:
            if any("\n" in field for field in fields):
                raise InputError(
                    f"{name} line {start}: a quoted field runs on to line {reader.line_num}; close "
                    'the quote, or set quoting = "none" in the card if quotes are plain text'
                )
            yield reader.line_num, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f'{name} line {reader.line_num}: {error}; mend the quotes, or set quoting = "none" '
            "in the card if quotes are plain text"
        ) from error


def _named(
    rows: Iterator[tuple[int, list[str]]], name: str, header: bool
) -> Iterator[tuple[int, Fields]]:
    columns: list[Any] | None = None
    bad: list[tuple[int, int]] = []
    for number, fields in rows:
        if columns is None:
            columns = list(fields) if header else list(range(len(fields)))
            if header and not any(columns):
                raise InputError(f"{name} line {number} is empty; expected the columns' names")
            if header:
                columns[0] = columns[0].removeprefix("\ufeff")
                continue
        if len(fields) != len(columns):
            bad.append((number, len(fields)))
        elif not bad:
            yield number, dict(zip(columns, fields, strict=True))
    if columns is None:
        raise InputError(
            f"{name} is empty; expected a header line and rows"
            if header
            else f"{name} is empty; expected rows"
        )
    if bad:
        number, found = bad[0]
        raise InputError(
            f"{name} line {number}: {found} fields where {len(columns)} were expected "
            f"({len(bad)} such rows in the file); mend or remove them"
        )


def pick_columns(
    rows: Iterator[tuple[int, Fields]] | Sequence[tuple[int, Fields]],
    columns: Columns,
    source: str,
) -> list[Row]:
    """The pairs of a source; raises InputError for a missing column, label or sentence."""
    picked: list[Row] = []
    wanted = [columns.first, columns.second, columns.label]
    if columns.group not in (None, "label"):
        wanted.append(columns.group)
    for number, fields in rows:
        missing = [c for c in wanted if c not in fields]
        if missing:
            raise InputError(
                f"{source} has columns {', '.join(map(str, fields))}; the card expects "
                f"{', '.join(map(str, wanted))}; mend the file or the card's columns"
            )
        value = str(fields[columns.label]).strip()
        if value in columns.drop:
            continue
        if value not in columns.labels:
            raise InputError(
                f"{source} line {number}: label {value!r} is not in the card; it knows "
                f"{', '.join(columns.labels)}; add it to the card or mend the row"
            )
        first, second = (
            str(fields[c] if fields[c] is not None else "").strip()
            for c in (columns.first, columns.second)
        )
        if not (first and second):
            if columns.drop_empty:
                continue
            raise InputError(
                f"{source} line {number}: an empty sentence in column "
                f"{columns.second if first else columns.first!r}; fill it or remove the row"
            )
        if columns.detokenize:
            first, second = detokenize(first), detokenize(second)
        label = columns.labels[value]
        group = "" if columns.group is None else label
        if columns.group not in (None, "label"):
            group = str(fields[columns.group])
        picked.append(Row(first, second, label, group, f"{source} line {number}"))
    return picked


_PTB = (
    (re.compile(r"``\s?|\s?''"), '"'),
    (re.compile(r"-LRB-\s?"), "("),
    (re.compile(r"\s?-RRB-"), ")"),
    (re.compile(r" (n't|'(?:s|re|ve|ll|d|m))(?=\s|$)", re.IGNORECASE), r"\1"),
    (re.compile(r"(?<=[A-Za-z]) n 't\b"), "n't"),
    (re.compile(r" ([.,!?;:%)])"), r"\1"),
    (re.compile(r"\( "), "("),
)


def detokenize(text: str) -> str:
    """Text without the marks of Penn Treebank tokenisation.

    >>> detokenize("They do n't know , she 's late .")
    "They don't know, she's late."
    """
    for pattern, replacement in _PTB:
        text = pattern.sub(replacement, text)
    return text
