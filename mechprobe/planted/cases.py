"""Compiled planted circuits from a folder: model, behaviour and the truth about its heads."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.models.weights import decoder_from_weights
from mechprobe.sites import Site
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.prompts import PromptTask

_SLICE = re.compile(r"slice\((None|-?\d+), (None|-?\d+), (None|-?\d+)\)")
_WRONG_MODEL = 1e-2


@dataclass(frozen=True, eq=False)
class Case:
    """One planted circuit on one data set.

    Attributes:
        name: the case's name.
        set: the data set ("main", "ood", ...).
        model: a decoder (causal or bidirectional) in float32.
        task: paired clean and counterfactual tokens; the metric is accuracy, the share of the
            scored positions that are right.
        truth: the case's truth file, as it stands.
        logits: what the case's authors' own model gives, float32 [example, pos, vocab]; None when
            the folder has none.
    """

    name: str
    set: str
    model: HookedModel
    task: Behaviour
    truth: Mapping[str, Any]
    logits: Float[np.ndarray, "example pos vocab"] | None = None

    @property
    def minimal(self) -> frozenset[frozenset[Site]]:
        """All minimal circuits of this data set by the truth file (paired baseline)."""
        listed = self.truth["sets"][self.set]["minimal_circuits_paired"]
        return frozenset(frozenset(Site.parse(name) for name in circuit) for circuit in listed)

    def drift(self) -> float:
        """Largest difference between the model's logits and the recorded ones (0 without any)."""
        if self.logits is None:
            return 0.0
        with torch.no_grad():
            found = forward(self.model, self.task.inputs).cpu().numpy()
        return float(np.abs(found - self.logits).max())


def load_case(folder: str | Path, set: str = "main") -> Case:
    """Open a planted circuit: ``weights.npz``, ``config.json``, ``io.npz`` and ``truth.json``.

    Args:
        folder: where the four files lie.
        set: which of its data sets.

    Raises:
        InputError: a missing or damaged file, a data set that is not there, or weights that do not
            give the recorded logits.
    """
    folder = Path(folder)
    config, truth = _json(folder / "config.json"), _json(folder / "truth.json")
    model = decoder_from_weights(config, _arrays(folder / "weights.npz"))
    data = _arrays(folder / "io.npz")
    if f"{set}_clean" not in data:
        there = sorted(name.removesuffix("_clean") for name in data if name.endswith("_clean"))
        raise InputError(f"{folder} has no data set {set!r}; it has {', '.join(there)}")
    name = truth.get("case", folder.name)
    task = _task(f"{name}:{set}", data, set, truth.get("eval_pos", -1))
    case = Case(name, set, model, task, truth, data.get(f"{set}_logits"))
    if (drift := case.drift()) > _WRONG_MODEL:
        raise InputError(
            f"{folder}: the model's logits differ from the recorded ones by {drift:.2g}; the "
            "weights, the config and io.npz do not belong together"
        )
    return case


def _task(name: str, data: Mapping[str, np.ndarray], set: str, scored: str | int) -> Behaviour:
    missing = [part for part in ("corrupt", "label") if f"{set}_{part}" not in data]
    if missing:
        raise InputError(f"{name}: io.npz has no {set}_{missing[0]}; each data set needs one")
    clean = data[f"{set}_clean"].astype(np.int64)
    answers = _answers(clean.shape, data[f"{set}_label"], scored, name)
    corrupt = data[f"{set}_corrupt"].astype(np.int64)
    prompts = PromptTask(clean, corrupt, answers, metric="accuracy", name=name)
    with warnings.catch_warnings():  # drawn at random, a few pairs are equal: known, harmless
        warnings.filterwarnings("ignore", ".*clean prompts equal")
        return prompts.encode()


def _answers(
    shape: tuple[int, ...], labels: np.ndarray, scored: str | int, name: str
) -> Int[np.ndarray, "example pos"]:
    """Labels at the scored positions, -100 elsewhere."""
    answers = np.full(shape, UNSCORED, dtype=np.int64)
    at = np.arange(shape[1])[_positions(scored)]
    labels = labels.reshape(len(labels), -1)
    if labels.shape != (shape[0], len(at)):
        raise InputError(
            f"{name}: {list(labels.shape)} labels for {shape[0]} rows and {len(at)} scored "
            "positions; give one label each"
        )
    answers[:, at] = labels
    return answers


def _positions(scored: str | int) -> slice:
    """The positions a truth file means: an index, or the text of a Python slice."""
    if isinstance(scored, int):
        return slice(scored, scored + 1 or None)
    if found := _SLICE.fullmatch(scored.strip()):
        return slice(*(None if part == "None" else int(part) for part in found.groups()))
    raise InputError(f"eval_pos {scored!r} is not understood; give -1 or 'slice(1, None, None)'")


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a folder of a case") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); give a folder of a case") from None
