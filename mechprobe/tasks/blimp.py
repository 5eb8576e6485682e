"""BLiMP and files in its format: minimal pairs as JSON lines, from a local path or the hub.

Source of the data: Warstadt et al. 2020, BLiMP, TACL 8.
"""

from __future__ import annotations

import difflib
import gzip
import json
import lzma
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.minimal_pairs import MinimalPairs, Paradigm

HUB = "nyu-mll/blimp"
ARCHIVE = "blimp_jsonl_67.tar.xz"
REQUIRED = ("sentence_good", "sentence_bad", "field", "linguistics_term", "UID", "pairID")
NAMES = ("field", "linguistics_term", "UID")
OPTIONAL = (
    "simple_LM_method", "one_prefix_method", "two_prefix_method", "lexically_identical",
    "one_prefix_prefix", "one_prefix_word_good", "one_prefix_word_bad", "two_prefix_prefix_good",
    "two_prefix_prefix_bad", "two_prefix_word",
    "dependency_length", "crucial_item",
)
TERMS = {"s-selection": "argument_structure"}
"""Names of phenomena in the files that the BLiMP paper counts under another one."""

FLAWED = frozenset({
    ("passive_1", 324), ("passive_1", 810), ("principle_A_case_2", 105),
    ("principle_A_case_2", 287), ("principle_A_case_2", 372), ("principle_A_case_2", 816),
    ("principle_A_case_2", 967),
})
"""Paradigm and number of the seven published pairs whose two sentences are the same."""

Line = tuple[str, str]
"""Where a line stands (file and number), and its text."""


def load_blimp(
    source: str | Path = HUB, *, paradigms: Sequence[str] = (), as_in_paper: bool = True
) -> MinimalPairs:
    """Minimal pairs in BLiMP's format.

    Args:
        source: a .jsonl file, a folder of them, a .tar(.xz, .gz) of them, a folder that holds
            ``blimp/blimp_jsonl_67.tar.xz``, or the hub name ``nyu-mll/blimp``.
        paradigms: only these; all when empty.
        as_in_paper: count ``s-selection`` under argument structure, as the BLiMP paper does.

    Returns:
        Paradigms ordered by phenomenon, then name; the pairs of each by their number (pairID).
        Seven published pairs whose sentences are equal (``FLAWED``) are left out.

    Raises:
        InputError: nothing there, a line that is not JSON, a missing or unknown field, an empty
            sentence, two equal sentences, or a pair number twice; file and line are named.
    """
    local = isinstance(source, Path) or Path(source).expanduser().exists() or _is_path(source)
    place = Path(source).expanduser()
    lines = _local_lines(place) if local else _hub_lines(str(source), paradigms)
    found: dict[str, dict[int, tuple[dict[str, Any], str]]] = {}
    for where, text in lines:
        row = parse_line(text, where)
        rows = found.setdefault(row["UID"], {})
        number = _number(row, where)
        if row["sentence_good"].split() == row["sentence_bad"].split() and (
            (row["UID"], number) in FLAWED
        ):
            continue
        if number in rows:
            raise InputError(
                f"{where}: pairID {number} of {row['UID']} was at {rows[number][1]} already; "
                "give every pair its own"
            )
        rows[number] = (row, where)
    if not found:
        raise InputError(f"{source} holds no minimal pairs; give BLiMP's .jsonl files")
    made = [_paradigm(name, rows, as_in_paper) for name, rows in found.items()]
    made.sort(key=lambda p: (p.field, p.phenomenon, p.name))
    return MinimalPairs(place.name if local else str(source), tuple(made)).choose(paradigms)


def parse_line(text: str, where: str) -> dict[str, Any]:
    """One pair's fields, their names and types checked; raises InputError naming the place."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON ({error.msg}); give one object a line") from None
    if not isinstance(row, dict):
        raise InputError(f"{where} holds a {type(row).__name__}; give one JSON object a line")
    known = (*REQUIRED, *OPTIONAL)
    for name in row:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise InputError(f"{where}: unknown field {name!r}; nearest: {near}; mend or remove it")
    if missing := [name for name in REQUIRED if name not in row]:
        raise InputError(f"{where} lacks the field {missing[0]!r}; it needs {', '.join(REQUIRED)}")
    for name in REQUIRED[:-1]:
        if not isinstance(row[name], str):
            raise InputError(f"{where}: field {name!r} is {row[name]!r}; expected text")
        if name in NAMES and not row[name].strip():
            raise InputError(f"{where}: field {name!r} is empty; give it a name")
    return row


def load_reference(path: str | Path) -> dict[str, dict[str, float]]:
    """Published accuracies per model and paradigm, from BLiMP's models_summary.jsonl.

    Args:
        path: the file, or a folder that holds it (also under ``blimp/``).

    Raises:
        InputError: no such file, or a line that is not as expected; file and line are named.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        names = (path / "models_summary.jsonl", path / "blimp" / "models_summary.jsonl")
        path = next((p for p in names if p.is_file()), names[0])
    out: dict[str, dict[str, float]] = {}
    for where, text in _text_lines(path):
        try:
            row = json.loads(text)
            name = row.pop("UID")
            row.pop("linguistics_term", None)
            for model, value in row.items():
                out.setdefault(model, {})[name] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{where} is no line of reference accuracies ({error}); expected "
                '{"UID": ..., "gpt2": 0.9, ...}'
            ) from None
    return out


def _is_path(source: str) -> bool:
    """Whether a name that is not there cannot be one of the hub either, which reads owner/name."""
    endings = (".jsonl", ".xz", ".gz", ".tar", ".tgz")
    return source.count("/") != 1 or source.startswith((".", "/", "~")) or source.endswith(endings)


def _number(row: dict[str, Any], where: str) -> int:
    found = row["pairID"]
    if type(found) is int:
        return found
    if isinstance(found, str) and found.strip().isdecimal():
        return int(found)
    raise InputError(f"{where}: pairID is {found!r}; expected a whole number, 0 or more")


def _paradigm(
    name: str, rows: dict[int, tuple[dict[str, Any], str]], as_in_paper: bool
) -> Paradigm:
    ordered = [rows[number] for number in sorted(rows)]
    (first, there), *_ = ordered
    field, term = str(first["field"]), str(first["linguistics_term"])
    for row, where in ordered:
        if (other := (row["field"], row["linguistics_term"])) != (field, term):
            raise InputError(
                f"{where}: paradigm {name} is {'/'.join(other)} here and {field}/{term} at {there};"
                " give each its own UID"
            )
    return Paradigm(
        name=name,
        phenomenon=TERMS.get(term, term) if as_in_paper else term,
        field=field.replace("/", "_"),
        good=tuple(row["sentence_good"] for row, _ in ordered),
        bad=tuple(row["sentence_bad"] for row, _ in ordered),
        where=tuple(where for _, where in ordered),
    )


def _local_lines(path: Path) -> Iterator[Line]:
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        inside = (path / ARCHIVE, path / "blimp" / ARCHIVE, path / "blimp")
        if not files:
            other = next((p for p in inside if p.exists()), None)
            if other is None:
                raise InputError(f"{path} holds no .jsonl file and no {ARCHIVE}; give BLiMP's own")
            yield from _local_lines(other)
            return
        for file in files:
            yield from _text_lines(file)
    elif ".tar" in path.suffixes[-2:] or path.suffix == ".tgz":
        yield from _archive_lines(path)
    else:
        yield from _text_lines(path)


def _text_lines(path: Path) -> Iterator[Line]:
    opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            yield from _numbered(path.name, file)
    except FileNotFoundError:
        raise InputError(f"no file {path}; give the path of BLiMP's files") from None
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch it again") from None


def _archive_lines(path: Path) -> Iterator[Line]:
    try:
        with tarfile.open(path) as archive:
            members = [m for m in archive if m.isfile() and m.name.endswith(".jsonl")]
            for member in sorted(members, key=lambda m: m.name):
                content = archive.extractfile(member)
                assert content is not None
                text = content.read().decode("utf-8")
                yield from _numbered(f"{path.name}:{Path(member.name).name}", text.splitlines())
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch it again") from None


def _numbered(name: str, lines: Iterable[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{name} line {number}", line


def _hub_lines(name: str, paradigms: Sequence[str]) -> Iterator[Line]:
    from datasets import get_dataset_config_names, load_dataset

    address = name
    try:
        for paradigm in paradigms or get_dataset_config_names(name):
            address = f"{name} {paradigm}"
            for number, row in enumerate(load_dataset(name, paradigm, split="train"), 1):
                fields = {("pairID" if k == "pair_id" else k): v for k, v in dict(row).items()}
                yield f"{address} row {number}", json.dumps(fields)
    except InputError:
        raise
    except Exception as error:  # whatever the hub, the network or the cache raised
        reason = (str(error).strip().splitlines() or [""])[0][:150]
        raise InputError(
            f"{address} could not be loaded from the hub ({type(error).__name__} {reason}); check "
            "the network, or give the path of a local copy"
        ) from None
