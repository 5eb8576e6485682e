"""Several processes that train one model, each on its rows of every batch.

``accelerate launch`` or ``torchrun`` starts them. The first works through a study and calls the
others to each fit; loss and gradients are then those of the whole batch, up to rounding, so every
process takes the same step. Alone, a process is a crew of one and nothing is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from mechprobe.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = timedelta(days=30)  # between two fits the first process may do other work for long


@dataclass(frozen=True)
class Crew:
    """A process's place among those that fit one model.

    Attributes:
        rank: from 0; the first one writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def rows(self, n: int) -> slice:
        """This process's rows of a batch of n.

        Raises:
            InputError: fewer rows than processes.
        """
        if n < self.size:
            raise InputError(
                f"a batch of {n} cannot be shared by {self.size} processes; start at most {n}, or "
                "take a larger batch"
            )
        return slice(self.rank, None, self.size)

    @property
    def reduction(self) -> str:
        """What cross-entropy does over this process's values, before ``mean``."""
        return "mean" if self.size == 1 else "sum"

    def mean(self, loss: Tensor, n: int) -> Tensor:
        """This process's part of a mean over the n values of the whole batch.

        Args:
            loss: alone the mean itself, else the sum over this process's values.
        """
        return loss if self.size == 1 else loss / n

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(
            gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def total(self, loss: Tensor) -> float:
        """The loss of the whole batch, from this process's part of it."""
        value = loss.detach().clone()
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)
        return float(value)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, ``crew()`` is this one."""
        token = _CREW.set(self)
        try:
            yield
        finally:
            _CREW.reset(token)


@dataclass
class _Unit:
    """The unit of a study that this process is at, and whether the others were called to it."""

    name: str
    called: bool


ALONE = Crew()
_CREW: ContextVar[Crew] = ContextVar("crew", default=ALONE)
_UNIT: ContextVar[_Unit | None] = ContextVar("unit", default=None)


def crew() -> Crew:
    """The processes that compute the loss of one batch now."""
    return _CREW.get()


def gather() -> Crew:
    """All processes, called to a fit, inside a unit of a study; elsewhere this one alone."""
    place, unit = _place(), _UNIT.get()
    if place.size == 1 or unit is None:
        return ALONE
    if not unit.called:
        _tell(unit.name)
        unit.called = True
    _wait()
    return place


@contextmanager
def at_unit(name: str, *, called: bool = False) -> Iterator[None]:
    """Inside, ``gather`` calls the others to this unit; ``called``: they are there."""
    token = _UNIT.set(_Unit(name, called))
    try:
        yield
    finally:
        _UNIT.reset(token)


def launched() -> int:
    """How many processes ``accelerate launch`` or ``torchrun`` started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def joined(device: str) -> Iterator[Crew]:
    """Connect the processes that were started, each with its own GPU where ``device`` is one."""
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    yield _place()
    dist.destroy_process_group()  # not after an error: then the launcher ends the others


def told() -> str | None:
    """In all processes but the first: the unit they are called to next; None: there is no more."""
    return _tell(None)


def dismiss() -> None:
    """In the first process: tell the others that there is no more."""
    _tell(None)


def _tell(name: str | None) -> str | None:
    import torch.distributed as dist

    box = [name]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _wait() -> None:
    import torch.distributed as dist

    dist.barrier()


def _place() -> Crew:
    if "torch" not in sys.modules:
        return ALONE
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Crew(dist.get_rank(), dist.get_world_size())
