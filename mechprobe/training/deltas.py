"""One resident model, many sparse changes of its weights: applied in place, undone bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.runs.files import read_arrays, write_arrays


@dataclass(frozen=True)
class Delta:
    """New values of some weights of a model.

    Attributes:
        index: places in the model's weights, laid end to end in the order of
            ``named_parameters``; ascending, int64.
        value: what stands there, in the model's dtype.
        n_weights: weights of the model the delta belongs to.
    """

    index: Int[Tensor, " changed"]
    value: Float[Tensor, " changed"]
    n_weights: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def share(self) -> float:
        """Share of the model's weights that change."""
        return len(self) / self.n_weights

    def save(self, path: str | Path) -> None:
        """Keep it as safetensors."""
        write_arrays(Path(path), {
            "index": self.index, "value": self.value, "n_weights": np.array(self.n_weights),
        })

    @classmethod
    def load(cls, path: str | Path) -> Delta:
        """Read what ``save`` wrote; raises InputError when it is missing or damaged."""
        found = read_arrays(Path(path))
        try:
            index, value = torch.from_numpy(found["index"]), torch.from_numpy(found["value"])
            return cls(index, value, int(found["n_weights"]))
        except KeyError as error:
            raise InputError(f"{path} holds no delta (no {error}); save it again") from None


class ResidentWeights:
    """A model's weights and gradients as two flat vectors, while ``flat_weights`` is open.

    Attributes:
        flat: all weights laid end to end; the model computes with this memory.
        grad: their gradients; ``backward`` adds to this memory.
        names, starts: the parameters and where each begins; starts has one end more.
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        kinds = {(p.dtype, p.device) for _, p in named}
        if len(kinds) != 1:
            raise InputError(f"weights of {len(kinds)} kinds {sorted(map(str, kinds))}; convert "
                             "the model to one dtype and device")
        self.names = [name for name, _ in named]
        self.starts = np.cumsum([0, *(p.numel() for _, p in named)])
        self.flat = torch.cat([p.detach().reshape(-1) for _, p in named])
        self.grad = torch.zeros_like(self.flat)
        self._parameters = [p for _, p in named]
        self._before = [(p.requires_grad, p.grad) for p in self._parameters]
        for p, low, high in zip(self._parameters, self.starts[:-1], self.starts[1:], strict=True):
            p.data = self.flat[low:high].view(p.shape)
            p.requires_grad_(True)
            p.grad = self.grad[low:high].view(p.shape)

    def __len__(self) -> int:
        return len(self.flat)

    def release(self) -> None:
        """Give every parameter memory of its own again, with the values it has now."""
        for p, (wanted, grad) in zip(self._parameters, self._before, strict=True):
            p.data = p.data.clone()
            p.grad = grad
            p.requires_grad_(wanted)

    def movable(self, exclude: Sequence[str] = ()) -> Int[Tensor, " weight"] | None:
        """Places of the weights whose parameter's name holds none of the words excluded.

        None stands for all of them: places would take twice the memory of the weights.

        Raises:
            InputError: nothing is left.
        """
        if not exclude:
            return None
        keep = torch.ones(len(self.flat), dtype=torch.bool, device=self.flat.device)
        for name, low, high in zip(self.names, self.starts[:-1], self.starts[1:], strict=True):
            if any(word in name for word in exclude):
                keep[low:high] = False
        if not bool(keep.any()):
            raise InputError(
                f"excluding {', '.join(exclude)} leaves no weight; the parameters are named like "
                f"{self.names[0]}"
            )
        return keep.nonzero()[:, 0]

    @contextmanager
    def restored(self) -> Iterator[Float[Tensor, " weight"]]:
        """Whatever is changed inside the block is undone after it, bit by bit; yields a copy."""
        before = self.flat.clone()
        try:
            yield before
        finally:
            self.flat.copy_(before)
            self.grad.zero_()

    @contextmanager
    def applied(self, delta: Delta) -> Iterator[None]:
        """The model has the delta's values inside the block and its own again after it.

        Raises:
            InputError: a delta of a model of another size.
        """
        if delta.n_weights != len(self.flat):
            raise InputError(
                f"the delta belongs to a model of {delta.n_weights} weights, this one has "
                f"{len(self.flat)}"
            )
        index = delta.index.to(self.flat.device)
        before = self.flat[index]
        try:
            self.flat[index] = delta.value.to(self.flat)
            yield
        finally:
            self.flat[index] = before

    def delta_from(
        self, base: Float[Tensor, " weight"], keep: int | None = None
    ) -> Delta:
        """What differs from ``base``; with ``keep`` only the so many largest changes."""
        index = (self.flat != base).nonzero()[:, 0]
        if keep is not None and len(index) > keep:
            change = (self.flat[index] - base[index]).abs()
            index = index[change.topk(keep).indices].sort().values
        return Delta(index.cpu(), self.flat[index].cpu().clone(), len(self.flat))


@contextmanager
def flat_weights(model: nn.Module) -> Iterator[ResidentWeights]:
    """Lay a model's weights and gradients end to end for the block; afterwards all is as before.

    Values are kept to the bit, and so are ``requires_grad`` and ``grad``; weights that the block
    changed stay changed.

    Raises:
        InputError: weights of several dtypes or devices.
    """
    weights = ResidentWeights(model)
    try:
        yield weights
    finally:
        weights.release()
