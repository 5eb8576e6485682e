"""Scores of probes as they are kept in the run folder: names of units, arrays by sentence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mechprobe.probes.sentence_scores import SentenceScore
from mechprobe.runs import Run


def probe_name(model: str, kind: str) -> str:
    """Name of the unit of one kind of probe."""
    return f"probe-{model}-{kind}"


def scores_file(model: str, kind: str) -> str:
    """Where the scores of one kind of probe are kept, inside the run folder."""
    return f"scores/{model}-{kind}.safetensors"


def as_arrays(key: str, score: SentenceScore) -> dict[str, np.ndarray]:
    """A score as named arrays."""
    return {f"{key}/top": score.top, f"{key}/bottom": score.bottom, f"{key}/group": score.group}


def from_arrays(
    key: str, arrays: Mapping[str, np.ndarray], names: tuple[str, ...]
) -> SentenceScore:
    """The score that ``as_arrays`` named so; ``names`` says what its site axis runs over."""
    return SentenceScore(
        names, arrays[f"{key}/top"], arrays[f"{key}/bottom"], arrays[f"{key}/group"]
    )


def read_score(run: Run, model: str, kind: str, part: str, metric: str) -> SentenceScore:
    """One score of a finished unit."""
    names = tuple(run.result(probe_name(model, kind))["streams"])
    return from_arrays(f"{part}/{metric}", run.read_arrays(scores_file(model, kind)), names)
