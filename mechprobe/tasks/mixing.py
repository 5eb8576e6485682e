"""Splits of a file-based card: each is put together from parts of the card's sources."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.tasks.examples import PairExamples
from mechprobe.tasks.files import Row
from mechprobe.tasks.sources import check_source, read_source


def mix_splits(
    card: dict[str, Any], data_dir: Path | None, seed: int, asked: Collection[str] = ()
) -> dict[str, PairExamples]:
    """The splits of a file-based card, the same for the same files, settings and seed.

    ``ood`` and ``dev`` are drawn first; a pair that is in one of them never comes into ``train``.
    ``mask`` is the training split unless the card says otherwise. How many rows were read, kept
    and held out is noted under ``card["counts"]``.

    Warns where a tenth or more of a part's rows are held out, and where there are fewer rows than a
    setting of ``asked`` asks for.

    Raises:
        InputError: a split without rows that was asked for some.
    """
    sources: dict[str, list[Row]] = {}
    used = _sources_of(card)
    for name in used:
        check_source(card, name, data_dir)
    for name in used:
        sources[name] = read_source(card, name, data_dir)
    counts: dict[str, Any] = {"read": {name: len(rows) for name, rows in sources.items()}}
    held_out: dict[tuple[str, str], str] = {}
    splits: dict[str, PairExamples] = {}
    for split in sorted(card["splits"], key=("ood", "dev").__contains__, reverse=True):
        rows: list[Row] = []
        for i, part in enumerate(card["splits"][split]):
            rng = np.random.default_rng([seed, _number(split), i])
            found = _part(card, split, part, sources, held_out, rng, counts)
            _warn_few(card, split, part, found, asked)
            rows += found
        _refuse_empty(card, split, rows, counts)
        if split in ("ood", "dev"):
            held_out |= {_key(card, row): split for row in rows}
        else:
            order = np.random.default_rng([seed, _number(split)]).permutation(len(rows))
            rows = [rows[i] for i in order]
        splits[split] = _examples(card, split, rows)
    counts["splits"] = {split: len(examples) for split, examples in splits.items()}
    card["counts"] = counts
    return {"mask": splits["train"], **splits}


def _number(split: str) -> int:
    return int.from_bytes(split.encode()[:8], "big")


def _key(card: Mapping[str, Any], row: Row) -> tuple[str, str]:
    if card.get("symmetric", False) and row.second < row.first:
        return row.second, row.first
    return row.first, row.second


def _sources_of(card: Mapping[str, Any]) -> list[str]:
    """Names of the sources that the splits use, with the splits' own tables checked."""
    used: dict[str, None] = {}
    for split, parts in card["splits"].items():
        for part in parts:
            if "source" not in part:
                raise InputError(
                    f"card {card['name']}: a part of split {split!r} has no source; name one of "
                    f"{', '.join(card['sources'])}"
                )
            names = part["source"] if isinstance(part["source"], list) else [part["source"]]
            for name in names:
                if name not in card["sources"]:
                    raise InputError(
                        f"card {card['name']}: split {split!r} uses source {name!r}; the card has "
                        f"{', '.join(card['sources'])}"
                    )
                share = _setting(card, part.get("share", 1.0))
                if share > 0:
                    used[name] = None
    if "train" not in card["splits"]:
        raise InputError(f"card {card['name']} has no [[splits.train]]; add it to the card")
    return list(used)


def _setting(card: Mapping[str, Any], value: Any) -> Any:
    """A number as it stands, or the value of the setting that a text names."""
    if not isinstance(value, str):
        return value
    if value not in card["settings"]:
        raise InputError(
            f"card {card['name']} refers to a setting {value!r} that [settings] lacks; add it"
        )
    return card["settings"][value]


def _part(
    card: Mapping[str, Any],
    split: str,
    part: Mapping[str, Any],
    sources: Mapping[str, Sequence[Row]],
    held_out: Mapping[tuple[str, str], str],
    rng: np.random.Generator,
    counts: dict[str, Any],
) -> list[Row]:
    names = part["source"] if isinstance(part["source"], list) else [part["source"]]
    rows = [row for name in names for row in sources.get(name, ())]
    wanted = _setting(card, part.get("groups", []))
    rows = _of_groups(card, rows, wanted, names) if wanted else rows
    if split not in ("ood", "dev"):
        held = [held_out.get(_key(card, row)) for row in rows]
        n_held, before = len(rows) - held.count(None), len(rows)
        removed = counts.setdefault("held_out_rows_removed", {})
        removed[split] = removed.get(split, 0) + n_held
        rows = [row for row, where in zip(rows, held, strict=True) if where is None]
        if n_held and 10 * n_held >= before:
            where = " or ".join(sorted({where for where in held if where is not None}))
            warnings.warn(
                f"card {card['name']}: {n_held} of {before} {split} rows are also in {where}; "
                "dropped",
                stacklevel=5,
            )
    share = _setting(card, part.get("share", 1.0))
    if not 0 <= share <= 1:
        raise InputError(
            f"card {card['name']}: {part['share']}={share} is no share; expected 0 to 1"
        )
    kept = rng.permutation(len(rows))
    if share < 1 or "take_per_group" in part:
        limit = _setting(card, part.get("take_per_group", len(rows)))
        kept = _per_group(rows, kept, share, limit)
    kept = kept[: _setting(card, part.get("take", len(rows)))]
    if split in ("ood", "dev"):
        kept = np.sort(kept)
    relabel = part.get("relabel", {})
    return [
        Row(r.first, r.second, relabel.get(r.label, r.label), r.group, r.where)
        for r in (rows[i] for i in kept)
    ]


def _warn_few(
    card: Mapping[str, Any], split: str, part: Mapping[str, Any], rows: Sequence[Row],
    asked: Collection[str],
) -> None:
    """Warn where there are fewer rows than a setting asks for, in all or of a sub-case."""
    take, each = part.get("take"), part.get("take_per_group")
    said = ""
    if isinstance(take, str) and take in asked and len(rows) < (n := card["settings"][take]):
        said = f"{take}={n} asks for more {split} rows than there are; took all {len(rows)}"
    if isinstance(each, str) and each in asked and rows:
        names = [row.group for row in rows]
        least = min(sorted(set(names)), key=names.count)
        if names.count(least) < (n := card["settings"][each]):
            said = (
                f"{each}={n} asks for more {split} rows of a sub-case than there are; took all "
                f"{names.count(least)} of {least!r}"
            )
    if said and _setting(card, part.get("share", 1.0)) == 1:
        warnings.warn(f"card {card['name']}: {said}", stacklevel=5)


def _refuse_empty(
    card: Mapping[str, Any], split: str, rows: Sequence[Row], counts: Mapping[str, Any]
) -> None:
    """Refuse a split without rows, unless its settings ask for none."""
    asked = any(
        all(_setting(card, part.get(key, 1)) for key in ("take", "take_per_group", "share"))
        for part in card["splits"][split]
    )
    if rows or not asked:
        return
    held = counts.get("held_out_rows_removed", {}).get(split, 0)
    reason = f": all of its {held} rows are held out for dev or ood" if held else ""
    raise InputError(
        f"card {card['name']}: split {split!r} is empty{reason}; give it "
        f"{'other rows, or make those smaller' if held else 'a source with rows'}"
    )


def _of_groups(
    card: Mapping[str, Any], rows: Sequence[Row], wanted: Sequence[str], names: Sequence[str]
) -> list[Row]:
    known = sorted({row.group for row in rows})
    for name in wanted:
        if rows and name not in known:
            raise InputError(
                f"card {card['name']}: no sub-case {name!r} in {', '.join(names)}; there are "
                f"{', '.join(known)}"
            )
    return [row for row in rows if row.group in wanted]


def _per_group(rows: Sequence[Row], order: np.ndarray, share: float, limit: int) -> np.ndarray:
    """The first ``share`` of each sub-case's rows in ``order``, at most ``limit`` of each.

    A larger share contains the rows of a smaller one.
    """
    of_group: dict[str, list[int]] = {}
    for i in order:
        of_group.setdefault(rows[i].group, []).append(i)
    kept = [
        i
        for _, members in sorted(of_group.items())
        for i in members[: min(limit, round(share * len(members)))]
    ]
    return np.array(kept, dtype=np.int64)


def _examples(card: Mapping[str, Any], split: str, rows: Sequence[Row]) -> PairExamples:
    found = {row.label for row in rows}
    labels = tuple(card["labels"])
    if not found <= set(labels):
        if split == "train":
            extra = sorted(found - set(labels))
            raise InputError(
                f"card {card['name']}: training rows have the label {extra[0]!r}, which is not "
                f"one of {', '.join(labels)}; add a relabel to that part of [[splits.train]]"
            )
        labels = tuple(label for label in labels if label in found)
        labels += tuple(sorted(found - set(labels)))
    index = {label: i for i, label in enumerate(labels)}
    return PairExamples(
        first=tuple(row.first for row in rows),
        second=tuple(row.second for row in rows),
        label=np.array([index[row.label] for row in rows], dtype=np.int64),
        labels=labels,
        group=tuple(row.group for row in rows),
        name=f"{card['name']}:{split}",
    )
