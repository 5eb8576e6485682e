"""Claims of a study: a verdict, this run's numbers, and what the paper reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

HELD, FAILED, UNTESTED = "held", "did not hold", "not testable here"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the verdict here, the numbers behind it, the paper's.

    Attributes:
        files: tables of the run that the numbers stand in or are made from.
    """

    claim: str
    verdict: str
    numbers: str
    paper: str
    files: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, str | list[str]]:
        """Plain values, for the report."""
        return {**self.__dict__, "files": list(self.files)}


def traced(
    claims: Iterable[Claim], sources: Mapping[str, Sequence[str]], folder: Path
) -> list[Claim]:
    """The claims with those tables of a run that their numbers come from.

    Args:
        sources: by how a claim begins, names under ``tables/`` without ".csv"; ``*`` stands for
            anything. What the run does not have is left out.
    """
    return [replace(claim, files=_files(claim.claim, sources, folder)) for claim in claims]


def _files(words: str, sources: Mapping[str, Sequence[str]], folder: Path) -> tuple[str, ...]:
    patterns = next((names for start, names in sources.items() if words.startswith(start)), ())
    found = [path for name in patterns for path in sorted(folder.glob(f"tables/{name}.csv"))]
    return tuple(dict.fromkeys(path.relative_to(folder).as_posix() for path in found))


def percent(value: float) -> str:
    """A share as percent with one decimal."""
    return f"{100 * value:.1f}"


def p_value(p: float) -> str:
    """A p-value as people print it."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"


def judge(held: bool | np.bool_, smallest_p: float = 0.0, level: float = 1.0) -> str:
    """The verdict's words; not testable where no outcome could give a p below the level."""
    if smallest_p >= level:
        return UNTESTED
    return HELD if held else FAILED


def replace_verdict(claim: Claim, verdict: str, because: str) -> Claim:
    """The claim with another verdict, and why, before its numbers."""
    return replace(claim, verdict=verdict, numbers=because + claim.numbers)
