"""Bytes of tensors that are alive at once while something runs, seen from below torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Live(TorchDispatchMode):
    """Follows the storages that operators make.

    Attributes:
        most: bytes of those alive at the same time, at most.
    """

    most: int = 0
    alive: dict[int, tuple[StorageWeakRef, int]] = field(default_factory=dict)

    def __post_init__(self):
        super().__init__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        self.alive = {k: v for k, v in self.alive.items() if not v[0].expired()}
        for storage in _storages(out):
            if storage._cdata not in given:
                self.alive.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return out


def most_alive(run):
    """The most bytes of tensors, made by this call, that were alive at once."""
    with Live() as live:
        run()
    return live.most


def _storages(values):
    """Of all tensors in there; weights that oneDNN has laid out for itself show none."""
    tensors = (t for t in tree_leaves(values) if isinstance(t, torch.Tensor) and not t.is_mkldnn)
    return [tensor.untyped_storage() for tensor in tensors]
