"""The units of a run: the encoder, each kind of probe of each model, heads, fine-tuned models."""

from __future__ import annotations

from functools import cached_property

from mechprobe.runs import Run, Unit
from mechprobe.studies.topology.bars import has_bars
from mechprobe.studies.topology.baselines import baselines_unit
from mechprobe.studies.topology.checks import checks_unit
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.finetune import Tuning, conditions, tune_unit
from mechprobe.studies.topology.heads import heads_unit
from mechprobe.studies.topology.kept_scores import probe_name
from mechprobe.studies.topology.kinds import kinds_of
from mechprobe.studies.topology.models import TRAINED, model_names, train_encoder
from mechprobe.studies.topology.probing import Opened, probe_unit
from mechprobe.studies.topology.settings import Settings

ENCODER, CHECKS = "encoder", "checks"


class StudyRun:
    """What the units of a run share in one process: settings, data, the run, open models."""

    def __init__(self, settings: Settings, data: StudyData, run: Run) -> None:
        self.settings, self.data, self.run = settings, data, run
        self._other: Opened | None = None

    def model(self, name: str) -> Opened:
        """A model with its vectors; of the untrained ones one at a time is kept open."""
        if name == TRAINED:
            return self._trained
        if self._other is None or self._other.name != name:
            self._other = Opened(self.settings, self.data, self.run, name)
        return self._other

    @cached_property
    def _trained(self) -> Opened:
        return Opened(self.settings, self.data, self.run, TRAINED)

    @cached_property
    def tuning(self) -> Tuning:
        """What all fine-tuned models share."""
        return Tuning(self.model(TRAINED))


def units(settings: Settings) -> list[Unit]:
    """Every unit of a run, in an order in which each comes after what it needs."""
    start = () if settings.encoder else (ENCODER,)
    found = [] if settings.encoder else [
        Unit(ENCODER, lambda at: train_encoder(at.settings, at.data, at.run))
    ]
    for name in reversed(model_names(settings)):  # the trained model last: it is used further
        found += [_probe(name, kind, start) for kind in kinds_of(settings, name)]
    if has_bars(settings):
        found.append(Unit(CHECKS, lambda at: checks_unit()))
    found.append(Unit("baselines", lambda at: baselines_unit(at.model(TRAINED)), start))
    if settings.n_heads_tested >= 0:
        needs = tuple(probe_name(TRAINED, kind) for kind in ("distance", "ssp"))
        found.append(Unit("heads", lambda at: heads_unit(at.model(TRAINED)), needs))
    return found + [
        _tune(condition, i)
        for i in range(settings.finetune_seeds) for condition in conditions(settings)
    ]


def tune_name(condition: str, index: int) -> str:
    """Name of the unit of one fine-tuned model."""
    return f"finetune-{condition}-{index}"


def _probe(model: str, kind: str, needs: tuple[str, ...]) -> Unit:
    return Unit(
        probe_name(model, kind), lambda at: probe_unit(at.model(model), kind), needs
    )


def _tune(condition: str, index: int) -> Unit:
    return Unit(
        tune_name(condition, index), lambda at: tune_unit(at.tuning, condition, index),
        (probe_name(TRAINED, "ssp"),),
    )
