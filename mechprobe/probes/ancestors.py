"""Ancestor probes: does a leaf's vector at a layer tell the symbols above it in the tree?

The probes of Garnier-Brun et al. 2024 (arXiv 2408.15138), trained as every other probe here
(``fit_bank``), beside three things they did not have: the ceiling of an ideal observer who sees the
leaf's own block of a height, the control of Hewitt and Liang 2019 (each content of a block has a
label drawn at random, so that only memory can solve it), and the observer whose posterior a probe's
own is closest to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.streams import Stream, run_with_streams, streams
from mechprobe.probes.activations import WordVectors
from mechprobe.probes.bank import ProbeBank, fit_bank
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.probes.linear import (
    WordTask,
    control_task,
    linear_objective,
    mlp_objective,
    word_hits,
)
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.treebank import ROOT, Sentence
from mechprobe.trees.belief_propagation import belief_propagation
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.sampling import TreeSamples

PROBES = {"mlp": mlp_objective, "linear": linear_objective}


@dataclass(frozen=True, eq=False)
class LeafVectors:
    """Vectors of every leaf at every layer, and the trees they belong to.

    Attributes:
        vectors: as probes read them; one sentence a sequence, one unit a leaf. Sentences carry
            their row as their name.
        samples: with ancestors.
        mask: true where the model did not see the leaf.
    """

    vectors: WordVectors
    samples: TreeSamples
    mask: Bool[Tensor, "n leaf"]

    def ancestors(self, height: int) -> Int[Tensor, "n leaf"]:
        """Symbol of the ancestor of each leaf at a height.

        Raises:
            InputError: the samples have no nodes of that height.
        """
        depth = max(self.samples.levels, default=0)
        if height < 0 or depth - height not in self.samples.levels:
            raise InputError(
                f"no nodes of height {height} in these samples (levels "
                f"{sorted(self.samples.levels)}); draw them with ancestors=True"
            )
        nodes = self.samples.levels[depth - height]
        return nodes.repeat_interleave(self.samples.leaves.shape[1] // nodes.shape[1], dim=1)

    def part(self, start: int, stop: int) -> LeafVectors:
        """Some of the sequences; a task made from the whole holds for its parts."""
        rows, own, leaves = slice(start, stop), self.vectors, self.samples.leaves.shape[1]
        units = slice(start * leaves, stop * leaves)
        sentences = own.sentences[rows]
        vectors = WordVectors(
            own.streams, own.storage[units], np.arange(len(sentences) + 1) * leaves, sentences,
            own.words[units], tuple(range(len(sentences))),
        )  # fmt: skip
        levels = {level: nodes[rows] for level, nodes in self.samples.levels.items()}
        samples = TreeSamples(
            self.samples.leaves[rows], self.samples.root[rows], self.samples.k, levels
        )
        return LeafVectors(vectors, samples, self.mask[rows])


@torch.no_grad()
def leaf_vectors(
    model: HookedModel,
    samples: TreeSamples,
    *,
    tokens: Int[Tensor, "n leaf"] | None = None,
    wanted: Sequence[Stream | str] | None = None,
    batch_size: int = 256,
) -> LeafVectors:
    """Vectors of every leaf from one run of a model over sequences.

    Args:
        tokens: what the model reads, where some leaves are masked; else the leaves themselves.
        wanted: streams; None takes the residual stream after each block and before the first.

    Raises:
        InputError: samples without ancestors, or tokens of another shape.
    """
    tokens = samples.leaves if tokens is None else tokens
    if not samples.levels or tokens.shape != samples.leaves.shape:
        raise InputError(
            f"samples with levels {sorted(samples.levels)} and tokens of {tuple(tokens.shape)}; "
            f"give samples drawn with ancestors=True and tokens {tuple(samples.leaves.shape)}"
        )
    chosen = tuple(Stream.parse(s) for s in (streams(model, ["resid"]) if wanted is None
                                             else wanted))
    rows = []
    for part in tokens.split(batch_size):
        one = torch.ones_like(part)
        batch = Batch(part, 0 * one, one, 0 * one[:, 0], torch.arange(len(part)))
        _, found = run_with_streams(model, batch, chosen)
        stacked = torch.stack([found[stream] for stream in chosen], dim=2)
        rows.append(stacked.flatten(0, 1).to("cpu", torch.float32))
    n, leaves = tokens.shape
    vectors = WordVectors(
        chosen, torch.cat(rows), np.arange(n + 1, dtype=np.int64) * leaves,
        _sentences(samples.leaves, 1), np.tile(np.arange(leaves), n), tuple(range(n)),
    )  # fmt: skip
    return LeafVectors(vectors, samples, (tokens != samples.leaves).cpu())


def ancestor_task(data: LeafVectors, q: int, height: int) -> WordTask:
    """The label of each leaf: the symbol of its ancestor at a height.

    It holds for ``data`` and its parts.
    """
    labels = data.ancestors(height).cpu().numpy().astype(np.int64)

    def label_of(sentence: Sentence) -> np.ndarray:
        return labels[int(sentence.name)]

    return WordTask(f"ancestor {height}", tuple(map(str, range(q))), label_of)


def block_control(
    data: LeafVectors, q: int, height: int, arity: int = 2, *, seed: int = 0
) -> WordTask:
    """The control: each content of the block below the ancestor has one label drawn at random.

    Hewitt and Liang 2019 with blocks in the place of word types: what can be memorised from the
    same leaves that determine the ancestor. Labels are drawn as often as ancestors have them.
    """
    task = ancestor_task(data, q, height)
    blocks = _sentences(data.samples.leaves, arity**height)
    control = control_task(task, blocks, seed=seed)
    labels = [control.label_of(sentence) for sentence in blocks]

    def label_of(sentence: Sentence) -> np.ndarray:
        return labels[int(sentence.name)]

    return WordTask(control.name, task.labels, label_of)


def observer_posteriors(
    grammar: Grammar, data: LeafVectors, height: int, reach: int
) -> Float[Tensor, "n leaf q"]:
    """P(ancestor of each leaf at a height | the leaf's own block of ``arity ** reach`` leaves).

    What an ideal reader of a vector that knows that block could say, under the full grammar; leaves
    that the model did not see are not seen here either.

    Raises:
        InputError: a height or reach outside 0 .. depth.
    """
    if not (0 <= height <= grammar.depth and 0 <= reach <= grammar.depth):
        raise InputError(
            f"height {height} and reach {reach} of a tree of depth {grammar.depth}; give 0 to "
            f"{grammar.depth}"
        )
    leaves, n_leaves = data.samples.leaves.cpu(), grammar.n_leaves
    width, level = grammar.arity**reach, grammar.depth - height
    out = torch.empty(len(leaves), n_leaves, grammar.q, dtype=torch.float64)
    for start in range(0, n_leaves, width):
        block = slice(start, start + width)
        hidden = torch.ones(n_leaves, dtype=torch.bool)
        hidden[block] = False
        seen = belief_propagation(
            grammar, leaves, mask=data.mask | hidden, levels={level}, leaf_marginals=False
        )
        nodes = seen.nodes[level]
        out[:, block] = nodes.repeat_interleave(n_leaves // nodes.shape[1], dim=1)[:, block]
    return out


def fit_ancestor_probes(
    task: WordTask, train: LeafVectors, dev: LeafVectors, *, kind: str = "mlp",
    settings: ProbeSettings | None = None, seed: int = 0, device: str = "cpu",
) -> ProbeBank:
    """One probe a layer for a task; ``train`` and ``dev`` are parts of the data it was made from.

    Raises:
        InputError: an unknown kind; as ``fit_bank``.
    """
    if kind not in PROBES:
        raise InputError(f"probe {kind!r}; expected one of {', '.join(PROBES)}")
    settings = settings or ProbeSettings(lr=5e-3, batch_size=20, epochs=12, patience=4)
    return fit_bank(
        PROBES[kind](task), train.vectors, dev.vectors, settings, seed=seed, device=device
    )


@torch.no_grad()
def probe_posteriors(bank: ProbeBank, data: WordVectors) -> Float[Tensor, "site unit label"]:
    """What linear or MLP probes say, as probabilities, on the CPU.

    Raises:
        InputError: probes of another kind.
    """
    if "W" not in bank.params or "b" not in bank.params:
        raise InputError(f"a {bank.objective.name} probe gives no probabilities of labels")
    hidden = data.values.to(bank.params["W"])
    if "V" in bank.params:
        hidden = torch.einsum("sud,sdh->suh", hidden, bank.params["V"])
        hidden = (hidden + bank.params["c"][:, None]).relu()
    logits = torch.einsum("suh,shl->sul", hidden, bank.params["W"]) + bank.params["b"][:, None]
    return logits.double().softmax(-1).cpu()


def hits_by_sequence(bank: ProbeBank, data: LeafVectors) -> Float[np.ndarray, "site n"]:
    """Share of each sequence's leaves whose label each probe gets right."""
    right = word_hits(bank, data.vectors)
    return right.reshape(len(bank.streams), len(data.vectors), -1).mean(2)


def reach_table(
    grammar: Grammar, bank: ProbeBank, data: LeafVectors, height: int
) -> pd.DataFrame:
    """How far each layer sees: KL(observer || probe) for observers of every reach.

    One row a layer and reach: layer, height, reach, kl (nats), closest (the least of its layer).
    """
    own = probe_posteriors(bank, data.vectors).clamp_min(1e-12).log()
    rows = []
    observers = [
        observer_posteriors(grammar, data, height, reach).flatten(0, 1)
        for reach in range(grammar.depth + 1)
    ]
    for site, stream in enumerate(bank.streams):
        values = [
            float((torch.special.xlogy(o, o) - o * own[site]).sum(-1).mean()) for o in observers
        ]
        rows += [
            {"layer": stream.layer, "height": height, "reach": reach, "kl": value,
             "closest": reach == int(np.argmin(values))}
            for reach, value in enumerate(values)
        ]
    return pd.DataFrame(rows)


def _sentences(leaves: Int[Tensor, "n leaf"], width: int) -> tuple[Sentence, ...]:
    """One sentence a sequence; a leaf's word is the content of its block of ``width`` leaves."""
    found = []
    for row, symbols in enumerate(leaves.tolist()):
        words = []
        for start in range(0, len(symbols), width):
            words += ["-".join(map(str, symbols[start : start + width]))] * width
        n = len(words)
        found.append(Sentence(
            tuple(words), (ROOT, *range(n - 1)), ("leaf",) * n, ("X",) * n, name=str(row)
        ))
    return tuple(found)
