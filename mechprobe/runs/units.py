"""A study as pieces of work that can be listed, shared out and done one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mechprobe.runs.crew import at_unit
from mechprobe.runs.progress import progress
from mechprobe.runs.run import Run


@dataclass(frozen=True)
class Unit:
    """A piece of work: its result depends on the settings and on what it needs, on nothing else.

    Attributes:
        name: of its result, unique in the run.
        compute: gives the result, a JSON value, and writes files through the run; it is given what
            the study has open: settings, data, the run.
        needs: names of the units whose results or files it reads.
    """

    name: str
    compute: Callable[[Any], dict]
    needs: tuple[str, ...] = ()


def complete(run: Run, units: Sequence[Unit], at: Any) -> None:
    """Compute every unit that is not finished, in order, with what the study has open."""
    for unit in progress(units, "units", unit="unit"):
        with at_unit(unit.name):
            run.unit(unit.name, lambda unit=unit: unit.compute(at))


def with_needs(units: Sequence[Unit], name: str) -> list[Unit]:
    """A unit and all that it needs, in the order of ``units``.

    Raises:
        KeyError: there is no such unit.
    """
    by_name = {unit.name: unit for unit in units}
    wanted, left = set[str](), [name]
    while left:
        if (now := left.pop()) not in wanted:
            wanted.add(now)
            left += by_name[now].needs
    return [unit for unit in units if unit.name in wanted]
