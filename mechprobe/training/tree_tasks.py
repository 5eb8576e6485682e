"""Root classification and masked language modelling on filtered trees, batch by batch.

The two tasks of Garnier-Brun et al. 2024 (arXiv 2408.15138). A batch depends on the seed and the
step alone, so a fit that was stopped goes on with the same sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.models.fixed_length import HookedFixedLengthEncoder, build_fixed_length_encoder
from mechprobe.runs.crew import crew
from mechprobe.tasks.batches import Batch
from mechprobe.trees.belief_propagation import check_leaves
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.sampling import Sampler, TreeSamples, make_sampler

KINDS = ("root", "masked")


@dataclass(frozen=True)
class TreeBatch:
    """What a model reads, and what it is asked.

    Attributes:
        tokens: symbols, with q where a leaf is masked.
        leaves: symbols without masks.
        root: class of each sequence.
        mask: true where a leaf is masked; all false for root classification.
    """

    tokens: Int[Tensor, "n leaf"]
    leaves: Int[Tensor, "n leaf"]
    root: Int[Tensor, " n"]
    mask: Bool[Tensor, "n leaf"]


@dataclass(frozen=True, eq=False)
class TreeTask:
    """A task on sequences filtered at one level.

    Args:
        grammar: the rules.
        kind: "root" (name the root) or "masked" (name the masked leaves).
        k: filter level of the sequences.
        batch_size: sequences a step.
        seed: decides every batch.
        max_masks: kind "masked": leaves masked in a sequence, drawn evenly from 1 to this.
        n_train: a fixed set of this many sequences, shuffled anew each epoch; None: every sequence
            is new.
        device: where sequences are drawn.

    Raises:
        InputError: an unknown kind, a k outside 0 .. depth, or numbers that cannot work.
    """

    grammar: Grammar
    kind: str
    k: int = 0
    batch_size: int = 64
    seed: int = 0
    max_masks: int = 4
    n_train: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.grammar.check_level(self.k)
        if self.kind not in KINDS:
            raise InputError(f"task {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.batch_size < 1 or not 1 <= self.max_masks <= self.grammar.n_leaves:
            raise InputError(
                f"batches of {self.batch_size} with up to {self.max_masks} masks; expected 1 or "
                f"more sequences and 1 to {self.grammar.n_leaves} masks"
            )
        if self.n_train is not None and self.n_train < self.batch_size:
            raise InputError(
                f"a fixed set of {self.n_train} sequences is smaller than a batch of "
                f"{self.batch_size}; give more sequences, or None for new ones"
            )

    @cached_property
    def _sampler(self) -> Sampler:
        return make_sampler(self.grammar, self.k, device=self.device)

    @cached_property
    def _fixed(self) -> TreeSamples:
        assert self.n_train is not None
        return self._sampler.draw(self.n_train, seeded(self.device, self.seed, 1, 0))

    def batch(self, step: int) -> TreeBatch:
        """The batch of a step counted from 0."""
        generator = seeded(self.device, self.seed, 0, step)
        if self.n_train is None:
            drawn = self._sampler.draw(self.batch_size, generator)
            leaves, root = drawn.leaves, drawn.root
        else:
            epoch, place = divmod(step, self.n_train // self.batch_size)
            order = torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(
                self.n_train
            )[place * self.batch_size : (place + 1) * self.batch_size]).to(self.device)
            leaves, root = self._fixed.leaves[order], self._fixed.root[order]
        if self.kind == "root":
            return TreeBatch(leaves, leaves, root, torch.zeros_like(leaves, dtype=torch.bool))
        mask = random_masks(len(leaves), self.grammar.n_leaves, self.max_masks, generator)
        return TreeBatch(masked_tokens(self.grammar, leaves, mask), leaves, root, mask)

    def loss(self, model: HookedModel, step: int) -> Tensor:
        """Mean cross-entropy over the sequences, or over the masked leaves, of a step's batch.

        Where several processes fit together, this one's part of it.
        """
        batch, team = self.batch(step), crew()
        rows = team.rows(len(batch.tokens))
        root, mask = batch.root[rows], batch.mask[rows]
        logits = forward(model, as_batch(batch.tokens[rows], root))
        device, how = logits.device, team.reduction
        if self.kind == "root":
            loss = F.cross_entropy(logits, root.to(device), reduction=how)
            return team.mean(loss, len(batch.root))
        at = mask.to(device)
        loss = F.cross_entropy(logits[at], batch.leaves[rows].to(device)[at], reduction=how)
        return team.mean(loss, int(batch.mask.sum()) if team.size > 1 else 0)


def tree_encoder(
    grammar: Grammar, kind: str, **sizes: int | str
) -> HookedFixedLengthEncoder:
    """A fresh encoder for a task: symbols 0 .. q - 1 and q for a mask in, q answers out.

    Args:
        kind: "root" (flat read-out) or "masked" (one at each position).
        sizes: settings of ``models.build_fixed_length_encoder``.

    Raises:
        InputError: an unknown kind, or sizes that cannot work.
    """
    if kind not in KINDS:
        raise InputError(f"task {kind!r}; expected one of {', '.join(KINDS)}")
    build: Callable[..., HookedFixedLengthEncoder] = build_fixed_length_encoder
    return build(
        grammar.q, "flat" if kind == "root" else "position", n_ctx=grammar.n_leaves,
        d_vocab=grammar.q + 1, **sizes,
    )


def as_batch(tokens: Int[Tensor, "n leaf"], labels: Int[Tensor, " n"] | None = None) -> Batch:
    """Token rows of one length as the batch every model and localiser takes."""
    one = torch.ones_like(tokens)
    index = torch.arange(len(tokens), device=tokens.device)
    return Batch(tokens, 0 * one, one, 0 * index if labels is None else labels, index)


def masked_tokens(
    grammar: Grammar, leaves: Int[Tensor, "n leaf"], mask: Bool[Tensor, "n leaf"]
) -> Int[Tensor, "n leaf"]:
    """The leaves with q, the mask's token, where they are masked.

    Raises:
        InputError: leaves or a mask that do not fit the grammar.
    """
    check_leaves(grammar, leaves, mask)
    return leaves.masked_fill(mask, grammar.q)


def random_masks(
    n: int, n_leaves: int, max_masks: int, generator: torch.Generator
) -> Bool[Tensor, "n leaf"]:
    """Masks of 1 to ``max_masks`` leaves a sequence, every number and every set equally likely."""
    device = generator.device
    order = torch.rand(n, n_leaves, generator=generator, device=device).argsort(1).argsort(1)
    many = torch.randint(1, max_masks + 1, (n, 1), generator=generator, device=device)
    return order < many


@torch.no_grad()
def tree_log_probs(
    model: HookedModel, tokens: Int[Tensor, "n leaf"], mask: Bool[Tensor, "n leaf"] | None = None,
    *, batch_size: int = 512,
) -> Float[Tensor, "answer q"]:
    """Log probabilities of the root of each sequence, or of its masked leaves, on the CPU.

    Args:
        mask: of a model with an answer at each position: the answers wanted, in the order of
            ``mask.nonzero()``. ``tokens`` must have the mask's own token there (``masked_tokens``):
            with symbols the model reads the answers.
    """
    rows = []
    for start in range(0, len(tokens), batch_size):
        part = slice(start, start + batch_size)
        logits = forward(model, as_batch(tokens[part]))
        if mask is not None:
            logits = logits[mask[part].to(logits.device)]
        rows.append(logits.double().log_softmax(-1).cpu())
    return torch.cat(rows)


def seeded(device: str | torch.device, *numbers: int) -> torch.Generator:
    """A generator decided by several numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
