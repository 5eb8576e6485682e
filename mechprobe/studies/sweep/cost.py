"""What a sweep would cost: its runs and units, and a dry run of every different kind of run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from mechprobe.studies import Study
from mechprobe.studies.sweep.grid import Job

_TOTAL = re.compile(r"^total\b.*?(\d[\d,]*\.\d+)(?: h\b.*)?$", re.MULTILINE)


def dry_run(
    study: Study, jobs: Sequence[tuple[Job, Any]], workers: int, part: tuple[int, int] | None = None
) -> str:
    """Runs, units, forwards, memory and hours of a sweep; runs that differ by seed cost the same.

    Args:
        jobs: the runs, and beside each the settings that its cost is told by.
        part: (i, n) for shares.

    Returns:
        The dry run of each kind of run, then the sum, and the hours that so many workers need if
        the work is even.
    """
    kinds: dict[Any, list[Job]] = {}
    for job, settings in jobs:
        kinds.setdefault(dataclasses.replace(settings, seed=0), []).append(job)
    lines, whole, n_units = [], 0.0, 0
    for settings, alike in kinds.items():
        n, units, text = len(alike), len(study.units(settings)), study.dry_run(settings)
        n_units += n * units
        whole += n * total_hours(text)
        lines += [f"{n} {'run' if n == 1 else 'runs'} of {units} units, such as {alike[0].name}:",
                  text, ""]
    shares = 1 if part is None else part[1]
    lines.append(
        f"sweep of {study.name}: {len(jobs)} runs, {n_units} units, {whole:.2f} h of work; about "
        f"{whole / (workers * shares):.2f} h with {workers} workers"
        + (f" in each of {shares} shares" if shares > 1 else "")
        + "; every worker needs the memory of one run"
    )
    return "\n".join(lines)


def total_hours(text: str) -> float:
    """The hours in the line "total" that ends the table of work of a study's dry run."""
    found = _TOTAL.search(text)
    if found is None:
        raise ValueError(f"a dry run without a line of total hours: {text!r}")
    return float(found[1].replace(",", ""))
