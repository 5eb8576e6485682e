"""What is known exactly: inference against enumeration, the constructed network, the sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from mechprobe.models.edits import attention_patterns, forward
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
from mechprobe.training.tree_tasks import as_batch, masked_tokens, random_masks, seeded
from mechprobe.trees import (
    Grammar,
    attention_by_height,
    belief_propagation,
    enumerate_trees,
    sample,
)

_DRAWS = 100_000
_PLANTED = 2_000
"""Sequences that probes of the constructed network learn from; with 500 they stay below what its
vectors hold of the highest ancestors."""
_CLOSE = 0.05


def exact_unit(settings: Settings) -> dict:
    """Largest errors of the exact parts.

    "enumeration": log evidence and posteriors of every string of a small grammar of the run's kind
    against the sum over all trees, every k. "construction": the constructed network against
    inference on the run's grammar, every k, both answers (binary trees only). "sampler": total
    variation between sampled and enumerated strings of the small grammar, the largest over k.
    """
    small = Grammar.random(
        min(settings.q, 3), 2, settings.sigma, settings.grammar_seed, min(settings.arity, 2)
    )
    grammar = grammar_of(settings)
    levels = range(small.depth + 1)
    return {
        "enumeration": max(_enumeration_error(small, k) for k in levels),
        "construction": _construction_error(settings, grammar) if grammar.arity == 2 else None,
        "sampler": max(_sampler_error(settings, small, k) for k in levels),
    }


def _strings(grammar: Grammar) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(grammar.q)] * grammar.n_leaves)


def _probabilities(grammar: Grammar, k: int) -> torch.Tensor:
    """P(string) of every string, by adding up trees."""
    trees = enumerate_trees(grammar, k)
    place = trees.levels[grammar.depth] @ grammar.q ** np.arange(grammar.n_leaves)[::-1]
    return torch.from_numpy(
        np.bincount(place, weights=trees.weight, minlength=grammar.q**grammar.n_leaves)
    )


def _enumeration_error(grammar: Grammar, k: int) -> float:
    strings, trees = _strings(grammar), enumerate_trees(grammar, k)
    found = belief_propagation(grammar, strings, k, levels=())
    place = trees.levels[grammar.depth] @ grammar.q ** np.arange(grammar.n_leaves)[::-1]
    joint = np.zeros((len(strings), grammar.q))
    np.add.at(joint, (place, trees.levels[0][:, 0]), trees.weight)
    total = torch.from_numpy(joint.sum(1))
    there = total > 0
    root = torch.from_numpy(joint)[there] / total[there, None]
    errors = (found.log_evidence.exp() - total).abs().max(), (found.root[there] - root).abs().max()
    return float(max(errors))


def _sampler_error(settings: Settings, grammar: Grammar, k: int) -> float:
    drawn = sample(grammar, _DRAWS, k, seeded("cpu", settings.seed, 7, k)).leaves
    powers = torch.tensor([grammar.q**i for i in reversed(range(grammar.n_leaves))])
    seen = torch.bincount(drawn @ powers, minlength=grammar.q**grammar.n_leaves) / len(drawn)
    return float((seen - _probabilities(grammar, k)).abs().sum() / 2)


def _construction_error(settings: Settings, grammar: Grammar) -> float:
    generator = seeded("cpu", settings.seed, 8)
    leaves = sample(grammar, 200, 0, generator).leaves
    mask = random_masks(len(leaves), grammar.n_leaves, 1, generator)
    tokens = masked_tokens(grammar, leaves, mask)
    worst = 0.0
    for k in range(grammar.depth + 1):
        exact = belief_propagation(grammar, leaves, k, mask=mask, levels=())
        for readout, truth in (("flat", exact.root), ("position", exact.leaf_marginals)):
            assert truth is not None
            found = forward(HookedTreeConstruction(grammar, readout, k), as_batch(tokens)).exp()
            worst = max(worst, float((found - truth).abs().max()))
    return worst


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
