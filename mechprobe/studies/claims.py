"""Claims of a study: a verdict, this run's numbers, and what the paper reported."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

HELD, FAILED, UNTESTED = "held", "did not hold", "not testable here"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the verdict here, the numbers behind it, the paper's."""

    claim: str
    verdict: str
    numbers: str
    paper: str

    def as_dict(self) -> dict[str, str]:
        """Plain strings, for the report."""
        return dict(self.__dict__)


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
