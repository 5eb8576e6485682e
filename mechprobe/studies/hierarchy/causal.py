"""Does the reach of attention decide the reach of the prediction?"""

from __future__ import annotations

import pandas as pd
import torch

from mechprobe.models.restricted import run_with_allowed_attention
from mechprobe.runs import Run
from mechprobe.stats import bootstrap_mean
from mechprobe.studies.hierarchy.models import open_model
from mechprobe.studies.hierarchy.sequences import held_out, score
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of
from mechprobe.training.tree_tasks import as_batch, seeded
from mechprobe.trees import closest_rung, closest_shares, common_heights, divergences


def blocks_unit(settings: Settings, spec: Spec, run: Run) -> dict:
    """All attention limited to the own block of arity ** s leaves, against B_0 .. B_l.

    Table ``tables/blocks-*.csv``: one row a restriction s and rung; the control restricts attention
    to as many leaves as the block has, at random places of the sequence.
    """
    grammar = grammar_of(settings, spec)
    own = held_out(settings, spec, settings.n_eval, spec.k, part=3)
    generator = seeded("cpu", settings.seed, 5)
    scored = score(grammar, spec.kind, "blocks", own.leaves, own.root, generator)
    assert scored.mask is not None
    assert scored.blocks is not None
    model = open_model(settings, run, spec)
    heights = common_heights(grammar.depth, grammar.arity)
    order = torch.randperm(grammar.n_leaves, generator=generator)
    rows = []
    for s in range(grammar.depth + 1):
        for kind, allowed in (("own block", heights <= s), ("random leaves", _random(
            heights <= s, order
        ))):
            log_probs = _restricted(settings, model, scored.tokens, scored.mask, allowed)
            values = divergences(scored.blocks, log_probs).numpy()
            shares = closest_shares(values, seed=settings.seed)
            best = closest_rung(values.mean(1).tolist())
            for rung, row in enumerate(values):
                ends = bootstrap_mean(row, seed=settings.seed, n=500)
                rows.append({
                    "model": spec.name, "allowed": kind, "s": s, "rung": rung,
                    "kl": ends.estimate, "low": ends.low, "high": ends.high,
                    "closest": best.rung == rung, "share": float(shares[rung]),
                })
    run.write_table(f"tables/blocks-{spec.name}.csv", pd.DataFrame(rows))
    return {"sequences": len(own)}


def _random(block: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """A map with the same number of keys a query, itself among them: blocks of other positions."""
    return block[order][:, order]


def _restricted(
    settings: Settings, model: object, tokens: torch.Tensor, mask: torch.Tensor,
    allowed: torch.Tensor,
) -> torch.Tensor:
    rows = []
    with torch.no_grad():
        for part, at in zip(tokens.split(256), mask.split(256), strict=True):
            logits = run_with_allowed_attention(
                model,  # pyright: ignore[reportArgumentType]
                as_batch(part.to(settings.device)), allowed,
            )
            rows.append(logits.cpu()[at].double().log_softmax(-1))
    return torch.cat(rows)
