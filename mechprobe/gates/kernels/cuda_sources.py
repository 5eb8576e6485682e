"""Hand-written CUDA C++ for the gates, compiled by NVRTC on first use; off unless asked for.

Not measured: no GPU was at hand when it was written. The sources are compile-checked, and run
block by block on a CPU against PyTorch, by the tests. ``MECHPROBE_CUDA_SOURCES=1`` switches them on
for float32 tensors on a CUDA device; everything runs without them, and without a compiler.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "cuda"
SOURCES = {
    "hard_concrete_f32": "hard_concrete.cu",
    "gated_add_f32": "gated_add.cu",
    "gated_add_backward_f32": "gated_add.cu",
}
THREADS = 256


@dataclass(frozen=True)
class Launch:
    """One kernel call: blocks in x and y, each of ``THREADS``, and the kernel's arguments."""

    kernel: str
    grid: tuple[int, int]
    args: tuple[Tensor | int | float, ...]


def wanted(*tensors: Tensor | None) -> bool:
    """Whether these go through the sources: asked for, on a CUDA device, all float32."""
    given = [t for t in tensors if t is not None]
    return (
        given[0].is_cuda
        and os.environ.get("MECHPROBE_CUDA_SOURCES") == "1"
        and all(t.is_cuda and t.dtype == torch.float32 for t in given)
        and hasattr(torch.cuda, "_compile_kernel")
    )


@cache
def compiled(kernel: str, device: int) -> Callable[..., Any]:
    """A kernel of a device, compiled by the NVRTC that comes with PyTorch."""
    source = (FOLDER / SOURCES[kernel]).read_text(encoding="utf-8")
    with torch.cuda.device(device):
        return torch.cuda._compile_kernel(source, kernel, cuda_include_dirs=[str(FOLDER)])


def run(launch: Launch) -> None:
    """Put a kernel call on the current stream of its first argument's device."""
    first = launch.args[0]
    assert isinstance(first, Tensor)
    with torch.cuda.device(first.device):
        compiled(launch.kernel, first.get_device())(
            grid=(*launch.grid, 1), block=(THREADS, 1, 1), args=list(launch.args)
        )


def hard_concrete(
    log_alpha: Tensor, u: Tensor, left: float, right: float, temperature: float, eps: float
) -> tuple[Launch, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The call, and what it fills: gates, closed share [k], and the slopes of both [k, site]."""
    k, sites = log_alpha.shape
    gates, slope, closed_slope = (log_alpha.new_empty(k, sites) for _ in range(3))
    closed = log_alpha.new_empty(k)
    args = (
        log_alpha.contiguous(), u.contiguous(), gates, closed, slope, closed_slope, sites,
        float(left), float(right), float(temperature), float(eps),
    )  # fmt: skip
    return Launch("hard_concrete_f32", (k, 1), args), (gates, closed, slope, closed_slope)


def gated_add(
    stream: Tensor, own: Tensor, gates: Tensor, stand: Tensor | None, members: tuple[int, ...]
) -> tuple[Launch, Tensor]:
    """The call, and what it fills; arguments as of ``mechprobe.gates.kernels.gated_add``."""
    _, batch, positions, width = stream.shape
    n, size = len(gates), batch * positions * width
    rows = [-1] * n
    for place, member in enumerate(members):
        rows[member] = place if len(own) == len(members) else 0
    row_of = torch.tensor(rows, dtype=torch.int32, device=stream.device)
    out = stream.new_empty(n, batch, positions, width)
    there, steps = _stand(stand, stream)
    args = (
        stream.contiguous(), own.contiguous(), gates.contiguous(), there, row_of, out, size,
        int(len(stream) == 1), positions, width, *steps,
    )  # fmt: skip
    return Launch("gated_add_f32", (-(-size // THREADS), n), args), out


def gated_add_backward(
    grad: Tensor, own: Tensor, gates: Tensor, stand: Tensor | None, members: tuple[int, ...]
) -> tuple[Launch, tuple[Tensor, Tensor]]:
    """The call, and what it fills: gradients of ``own`` of each member, and of gates [n, batch]."""
    n, batch, positions, width = grad.shape
    into_own = grad.new_empty(len(members), batch, positions, width)
    found = gates.new_zeros(n, batch)
    vector_of = torch.tensor(members, dtype=torch.int32, device=grad.device)
    there, steps = _stand(stand, grad)
    args = (
        grad.contiguous(), own.contiguous(), gates.contiguous(), there, vector_of, into_own, found,
        positions * width, positions, width, *steps,
    )  # fmt: skip
    return Launch("gated_add_backward_f32", (batch, len(members)), args), (into_own, found)


def _stand(stand: Tensor | None, like: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Stand-ins [1, batch or 1, pos or 1, d_model], and their steps by example and position."""
    if stand is None:
        return like.new_zeros(like.shape[-1]), (0, 0)
    _, batch, positions, width = stand.shape
    steps = (positions * width if batch > 1 else 0, width if positions > 1 else 0)
    return stand.contiguous(), steps
