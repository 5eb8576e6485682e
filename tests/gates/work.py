"""What an engine's call multiplies, seen from below it: every matrix product that torch runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Work(TorchDispatchMode):
    """Counts multiplications of products of two matrices and of batches of them, and softmaxes.

    Attributes:
        linear: multiplications with weights.
        batched: multiplications of attention, its scores and its values.
        softmaxes: numbers that went through a softmax or back through one.
        calls: how often each operator ran.
        shapes: of each product with weights: rows, into, out.
    """

    linear: int = 0
    batched: int = 0
    softmaxes: int = 0
    calls: Counter = field(default_factory=Counter)
    shapes: list = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._opname
        self.calls[name] += 1
        if function.namespace == "mechprobe":  # look inside the project's own operators
            with self:
                return OPDEFS[f"mechprobe::{name}"]._init_fn(*args, **(kwargs or {}))
        out = function(*args, **(kwargs or {}))
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if name in ("mm", "addmm", "matmul"):
            a, b = tensors[-2:]
            self._add(a.shape[0], a.shape[1], b.shape[1])
        elif name in ("linear", "_linear_pointwise"):
            self._add(out.numel() // out.shape[-1], tensors[0].shape[-1], out.shape[-1])
        elif name == "bmm":
            a, b = tensors[:2]
            self.batched += a.numel() * b.shape[2]
        elif name in ("_softmax", "_softmax_backward_data"):
            self.softmaxes += tensors[0].numel()
        return out

    def _add(self, rows, into, out):
        self.linear += rows * into * out
        self.shapes.append((rows, into, out))


def work_of(run):
    """What one call costs."""
    with Work() as work:
        run()
    return work
