"""Read every finished unit of a run into one place."""

from __future__ import annotations

from typing import Any

from mechprobe.probes.sentence_scores import SentenceScore
from mechprobe.runs import Run
from mechprobe.studies.topology.baselines import baselines_unit, read_baselines
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.finetune import Tuning, conditions, tune_unit
from mechprobe.studies.topology.heads import heads_unit
from mechprobe.studies.topology.models import (
    TRAINED,
    model_names,
    train_encoder,
    untrained_names,
)
from mechprobe.studies.topology.probing import Opened, kinds_of, probe_unit
from mechprobe.studies.topology.results import METRICS_OF, UNTRAINED, Results, mean_score
from mechprobe.studies.topology.settings import Settings


def compute(settings: Settings, data: StudyData, run: Run) -> Results:
    """Every unit of the run, computed where it is not there yet, and what they found."""
    encoder = None
    if settings.encoder is None:
        encoder = run.unit("encoder", lambda: train_encoder(settings, data, run))
    units: dict[tuple[str, str], dict[str, Any]] = {}
    trained = Opened(settings, data, run, TRAINED)
    for name in reversed(model_names(settings)):  # the trained model last: it is used further
        opened = trained if name == TRAINED else Opened(settings, data, run, name)
        for kind in kinds_of(settings, name):
            units[name, kind] = run.unit(
                f"probe-{name}-{kind}", lambda o=opened, k=kind: probe_unit(o, k)
            )
    run.unit("baselines", lambda: baselines_unit(trained))
    heads = None
    if settings.n_heads_tested >= 0:
        heads = run.unit("heads", lambda: heads_unit(trained))
    tuning = Tuning(trained)
    tuned = [
        run.unit(f"finetune-{name}-{i}", lambda n=name, j=i: tune_unit(tuning, n, j))
        for i in range(settings.finetune_seeds) for name in conditions(settings)
    ]
    return Results(
        settings, data.scored, read_scores(settings, data, run, units),
        read_baselines(settings, data, run), dict(sorted(units.items())), heads, tuned, encoder,
    )


def read_scores(
    settings: Settings, data: StudyData, run: Run, units: dict[tuple[str, str], dict[str, Any]]
) -> dict[tuple[str, str, str], SentenceScore]:
    """Scores by (model, part, metric), with the mean over untrained models."""
    found: dict[tuple[str, str, str], SentenceScore] = {}
    for (model, kind), unit in units.items():
        arrays = run.read_arrays(f"scores/{model}-{kind}.safetensors")
        for part in ("dev", *data.scored):
            for metric in METRICS_OF[kind]:
                place = f"{part}/{metric}"
                if f"{place}/top" in arrays:
                    found[model, part, metric] = SentenceScore(
                        tuple(unit["streams"]), arrays[f"{place}/top"], arrays[f"{place}/bottom"],
                        arrays[f"{place}/group"],
                    )
    names = untrained_names(settings)
    for _, part, metric in [key for key in found if key[0] == names[0]]:
        found[UNTRAINED, part, metric] = mean_score([found[n, part, metric] for n in names])
    return found
