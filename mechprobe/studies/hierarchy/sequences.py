"""The sequences that models are scored on, and what the ideal observers say about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of
from mechprobe.training.tree_tasks import masked_tokens, random_masks, seeded
from mechprobe.trees import Grammar, TreeSamples, block_ladder, bp_ladder, make_sampler

IN, OUT = "held out", "uniform"


@dataclass(frozen=True, eq=False)
class Scored:
    """Sequences with their answers and ideal observers.

    Attributes:
        name: "held out" (drawn as the training data were), "uniform" (random strings), or "k=2".
        tokens: what the model reads.
        mask: the leaf asked about in each sequence; None for the root.
        answer: root, or the masked leaf's symbol.
        bp: predictions of BP_k for each k, [k, n, q].
        blocks: predictions of B_s for each s, [s, n, q]; None for the root.

    An observer to whom a sequence is impossible (rules of the user's own may leave child tuples
    out) knows nothing: its prediction is uniform.
    """

    name: str
    tokens: Int[Tensor, "n leaf"]
    mask: Bool[Tensor, "n leaf"] | None
    answer: Int[Tensor, " n"]
    bp: Float[Tensor, "k n q"]
    blocks: Float[Tensor, "s n q"] | None


def held_out(settings: Settings, spec: Spec, n: int, k: int, part: int = 0) -> TreeSamples:
    """Sequences with ancestors that no training batch holds on purpose, by part of the study."""
    generator = seeded("cpu", settings.seed, 2, part, k)
    return make_sampler(grammar_of(settings, spec), k).draw(n, generator, ancestors=True)


def scored_sets(settings: Settings, spec: Spec) -> list[Scored]:
    """Held-out sequences of the model's own kind, uniform strings; for the root, every k's."""
    grammar, n = grammar_of(settings, spec), settings.n_eval
    generator = seeded("cpu", settings.seed, 3)
    uniform = torch.randint(grammar.q, (n, grammar.n_leaves), generator=generator)
    own = held_out(settings, spec, n, spec.k)
    sets = [
        score(grammar, spec.kind, IN, own.leaves, own.root, generator),
        score(grammar, spec.kind, OUT, uniform, None, generator),
    ]
    for k in range(grammar.depth + 1) if spec.kind == "root" else ():
        at = held_out(settings, spec, max(20, n // 2), k, part=1)
        sets.append(score(grammar, spec.kind, f"k={k}", at.leaves, at.root, generator))
    return sets


def score(
    grammar: Grammar, kind: str, name: str, leaves: Tensor, root: Tensor | None,
    generator: torch.Generator,
) -> Scored:
    """Observers' predictions on sequences, with one leaf masked where leaves are asked about."""
    if kind == "root":
        bp = or_uniform(bp_ladder(grammar, leaves).root)
        answer = bp[0].argmax(1) if root is None else root
        return Scored(name, leaves, None, answer, bp, None)
    mask = random_masks(len(leaves), grammar.n_leaves, 1, generator)
    bp = bp_ladder(grammar, leaves, mask).masked
    assert bp is not None
    return Scored(
        name, masked_tokens(grammar, leaves, mask), mask, leaves[mask], or_uniform(bp),
        or_uniform(block_ladder(grammar, leaves, mask)),
    )


def or_uniform(predictions: Float[Tensor, "rung n q"]) -> Float[Tensor, "rung n q"]:
    """Predictions with 1 / q in rows of zeros, which inference gives for impossible evidence.

    Zeros would count as no divergence from any model, and make that observer the closest one.
    """
    impossible = predictions.sum(-1, keepdim=True) == 0
    return torch.where(impossible, 1 / predictions.shape[-1], predictions)
