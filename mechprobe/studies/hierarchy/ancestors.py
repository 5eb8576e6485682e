"""Ancestor probes of a run: accuracy beside ceiling, untrained model and control, and reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mechprobe.probes.ancestors import (
    LeafVectors,
    ancestor_task,
    block_control,
    fit_ancestor_probes,
    hits_by_sequence,
    leaf_vectors,
    observer_posteriors,
    reach_table,
)
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.runs import Run
from mechprobe.stats import bootstrap_mean
from mechprobe.studies.hierarchy.models import open_model
from mechprobe.studies.hierarchy.sequences import held_out
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of
from mechprobe.training.tree_tasks import masked_tokens, random_masks, seeded
from mechprobe.trees import Grammar


def probes_unit(settings: Settings, spec: Spec, run: Run) -> dict:
    """Probes of every layer for every height, ``tables/probes-*.csv`` and ``reach-*.csv``."""
    grammar = grammar_of(settings, spec)
    n = settings.n_probe
    samples = held_out(settings, spec, n + 2 * (n // 4), 0, part=4)
    tokens = None
    if spec.kind == "masked":
        mask = random_masks(len(samples), grammar.n_leaves, 1, seeded("cpu", settings.seed, 6))
        tokens = masked_tokens(grammar, samples.leaves, mask)
    rows: list[dict[str, Any]] = []
    reach = []
    for weights, step in (("trained", None), ("untrained", 0)):
        model = open_model(settings, run, spec, step)
        data = leaf_vectors(model, samples, tokens=tokens)
        for height in range(1, grammar.depth + 1):
            found, own = probe_height(settings, grammar, data, height, n, weights == "trained")
            rows += [{"model": spec.name, "weights": weights, **row} for row in found]
            if weights == "trained":
                reach.append(own.assign(model=spec.name))
    run.write_table(f"tables/probes-{spec.name}.csv", pd.DataFrame(rows))
    run.write_table(f"tables/reach-{spec.name}.csv", pd.concat(reach, ignore_index=True))
    return {"sequences": len(samples)}


def probe_height(
    settings: Settings, grammar: Grammar, data: LeafVectors, height: int, n: int, controls: bool
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """One height's probes of all layers: rows of the table, and how far each layer sees."""
    train, dev = data.part(0, n), data.part(n, n + n // 4)
    test = data.part(n + n // 4, len(data.vectors))
    fit = ProbeSettings(lr=5e-3, batch_size=20, epochs=settings.probe_epochs, patience=3)
    common: dict[str, Any] = {
        "settings": fit, "seed": settings.seed, "device": settings.device,
    }
    task = ancestor_task(data, grammar.q, height)
    bank = fit_ancestor_probes(task, train, dev, **common)
    scores = {"mlp": hits_by_sequence(bank, test)}
    if controls:
        linear = fit_ancestor_probes(task, train, dev, kind="linear", **common)
        control = block_control(data, grammar.q, height, grammar.arity, seed=settings.seed)
        memory = fit_ancestor_probes(control, train, dev, **common)
        scores |= {"linear": hits_by_sequence(linear, test),
                   "control": hits_by_sequence(memory, test)}
    truth = test.ancestors(height)
    ceilings = [
        float((observer_posteriors(grammar, test, height, min(layer, grammar.depth)).argmax(-1)
               == truth).double().mean())
        for layer in range(len(bank.streams))
    ]
    rows = []
    for site, stream in enumerate(bank.streams):
        row: dict[str, Any] = {"layer": stream.layer, "height": height}
        for name, hits in scores.items():
            ends = bootstrap_mean(hits[site], seed=settings.seed, n=500)
            row |= {name: ends.estimate, f"{name}_low": ends.low, f"{name}_high": ends.high}
        row["ceiling"] = ceilings[site]
        if controls:
            row["selectivity"] = row["mlp"] - row["control"]
        else:
            row |= dict.fromkeys(
                [f"{n}{e}" for n in ("linear", "control") for e in ("", "_low", "_high")]
                + ["selectivity"], np.nan,
            )
        rows.append(row)
    return rows, reach_table(grammar, bank, test, height)

