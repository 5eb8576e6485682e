"""The runs of a sweep: every combination of the values of some settings."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mechprobe.errors import InputError
from mechprobe.studies import Study, nearest

_PLAIN = re.compile(r"[\w.+=,@-]+")
_LONGEST = 100


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        values: the settings that tell it from the others.
        settings: all of them.
    """

    name: str
    values: dict[str, Any]
    settings: Any


def grid(
    study: Study, preset: str, axes: Mapping[str, Sequence[Any]], *, data_dir: str | None = None
) -> list[Job]:
    """A run for every combination of values; the last axis varies fastest.

    Args:
        axes: values by setting; a setting with one value is the same in all runs.
        data_dir: for runs that read files and name no folder of their own.

    Raises:
        InputError: a setting that the study has not, or one without values or with a value twice.
    """
    known = [field.name for field in fields(study.settings) if field.name != "preset"]
    for name, values in axes.items():
        if name not in known:
            raise InputError(f"{study.name} has no setting {name!r}; {nearest(name, known)}")
        if not values:
            raise InputError(f"no values for {name}; give one or more")
        if len(set(values)) < len(values):
            raise InputError(f"{name} has a value twice: {', '.join(map(str, values))}")
    varied = [name for name, values in axes.items() if len(values) > 1]
    jobs = []
    for combination in itertools.product(*axes.values()):
        given = {"threads": 1, **dict(zip(axes, combination, strict=True))}
        chosen = study.settle(preset, given)
        if data_dir and "data_dir" in known and study.reads_files(chosen):
            chosen = study.settle(preset, {"data_dir": data_dir, **given})
        values = {name: given[name] for name in varied}
        jobs.append(Job(job_name(values), values, chosen))
    return jobs


def job_name(values: Mapping[str, Any]) -> str:
    """A folder's name that tells the values; of values that no name can tell, a digest."""
    name = ",".join(f"{key}={_shown(value)}" for key, value in values.items()) or "run"
    if _PLAIN.fullmatch(name) and len(name) <= _LONGEST:
        return name
    return "run-" + hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:12]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
