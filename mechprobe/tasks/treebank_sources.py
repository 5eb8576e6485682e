"""Treebanks by name: local copies of UD English EWT and PUD, the hub, or any CoNLL-U file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.tasks.treebank import ROOT, Sentence, reaches_root, read_conllu

HUB = "universal-dependencies/universal_dependencies"
_NO_WORD = ("None", "_", None)  # heads of multiword tokens and empty nodes


@dataclass(frozen=True)
class Treebank:
    """Where the parts of a treebank lie.

    Attributes:
        files: by part, its file in a data folder, with or without the folder of its name.
        config: its name in the hub's universal_dependencies.
        splits: by part, its split there.
    """

    files: Mapping[str, str]
    config: str
    splits: Mapping[str, str]


TREEBANKS: dict[str, Treebank] = {
    "ewt": Treebank(
        {part: f"treebank/en_ewt-ud-{part}.conllu" for part in ("train", "dev", "test")},
        "en_ewt", {"train": "train", "dev": "validation", "test": "test"},
    ),
    "pud": Treebank({"test": "treebank/en_pud-ud-test.conllu"}, "en_pud", {"test": "test"}),
}
"""UD English EWT (CC BY-SA 4.0) and PUD (CC BY-SA 3.0)."""


def load_treebank(
    name: str, part: str = "train", *, data_dir: str | Path | None = None
) -> list[Sentence]:
    """A part of a treebank by name.

    Args:
        name: "ewt" (parts train, dev, test), "pud" (test), or the path of a CoNLL-U file, which
            is one part.
        data_dir: a folder with local copies (.conllu, .conllu.gz or .conllu.xz); None loads a
            named treebank from the hub.

    Raises:
        InputError: an unknown name or part, a file that is missing or malformed, or a hub that
            cannot be reached.
    """
    if name not in TREEBANKS:
        if not name.endswith((".conllu", ".gz", ".xz")):
            raise InputError(
                f"unknown treebank {name!r}; one of {', '.join(TREEBANKS)}, or the path of a "
                ".conllu, .gz or .xz file"
            )
        return read_conllu(name)
    treebank = TREEBANKS[name]
    if part not in treebank.files:
        raise InputError(f"{name} has no part {part!r}; it has {', '.join(treebank.files)}")
    if data_dir is None:
        return _from_hub(name, part)
    return read_conllu(find_treebank(name, part, data_dir))


def find_treebank(name: str, part: str, data_dir: str | Path) -> Path:
    """The file of a part of a named treebank in a folder.

    Raises:
        InputError: it is not there.
    """
    folder, file = Path(data_dir).expanduser(), Path(TREEBANKS[name].files[part])
    for place in (folder / file, folder / file.name):
        for packing in ("", ".xz", ".gz"):
            if (path := place.with_name(place.name + packing)).is_file():
                return path
    raise InputError(
        f"no file {file.name} (or .xz, .gz) in {folder} or {folder / file.parent}; put it there, "
        "or leave the data folder out to load it from the hub"
    )


def _from_hub(name: str, part: str) -> list[Sentence]:
    from datasets import load_dataset

    treebank = TREEBANKS[name]
    try:
        rows: Any = load_dataset(HUB, treebank.config, split=treebank.splits[part])
    except Exception as error:  # whatever the hub, the network or the cache raised
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"{HUB} {treebank.config} could not be loaded ({type(error).__name__} {reason[:120]}); "
            "check the network, or give a data folder with local copies"
        ) from error
    tags = getattr(getattr(rows.features.get("upos"), "feature", None), "names", None)
    return sentences_from_rows(rows, f"{HUB} {treebank.config}", tags=tags)


def sentences_from_rows(
    rows: Iterable[Mapping[str, Any]], source: str, *, tags: Sequence[str] | None = None
) -> list[Sentence]:
    """Sentences from rows of columns, as the hub's universal_dependencies has them.

    Args:
        rows: each with "tokens", "head" (numbers from 1 as text, "None" for a multiword token),
            "deprel", "upos" and maybe "idx".
        source: names the rows in errors.
        tags: names of "upos" where it is numbers.

    Raises:
        InputError: no rows, a missing column, columns of different lengths, or heads that are no
            tree; the row is named.
    """
    found = [_sentence(row, f"{source} row {i}", tags) for i, row in enumerate(rows)]
    if not found:
        raise InputError(f"{source} holds no sentence; give a treebank with at least one")
    return found


def _sentence(row: Mapping[str, Any], where: str, tags: Sequence[str] | None) -> Sentence:
    if missing := [key for key in ("tokens", "head", "deprel", "upos") if key not in row]:
        raise InputError(f"{where} lacks {missing[0]!r}; a treebank's rows have tokens, head, "
                         "deprel and upos")
    columns = [list(row[key]) for key in ("tokens", "head", "deprel", "upos")]
    if len({len(column) for column in columns}) > 1:
        raise InputError(f"{where}: its columns have {[len(c) for c in columns]} entries; expected "
                         "one a word in each")
    words = [entry for entry in zip(*columns, strict=True) if entry[1] not in _NO_WORD]
    heads = []
    for _, head, *_ in words:
        if not str(head).isdigit() or int(head) > len(words):
            raise InputError(f"{where}: head {head!r}; expected 0 (root) to {len(words)}")
        heads.append(int(head) - 1)
    if heads.count(ROOT) != 1 or not np.all(reaches_root(heads)):
        raise InputError(
            f"{where}: {heads.count(ROOT)} roots, or a cycle; a tree has one root that every word "
            "leads to"
        )
    return Sentence(
        words=tuple(str(word) for word, *_ in words),
        heads=tuple(heads),
        deprel=tuple(str(relation) for _, _, relation, _ in words),
        upos=tuple(str(tag if tags is None or isinstance(tag, str) else tags[tag])
                   for *_, tag in words),
        name=str(row.get("idx", "")),
    )
