"""A parallel corpus of the user's as sequence pairs: one sentence a line in each of two files.

An et al. (2023) also probe with natural language (Europarl); no claim of the study here rests on
such data.
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.pairs import SequencePairs

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def load_parallel(
    source: str | Path, target: str | Path, *, prefix: str = "", group: str = "corpus"
) -> SequencePairs:
    """Line i of ``source`` with line i of ``target``, split at spaces.

    Args:
        source, target: UTF-8 text files, plain, ``.gz`` or ``.xz``.
        prefix: put before every source, such as ``Form one:``.
        group: the sub-case of every pair.

    Raises:
        InputError: a file that cannot be read, files of different length or without lines, or an
            empty line, by its number.
    """
    sides = [_lines(Path(source)), _lines(Path(target))]
    if len(sides[0]) != len(sides[1]) or not sides[0]:
        raise InputError(
            f"{Path(source).name} has {len(sides[0])} lines, {Path(target).name} {len(sides[1])}; "
            "give as many of each, and at least one"
        )
    first = tuple(prefix.split())
    return SequencePairs(
        source=tuple((*first, *line) for line in sides[0]), target=tuple(sides[1]),
        group=(group,) * len(sides[0]), name=f"{Path(source).name}, {Path(target).name}",
    )


def _lines(path: Path) -> list[tuple[str, ...]]:
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            lines = [tuple(str(line).split()) for line in file]
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {path} ({str(error).splitlines()[0]}); give a UTF-8 text file, plain, "
            ".gz or .xz"
        ) from None
    if () in lines:
        raise InputError(
            f"{path.name} line {lines.index(()) + 1} is empty; remove it from both files"
        )
    return lines
