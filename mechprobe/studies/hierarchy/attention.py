"""Where heads look: attention by the height of the lowest common ancestor, layer by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mechprobe.models.edits import HookedModel, attention_patterns
from mechprobe.runs import Run
from mechprobe.studies.hierarchy.models import open_model
from mechprobe.studies.hierarchy.rows import records, values, where
from mechprobe.studies.hierarchy.sequences import Scored, held_out, score
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, checkpoint_steps, grammar_of
from mechprobe.training.tree_tasks import as_batch, seeded
from mechprobe.trees import AttentionByHeight, Grammar, attention_by_height

BATCH = 128


def read_attention(
    model: HookedModel, grammar: Grammar, scored: Scored, *, n_null: int, seed: int, device: str
) -> tuple[AttentionByHeight, AttentionByHeight | None, np.ndarray]:
    """By height over all queries, over masked queries (None for the root), and the mean maps.

    The mean maps are [layer, head, query, key].
    """
    parts: list[dict[int, torch.Tensor]] = []
    for tokens in scored.tokens.split(BATCH):
        found = attention_patterns(model, as_batch(tokens.to(device)))
        parts.append({layer: p.cpu() for layer, p in found.items()})
    patterns = {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}
    every = attention_by_height(
        patterns, grammar.depth, grammar.arity, n_null=n_null, seed=seed
    )
    asked = None
    if scored.mask is not None:
        asked = attention_by_height(
            patterns, grammar.depth, grammar.arity, queries=scored.mask, n_null=n_null,
            seed=seed,
        )
    return every, asked, torch.stack([p.mean(0) for p in patterns.values()]).numpy()


def attention_unit(settings: Settings, spec: Spec, run: Run) -> dict:
    """Attention of a trained and of the untrained model, ``tables/attention-*.csv`` and maps."""
    grammar = grammar_of(settings, spec)
    own = held_out(settings, spec, settings.n_attention, spec.k, part=2)
    generator = seeded("cpu", settings.seed, 4)
    scored = score(grammar, spec.kind, "attention", own.leaves, own.root, generator)
    tables, arrays = [], {}
    for name, step in (("trained", None), ("untrained", 0)):
        model = open_model(settings, run, spec, step)
        every, asked, maps = read_attention(
            model, grammar, scored, n_null=settings.n_null, seed=settings.seed,
            device=settings.device,
        )
        tables.append(every.table().assign(queries="all", weights=name))
        if asked is not None:
            tables.append(asked.table().assign(queries="masked", weights=name))
        arrays[name] = maps
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "model", spec.name)
    run.write_table(f"tables/attention-{spec.name}.csv", table)
    run.write_arrays(f"arrays/attention-{spec.name}.safetensors", arrays)
    return {"checkpoint": checkpoint_steps(settings, spec)[-1]}


def layer_table(attention: pd.DataFrame) -> pd.DataFrame:
    """Mass by height of each layer (mean over its heads) and the mean height it looks at.

    Columns: model, queries, weights, layer (from 1), height_0 .., mean_height.
    """
    rows = []
    layered = attention.assign(layer=[int(h.split(".")[0]) + 1 for h in attention["head"]])
    keys = ("model", "queries", "weights", "layer")
    for found in dict.fromkeys(tuple(r[key] for key in keys) for r in records(layered)):
        named = dict(zip(keys, found, strict=True))
        part = where(layered, **named)
        heights = sorted(set(part["height"]))
        mass = [float(np.mean(values(part, "mass", height=h))) for h in heights]
        rows.append({
            **named, **{f"height_{h}": m for h, m in zip(heights, mass, strict=True)},
            "mean_height": float(np.dot(mass, heights)),
        })
    return pd.DataFrame(rows)


def strongest(attention: pd.DataFrame, queries: str = "all", weights: str = "trained"
              ) -> pd.DataFrame:
    """E_h: for each height the head with the most mass over uniform, with interval and p.

    p: how often some head does as well with relabelled positions.
    """
    mine, rows = where(attention, queries=queries, weights=weights), []
    for height in sorted(set(mine["height"]) - {0}):
        best = max(records(mine, height=height), key=lambda row: row["enrichment"])
        rows.append({
            "model": best["model"], "queries": queries, "weights": weights, "height": height,
            "head": best["head"], "enrichment": best["enrichment"],
            "low": best["low"] / best["uniform"], "high": best["high"] / best["uniform"],
            "null": best["null"] / best["uniform"], "p": best["p_strongest"],
        })
    return pd.DataFrame(rows)
