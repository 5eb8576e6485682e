"""The study's measures on the constructed network, beside what is true of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mechprobe.models.edits import attention_patterns
from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.probes.ancestors import (
    ancestor_task,
    fit_ancestor_probes,
    hits_by_sequence,
    leaf_vectors,
    observer_posteriors,
    reach_table,
)
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.runs import Run
from mechprobe.studies.hierarchy.rows import records
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import grammar_of
from mechprobe.training.tree_tasks import as_batch, seeded
from mechprobe.trees import attention_by_height, sample

_PLANTED = 2_000
"""Sequences that probes of the constructed network learn from; with 500 they stay below what its
vectors hold of the highest ancestors."""
_CLOSE = 0.05


def planted_unit(settings: Settings, run: Run) -> dict:
    """Every measure of attention and probes on the constructed network, ``tables/planted.csv``.

    One row a measure: what is true by construction, what the measure says, whether they agree.
    """
    grammar = grammar_of(settings)
    if grammar.arity != 2:
        return {"planted": 0}
    model, n = HookedTreeConstruction(grammar), max(_PLANTED, settings.n_probe)
    samples = sample(grammar, n + 2 * (n // 4), 0, seeded("cpu", settings.seed, 9), ancestors=True)
    patterns = attention_patterns(model, as_batch(samples.leaves[:50]))
    looks = attention_by_height(
        patterns, grammar.depth, n_null=settings.n_null, seed=settings.seed
    )
    rows: list[dict[str, Any]] = []
    for layer in range(grammar.depth):
        best = int(looks.enrichment[layer].argmax())
        rows.append(_row("height attended to", layer + 1, layer + 1, best, best == layer + 1))
    data = leaf_vectors(model, samples)
    train, dev = data.part(0, n), data.part(n, n + n // 4)
    test = data.part(n + n // 4, len(samples))
    fit = ProbeSettings(lr=5e-3, batch_size=20, epochs=max(12, settings.probe_epochs), patience=4)
    for height in range(1, grammar.depth + 1):
        bank = fit_ancestor_probes(
            ancestor_task(data, grammar.q, height), train, dev, settings=fit, seed=settings.seed
        )
        accuracy = hits_by_sequence(bank, test).mean(1)
        reach = reach_table(grammar, bank, test, height)
        closest = {r["layer"]: r["reach"] for r in records(reach, closest=True)}
        for layer in range(height + 1):
            seen = observer_posteriors(grammar, test, height, layer).argmax(-1)
            ceiling = float((seen == test.ancestors(height)).double().mean())
            found = float(accuracy[layer])
            rows.append(_row(
                f"probe of height {height}: accuracy", layer, ceiling, found,
                abs(found - ceiling) < _CLOSE,
            ))
            if layer == height:
                rows.append(_row(f"probe of height {height}: leaves it knows, log2", layer, layer,
                                 int(closest[layer]), int(closest[layer]) == layer))
    run.write_table("tables/planted.csv", pd.DataFrame(rows))
    return {"planted": len(rows)}


def _row(
    measure: str, layer: int, truth: float | int, found: float | int, agrees: bool
) -> dict[str, Any]:
    return {"measure": measure, "layer": layer, "truth": float(truth), "found": float(found),
            "agrees": bool(agrees)}
