"""Read every finished unit of a run into one place."""

from __future__ import annotations

from typing import Any

from mechprobe.probes.sentence_scores import SentenceScore
from mechprobe.runs import Run
from mechprobe.studies.topology.bars import has_bars
from mechprobe.studies.topology.baselines import read_baselines
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.finetune import conditions
from mechprobe.studies.topology.kept_scores import from_arrays, probe_name, scores_file
from mechprobe.studies.topology.kinds import kinds_of, scores_named
from mechprobe.studies.topology.models import model_names, untrained_names
from mechprobe.studies.topology.results import UNTRAINED, Results, mean_score
from mechprobe.studies.topology.settings import Settings
from mechprobe.studies.topology.units import CHECKS, ENCODER, tune_name


def gather(settings: Settings, data: StudyData, run: Run) -> Results:
    """What a run found, from units that are all finished."""
    units = {
        (name, kind): run.result(probe_name(name, kind))
        for name in model_names(settings) for kind in kinds_of(settings, name)
    }
    tuned = [
        run.result(tune_name(condition, i))
        for i in range(settings.finetune_seeds) for condition in conditions(settings)
    ]
    return Results(
        settings, data.scored, read_scores(settings, data, run, units),
        read_baselines(settings, data, run), dict(sorted(units.items())),
        run.result("heads") if settings.n_heads_tested >= 0 else None, tuned,
        None if settings.encoder else run.result(ENCODER),
        run.result(CHECKS) if has_bars(settings) else None,
    )


def read_scores(
    settings: Settings, data: StudyData, run: Run, units: dict[tuple[str, str], dict[str, Any]]
) -> dict[tuple[str, str, str], SentenceScore]:
    """Scores by (model, part, metric), with the mean over untrained models."""
    found: dict[tuple[str, str, str], SentenceScore] = {}
    for (model, kind), unit in units.items():
        arrays = run.read_arrays(scores_file(model, kind))
        for part in ("dev", *data.scored):
            for metric in scores_named(kind):
                place = f"{part}/{metric}"
                if f"{place}/top" in arrays:
                    found[model, part, metric] = from_arrays(place, arrays, tuple(unit["streams"]))
    names = untrained_names(settings)
    for _, part, metric in [key for key in found if key[0] == names[0]]:
        found[UNTRAINED, part, metric] = mean_score([found[n, part, metric] for n in names])
    return found
