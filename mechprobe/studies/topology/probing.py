"""Every probe of one model: trained on all its streams at once, scored sentence by sentence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from mechprobe.models.edits import HookedModel
from mechprobe.models.streams import Stream, streams
from mechprobe.probes import (
    FlatTopology,
    ProbeBank,
    ProbeSettings,
    WordVectors,
    bank_losses,
    fit_bank,
    score_depths,
    score_distances,
    topology_objective,
    topology_scores,
    word_vectors,
)
from mechprobe.probes.sentence_scores import (
    SentenceScore,
    accuracy_sentence_score,
    loss_sentence_score,
    tree_sentence_scores,
)
from mechprobe.runs import Run, progress
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.kept_scores import as_arrays, probe_name, scores_file
from mechprobe.studies.topology.kinds import objective_of, on_residual, topology_of
from mechprobe.studies.topology.models import open_model
from mechprobe.studies.topology.settings import Settings


@dataclass
class Opened:
    """A model with its vectors, read when first asked for."""

    settings: Settings
    data: StudyData
    run: Run
    name: str
    _read: dict[tuple[str, bool], WordVectors] = field(default_factory=dict)

    @cached_property
    def model(self) -> HookedModel:
        return open_model(self.settings, self.run.folder, self.name)

    def vectors(self, part: str, *, released: bool = False) -> WordVectors:
        """Vectors of a part's words (or of all tokens) at every stream, from one pass."""
        if (part, released) not in self._read:
            sentences = self.data.parts[part]
            with progress(len(sentences), f"read {part} with {self.name}", unit="sentence") as bar:
                self._read[part, released] = word_vectors(
                    self.model, sentences, wanted=streams(self.model, self.settings.parts),
                    released_masking=released, on_batch=bar.update,
                )
        return self._read[part, released]

    def for_kind(self, kind: str, part: str) -> WordVectors:
        """The vectors a kind of probe reads."""
        released = topology_of(kind) is not None and self.settings.released_masking
        found = self.vectors(part, released=released)
        if on_residual(kind):
            return found.at([s for s in found.streams if s.part == found.streams[0].part])
        return found


def probe_unit(opened: Opened, kind: str) -> dict:
    """Train one kind of probe on every stream of a model, keep it and its scores; a unit."""
    settings, run = opened.settings, opened.run
    objective = objective_of(settings, opened.data, kind)
    train, dev = opened.for_kind(kind, "train"), opened.for_kind(kind, "dev")
    with progress(settings.probe_epochs, f"{kind} of {opened.name}", unit="epoch") as bar:
        bank = fit_bank(
            objective, train, dev, probe_settings(settings), seed=settings.seed,
            device=settings.device, on_epoch=lambda epoch, left: bar.update(),
        )
    name = f"{opened.name}-{kind}"
    run.write_arrays(f"probes/{name}.safetensors", dict(bank.params))
    flat: dict[str, dict[str, float]] = {}
    levels: dict[str, dict[str, list[float]]] = {}
    arrays: dict[str, np.ndarray] = {}
    for part in ("dev", *opened.data.scored):
        vectors = opened.for_kind(kind, part)
        for metric, score in scores_of(bank, vectors, kind).items():
            arrays |= as_arrays(f"{part}/{metric}", score)
        if topology_of(kind):
            flat[part], levels[part] = _labels(bank, vectors, kind)
    run.write_arrays(scores_file(opened.name, kind), arrays)
    return {
        "streams": [str(s) for s in bank.streams], "dev_loss": bank.dev_loss.tolist(),
        "epochs": bank.epochs.tolist(), "flat": flat, "levels": levels,
        "train_loss": bank_losses(bank, train).tolist(),
        "rank": bank.params["B"].shape[-1] if "B" in bank.params else None,
        "skipped": {
            part: {"too_long": len(v.too_long), "vanished": len(v.vanished), "kept": len(v)}
            for part in ("train", "dev", *opened.data.scored)
            for v in [opened.for_kind(kind, part)]
        },
    }


def probe_settings(settings: Settings) -> ProbeSettings:
    """How the study's probes are trained."""
    return ProbeSettings(
        lr=settings.probe_lr, batch_size=settings.probe_batch, epochs=settings.probe_epochs
    )


def scores_of(bank: ProbeBank, data: WordVectors, kind: str) -> dict[str, SentenceScore]:
    """Every score of a bank by name, kept by sentence."""
    if kind == "distance":
        return tree_sentence_scores(score_distances(bank, data), data.lengths)
    if kind == "depth":
        return tree_sentence_scores(score_depths(bank, data), data.lengths)
    if topology_of(kind) is None:
        return {kind: accuracy_sentence_score(bank, data)}
    found = {f"x_{kind}": loss_sentence_score(bank, data)}
    if kind == "sp":
        if not data.released:
            depths = tree_sentence_scores(score_depths(bank, data), data.lengths)
            found |= {f"sp_{name}": score for name, score in depths.items()}
        same = ProbeBank(
            topology_objective("ssp"), bank.streams, bank.params, bank.dev_loss, bank.epochs,
            bank.settings, bank.seed,
        )
        found["x_ssp_at_sp"] = loss_sentence_score(same, data)
    return found


def _labels(
    bank: ProbeBank, data: WordVectors, kind: str
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Share of flat profiles and of words at each induced level, by stream."""
    topology = topology_of(kind)
    assert topology is not None
    labels = topology[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlatTopology)  # the study's tables say it
        scores = topology_scores(bank, data, labels=labels)
    names = scores.names
    return (
        dict(zip(names, scores.flat.tolist(), strict=True)),
        dict(zip(names, scores.histogram.tolist(), strict=True)),
    )


def kept_bank(opened: Opened, kind: str) -> ProbeBank:
    """A bank of the run, read from its folder."""
    kept = opened.run.unit(probe_name(opened.name, kind), lambda: probe_unit(opened, kind))
    arrays = opened.run.read_arrays(f"probes/{opened.name}-{kind}.safetensors")
    return ProbeBank(
        objective_of(opened.settings, opened.data, kind),
        tuple(Stream.parse(name) for name in kept["streams"]),
        {name: torch.from_numpy(value).to(opened.settings.device)
         for name, value in arrays.items()},
        np.array(kept["dev_loss"]), np.array(kept["epochs"]), probe_settings(opened.settings),
        opened.settings.seed,
    )
