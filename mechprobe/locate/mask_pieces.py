"""Gradients of a search in pieces that fit in memory: some members, and some examples, at a time.

How many is first estimated; where memory runs out all the same, the piece is halved and tried
again, and at the last the engine computes again on the way back what it has no room to keep. Pieces
change no result beyond rounding: members never mix, and a mean over a batch is put together from
the means of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.locate.mask_gradients import Gradients, sparing
from mechprobe.locate.mask_memory import give_back_freed
from mechprobe.tasks.batches import Batch

Objective = Callable[[Tensor, Batch, Tensor | None], Tensor]
"""From logits [batch, ...], their batch and the full model's logits to one mean."""


@dataclass(frozen=True)
class Portion:
    """Some examples of a batch.

    Attributes:
        batch: these examples alone.
        full: the full model's logits on them, where they are known.
        weight: their share in the mean over the batch.
    """

    batch: Batch
    full: Tensor | None
    weight: float


def portions(batch: Batch, full: Tensor | None, size: int) -> list[Portion]:
    """A batch by at most ``size`` examples, in order.

    The weight is the share of examples, and of real tokens where the full logits are a language
    model's, whose mean is over tokens.
    """
    if size >= len(batch):
        return [Portion(batch, full, 1.0)]
    real = batch.real("dec").sum(1)
    counts = real if full is not None and full.dim() == 3 else torch.ones_like(real)
    out = []
    for at in range(0, len(batch), size):
        rows = slice(at, at + size)
        part = type(batch)(**{f.name: getattr(batch, f.name)[rows] for f in fields(batch)})
        weight = float(counts[rows].sum()) / float(counts.sum())
        out.append(Portion(part, None if full is None else full[rows], weight))
    return out


class Pieces:
    """Runs ``gradients`` in pieces; a piece that did not fit once is not tried again.

    Args:
        gradients: losses and slopes of some members on one batch.
        members: members at a time at first (None: all).
        examples: examples at a time at first (None: whole batches).
        divisible: whether a batch may be split; not where its examples stand in for one another.
    """

    def __init__(
        self, gradients: Gradients, *, members: int | None = None, examples: int | None = None,
        divisible: bool = True,
    ) -> None:
        self.gradients, self.members, self.divisible = gradients, members, divisible
        self.examples = examples if divisible else None
        self._known: dict[int, tuple[Batch, int | None, list[Portion]]] = {}

    def __call__(
        self, batch: Batch, full: Tensor | None, gates: Float[Tensor, "k site"],
        objective: Objective,
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k site"]]:
        """Mean loss of each member and its gradient with respect to the member's gates.

        Raises:
            RuntimeError: memory does not suffice for one example of one member.
        """
        while True:
            try:
                return self._once(batch, full, gates, objective)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not self._smaller(batch, len(gates)):
                    raise
            give_back_freed()  # what the error's frames held is free now

    def _once(
        self, batch: Batch, full: Tensor | None, gates: Tensor, objective: Objective
    ) -> tuple[Tensor, Tensor]:
        rows = []
        for some in gates.split(self.members or len(gates)):
            losses, slopes = some.new_zeros(len(some)), torch.zeros_like(some)
            for portion in self._portions(batch, full):

                def loss(logits: Tensor, own: Batch, portion: Portion = portion) -> Tensor:
                    return objective(logits, own, portion.full)

                found = self.gradients(portion.batch, some, loss)
                losses += portion.weight * found[0].to(losses)
                slopes += portion.weight * found[1].to(slopes)
            rows.append((losses, slopes))
        return torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows])

    def _portions(self, batch: Batch, full: Tensor | None) -> Sequence[Portion]:
        """The batch's portions; the same objects in every epoch, which the engine remembers."""
        known = self._known.get(id(batch))
        if known is None or known[0] is not batch or known[1] != self.examples:
            made = portions(batch, full, self.examples or len(batch))
            known = self._known[id(batch)] = (batch, self.examples, made)
        return known[2]

    def _smaller(self, batch: Batch, k: int) -> bool:
        """Halve what runs at a time, members first, then spare; False when nothing is left."""
        at_once = min(self.members or k, k)
        if at_once > 1:
            self.members = at_once // 2
            return True
        size = min(self.examples or len(batch), len(batch))
        if self.divisible and size > 1:
            self.examples = size // 2
            return True
        if (less := sparing(self.gradients)) is None:
            return False
        self.gradients = less
        return True


SAID = ("can't allocate memory", "not enough memory", "could not create a primitive", "bad_alloc")
"""What torch's CPU allocator, oneDNN (which gives no other reason) and C++ say without memory."""


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, one of its libraries or Python ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in SAID)
