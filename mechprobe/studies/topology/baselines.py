"""Trees that know nothing of the sentence, scored as the probes are; a unit of the run."""

from __future__ import annotations

import numpy as np

from mechprobe.probes import (
    TreeScores,
    chain_depth_scores,
    chain_distance_scores,
    random_depth_scores,
    random_distance_scores,
)
from mechprobe.probes.sentence_scores import SentenceScore, tree_sentence_scores
from mechprobe.runs import Run
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.kept_scores import as_arrays, from_arrays
from mechprobe.studies.topology.probing import Opened
from mechprobe.studies.topology.settings import Settings

DRAWS = 20
CHAIN, RANDOM = "chain", "random trees"


def baselines_unit(opened: Opened) -> dict:
    """Chain and random trees on the sentences that the probes are scored on."""
    arrays: dict[str, np.ndarray] = {}
    for part in opened.data.scored:
        sentences = opened.vectors(part).sentences
        lengths = np.array([len(s) for s in sentences])
        for scores in (chain_distance_scores(sentences), chain_depth_scores(sentences)):
            for metric, score in tree_sentence_scores(scores, lengths).items():
                arrays |= as_arrays(f"{part}/{metric}/{CHAIN}", score)
        seed = opened.settings.seed
        for scores in (
            random_distance_scores(sentences, draws=DRAWS, seed=seed),
            random_depth_scores(sentences, draws=DRAWS, seed=seed),
        ):
            for metric, score in _mean_draw(scores, lengths).items():
                arrays |= as_arrays(f"{part}/{metric}/{RANDOM}", score)
    opened.run.write_arrays("scores/baselines.safetensors", arrays)
    return {"draws": DRAWS}


def _mean_draw(scores: TreeScores, lengths: np.ndarray) -> dict[str, SentenceScore]:
    """The mean over draws of trees, sentence by sentence."""
    return {
        metric: SentenceScore((RANDOM,), own.top.mean(0, keepdims=True), own.bottom, own.group)
        for metric, own in tree_sentence_scores(scores, lengths).items()
    }


def read_baselines(
    settings: Settings, data: StudyData, run: Run
) -> dict[tuple[str, str, str], SentenceScore]:
    """Scores by (baseline, part, metric)."""
    arrays = run.read_arrays("scores/baselines.safetensors")
    found = {}
    for key in arrays:
        part, metric, name, kind = key.split("/")
        if kind == "top":
            found[name, part, metric] = from_arrays(f"{part}/{metric}/{name}", arrays, (name,))
    return found
