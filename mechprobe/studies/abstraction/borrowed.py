"""Which new words lose the concept: some borrow the embeddings of their auxiliary twins.

In the setting ``words`` the body stays as the auxiliary task left it and only the embeddings of the
target task's words learn. Where it fails, either the body cannot do it or the words were learnt
wrongly. So the words of one class, or all, get the embeddings that the auxiliary words they stand
for have had all along (by the dictionary, which no model sees), and the same test is scored again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from mechprobe.stats.nested import nested_bootstrap
from mechprobe.studies.abstraction.models import open_model
from mechprobe.studies.abstraction.new_words import borrow, written_words
from mechprobe.studies.abstraction.procedures import SetRun
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.tasks.abstraction.twins import CLASSES, twin_classes, twin_words
from mechprobe.tasks.word_ids import WordIds
from mechprobe.training.seq2seq import exact_matches

BORROWERS: dict[str, tuple[str, ...]] = {
    "none": (), **{name: (name,) for name in CLASSES}, "all": CLASSES,
}
"""Which classes of words borrow, by the name of the condition."""


def borrows(settings: Settings) -> bool:
    """Whether the run has what it needs: new words that learn, each one token in any case."""
    return settings.model is None and settings.fold_case and "words" in settings.adapt


def borrowed_unit(at: SetRun, name: str) -> dict:
    """Exact match per test pair of the model kept as ``name``, for each of ``BORROWERS``."""
    data, tasks = at.data, at.data.tasks
    assert isinstance(data.words, WordIds)
    ids, classes = data.words.ids, twin_classes(tasks)
    twins = {
        word: twin for word, twin in twin_words(tasks).items() if word in ids and twin in ids
    }
    found = {}
    for condition, given in BORROWERS.items():
        model = open_model(at.settings, data, at.run, name, frozen=True)
        borrow(model, {
            ids[word]: ids[twin] for word, twin in twins.items()
            if condition == "all" or classes.get(word) in given
        }, written_words(data))
        found[condition] = {
            split: exact_matches(model, data.target[split]).tolist() for split in ("test", "ood")
        }
    return found


def borrowed_table(
    settings: Settings, found: Sequence[Mapping[str, Mapping]], kinds: Sequence[Collection[str]]
) -> pd.DataFrame:
    """One row a condition: exact match with intervals over sets and items, and by kind of item.

    Args:
        found: outcome of ``borrowed_unit`` of each set.
        kinds: the kind of each generalisation item, of each set.
    """
    each = [np.array(part) for part in kinds]
    rows = []
    for condition in BORROWERS:
        right = [np.array(part[condition]["ood"], float) for part in found]
        ends = nested_bootstrap(right, settings.seed, settings.n_boot)
        row: dict[str, object] = {
            "borrowed": condition,
            "in_distribution": float(np.mean([np.mean(p[condition]["test"]) for p in found])),
            "generalisation": ends.estimate, "generalisation_low": ends.low,
            "generalisation_high": ends.high,
        }
        for kind in dict.fromkeys(np.concatenate(each).tolist()):
            mine = np.concatenate([part[k == kind] for part, k in zip(right, each, strict=True)])
            row[kind] = float(mine.mean())
        rows.append(row)
    return pd.DataFrame(rows)
