"""Sequence pairs: a source and a target of tokens for each example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.target import Tokens


@dataclass(frozen=True)
class SequencePairs:
    """Sources and targets of a sequence-to-sequence task.

    Attributes:
        source: the input of each example, word by word, with its prefix.
        target: the output of each example, token by token.
        group: sub-case of each example, such as ``subject`` or ``depth_3``.
        name: where the pairs come from, such as ``abstraction/mini:auxiliary:train``.
    """

    source: tuple[Tokens, ...]
    target: tuple[Tokens, ...]
    group: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        sizes = len(self.source), len(self.target), len(self.group)
        if len(set(sizes)) != 1:
            raise InputError(
                f"{self.name}: source, target and group have {sizes[0]}, {sizes[1]} and "
                f"{sizes[2]} rows; give one of each per example"
            )

    def __len__(self) -> int:
        return len(self.source)

    def source_text(self, index: int) -> str:
        """The source of one example, tokens joined by spaces."""
        return " ".join(self.source[index])

    def target_text(self, index: int) -> str:
        """The target of one example, tokens joined by spaces."""
        return " ".join(self.target[index])

    def source_types(self) -> set[str]:
        """The different tokens of all sources."""
        return {token for tokens in self.source for token in tokens}

    def target_types(self) -> set[str]:
        """The different tokens of all targets."""
        return {token for tokens in self.target for token in tokens}

    def longest(self) -> tuple[int, int]:
        """Tokens of the longest source (with its prefix) and of the longest target."""
        return max(map(len, self.source), default=0), max(map(len, self.target), default=0)

    def groups(self) -> list[str]:
        """Names of the sub-cases, in order of first appearance."""
        return list(dict.fromkeys(self.group))

    def take(self, indices: Sequence[int] | np.ndarray) -> SequencePairs:
        """The rows at ``indices`` (ints, or a boolean mask of length n), in that order."""
        rows = np.asarray(indices)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(
                    f"{self.name}: a mask of shape {rows.shape} cannot select from "
                    f"{len(self)} pairs; give one True or False per pair"
                )
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise InputError(
                f"{self.name}: rows {rows.min()} to {rows.max()} asked for; it has {len(self)}"
            )
        return SequencePairs(
            source=tuple(self.source[i] for i in rows),
            target=tuple(self.target[i] for i in rows),
            group=tuple(self.group[i] for i in rows),
            name=self.name,
        )

    def where_group(self, names: str | Iterable[str]) -> SequencePairs:
        """The rows of one or several sub-cases; raises InputError for a sub-case not here."""
        wanted = {names} if isinstance(names, str) else set(names)
        missing = wanted - set(self.group)
        if missing:
            raise InputError(
                f"{self.name}: no sub-case {', '.join(sorted(map(repr, missing)))}; "
                f"here: {', '.join(self.groups())}"
            )
        return self.take([i for i, group in enumerate(self.group) if group in wanted])

    def sample(self, n: int, seed: int = 0) -> SequencePairs:
        """At most ``n`` rows drawn without replacement, kept in their order.

        With one seed a smaller sample is part of every larger one.
        """
        if n < 0:
            raise InputError(f"{self.name}: cannot sample {n} pairs; give 0 or more")
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))

    @staticmethod
    def concat(parts: Sequence[SequencePairs], name: str | None = None) -> SequencePairs:
        """All rows of ``parts`` one after the other, under the first one's name by default."""
        if not parts:
            raise InputError("concat got no pairs; give at least one set")
        return SequencePairs(
            source=tuple(tokens for part in parts for tokens in part.source),
            target=tuple(tokens for part in parts for tokens in part.target),
            group=tuple(group for part in parts for group in part.group),
            name=parts[0].name if name is None else name,
        )
