"""What is known exactly: inference, the sampler and observers by enumeration, the construction."""

from __future__ import annotations

import numpy as np
import torch

from mechprobe.models.edits import forward
from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import grammar_of
from mechprobe.training.tree_tasks import as_batch, masked_tokens, random_masks, seeded
from mechprobe.trees import (
    Grammar,
    TreeSamples,
    belief_propagation,
    enumerate_trees,
    sample,
)

_STRINGS = 1_000
"""Most strings of the small grammar whose every string and tree is listed."""
_DRAWS = 100_000


def exact_unit(settings: Settings) -> dict:
    """Largest errors of the exact parts.

    "enumeration": evidence and root posterior of every string of ``small_grammar`` against the sum
    over all trees, every k. "construction": the constructed network against inference on the run's
    grammar, every k, both answers (binary trees only). "sampler": total variation between sampled
    and enumerated strings of the small grammar, the largest over k.
    """
    small, grammar = small_grammar(settings), grammar_of(settings)
    levels = range(small.depth + 1)
    return {
        "enumeration": max(_enumeration_error(small, k) for k in levels),
        "construction": _construction_error(settings, grammar) if grammar.arity == 2 else None,
        "sampler": max(_sampler_error(settings, small, k) for k in levels),
    }


def oracle_unit(settings: Settings) -> dict:
    """The accuracy of BP_j on data of k for all j and k: drawn against enumerated, the farthest.

    Drawn: inference on the root of sampled strings of ``small_grammar``. Enumerated: the likeliest
    root of each string by adding up trees, weighted by the string's probability.
    """
    small = small_grammar(settings)
    strings, levels = _strings(small), range(small.depth + 1)
    joints = [_joint(small, k) for k in levels]
    inferred = [belief_propagation(small, strings, j, levels=()).root for j in levels]
    worst = 0.0
    for k in levels:
        seen = _draw(settings, small, k, part=10)
        code = seen.leaves @ _places(small)
        for j in levels:
            drawn = float((_likeliest(inferred[j])[code] == seen.root).double().mean())
            likely = _likeliest(joints[j] / joints[j].sum(1, keepdim=True).clamp_min(1e-300))
            listed = float(joints[k].gather(1, likely[:, None]).sum())
            worst = max(worst, abs(drawn - listed))
    return {"oracle": worst}


def small_grammar(settings: Settings) -> Grammar:
    """The run's own rules, or random ones of its arity, on a tree whose strings can be listed."""
    own = grammar_of(settings)
    for depth in (2, 1):
        if settings.rules is not None and own.q ** (own.arity**depth) <= _STRINGS:
            return Grammar(own.transition, depth)
    for depth in (2, 1):
        for q in (min(own.q, 3), 2):
            if q ** (own.arity**depth) <= _STRINGS:
                return Grammar.random(q, depth, settings.sigma, settings.grammar_seed, own.arity)
    return Grammar.random(2, 2, settings.sigma, settings.grammar_seed)


def _likeliest(weights: torch.Tensor) -> torch.Tensor:
    """The first of the likeliest symbols, where rounding may not decide between equal ones."""
    return (weights >= weights.amax(-1, keepdim=True) - 1e-9).double().argmax(-1)


def _strings(grammar: Grammar) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(grammar.q)] * grammar.n_leaves)


def _places(grammar: Grammar) -> torch.Tensor:
    """What each leaf's symbol counts in a string's place in the list of all strings."""
    return grammar.q ** torch.arange(grammar.n_leaves - 1, -1, -1)


def _joint(grammar: Grammar, k: int) -> torch.Tensor:
    """P(string, root) as [string, root], by adding up trees."""
    trees = enumerate_trees(grammar, k)
    place = trees.levels[grammar.depth] @ _places(grammar).numpy()
    joint = np.zeros((grammar.q**grammar.n_leaves, grammar.q))
    np.add.at(joint, (place, trees.levels[0][:, 0]), trees.weight)
    return torch.from_numpy(joint)


def _draw(settings: Settings, grammar: Grammar, k: int, part: int) -> TreeSamples:
    n = max(_DRAWS, 1_000 * grammar.q**grammar.n_leaves)
    return sample(grammar, n, k, seeded("cpu", settings.seed, part, k))


def _enumeration_error(grammar: Grammar, k: int) -> float:
    found = belief_propagation(grammar, _strings(grammar), k, levels=())
    joint = _joint(grammar, k)
    total = joint.sum(1)
    there = total > 0
    root = joint[there] / total[there, None]
    errors = (found.log_evidence.exp() - total).abs().max(), (found.root[there] - root).abs().max()
    return float(max(errors))


def _sampler_error(settings: Settings, grammar: Grammar, k: int) -> float:
    drawn = _draw(settings, grammar, k, part=7).leaves @ _places(grammar)
    seen = torch.bincount(drawn, minlength=grammar.q**grammar.n_leaves) / len(drawn)
    return float((seen - _joint(grammar, k).sum(1)).abs().sum() / 2)


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
