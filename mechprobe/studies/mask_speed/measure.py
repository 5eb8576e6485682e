"""Rounds in which every implementation runs in turn, and the ratios within each round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechprobe.gates.engine import Engine
from mechprobe.gates.kernels.product import product
from mechprobe.locate.mask_memory import give_back_freed
from mechprobe.runs import progress
from mechprobe.studies.mask_speed.rival_pyvene import Pyvene, installed
from mechprobe.studies.mask_speed.rivals import Hooks, Published, Vmapped, means
from mechprobe.studies.mask_speed.shapes import SHAPES, Case, Shape

Row = dict[str, Any]
Run = Callable[[], object]


def by_cpu_seconds(device: str) -> bool:
    """One CPU thread is timed by the process' own seconds, which other programs disturb less."""
    return device == "cpu" and torch.get_num_threads() == 1


def rounds(runs: dict[str, tuple[int, Run]], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds a unit of each implementation in each round, after one that is not counted."""
    clock = time.process_time if by_cpu_seconds(device) else time.perf_counter
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, (units, run) in runs.items():
            wait()
            began = clock()
            run()
            wait()
            if turn:
                found[name].append((clock() - began) / units)
    return found


def spread(name: str, values: Sequence[float]) -> Row:
    """Median and range."""
    low, high = f"{name}_low", f"{name}_high"
    return {name: statistics.median(values), low: min(values), high: max(values)}


def rows_of(found: dict[str, list[float]], about: Row) -> list[Row]:
    """A row an implementation: seconds, and how much longer it takes than the engine."""
    ours = found["engine"]
    return [
        {**about, "implementation": name, **spread("seconds", values),
         **spread("ratio", [other / own for own, other in zip(ours, values, strict=True)])}
        for name, values in found.items()
    ]  # fmt: skip


def steps(
    shape: Shape, closed: float, repeats: int, device: str, k: int, rivals: Sequence[str]
) -> list[Row]:
    """A subnetwork-step: loss and gate gradients of one vector on one batch."""
    case = Case(shape, device)
    engine = Engine(case.model, case.grid, case.baseline, remember=2**28)
    gates = case.gates(k, closed)
    wanted = (gates > 0) & (gates < 1)

    def ours() -> tuple[Tensor, Tensor]:
        return engine.gradients(case.batch, gates, case.loss, wanted=wanted)

    runs: dict[str, tuple[int, Run]] = {"engine": (k, ours)}
    losses, slopes = ours()
    if "published" in rivals:
        published = Published(case.hf, case.grid, means(case))
        compare(published(gates[0], case.batch), (losses[0], slopes[0]), wanted[0])
        runs["published"] = (1, lambda: published(gates[0], case.batch))
    if "hooks" in rivals:
        hooks = Hooks(case)
        compare(hooks(gates[0]), (losses[0], slopes[0]), wanted[0])
        runs["hooks"] = (1, lambda: hooks(gates[0]))
    if "pyvene" in rivals:
        pyvene = Pyvene(case)
        compare(pyvene(gates[0]), (losses[0], slopes[0]), wanted[0])
        runs["pyvene"] = (1, lambda: pyvene(gates[0]))
    if "vmap" in rivals:
        vmapped, some = Vmapped(case), gates[:4]
        found = vmapped(some)
        compare((found[0][0], found[1][0]), (losses[0], slopes[0]), wanted[0])
        runs["vmap"] = (len(some), lambda: vmapped(some))
    about = {"task": "subnetwork-step", "shape": shape.name, "layers": shape.n_layers,
             "closed": closed, "k": k}  # fmt: skip
    rows = rows_of(rounds(runs, repeats, device), about)
    rows[0]["share"] = arithmetic(shape, gates) / k / rows[0]["seconds"] / peak(shape, device)
    rows[0]["memory"] = peak_memory(ours)
    return rows


def sweep(shape: Shape, repeats: int, device: str) -> list[Row]:
    """Every head closed alone, forward only, beside one run with hooks each."""
    case = Case(shape, device)
    engine = Engine(case.model, case.grid, case.baseline)
    hooks = Hooks(case)
    n = case.grid.n_head_sites
    gates = torch.ones(n, len(case.grid), device=case.full.device)
    gates[torch.arange(n), torch.arange(n)] = 0

    def ours() -> Tensor:
        return engine.outcomes(case.batch, gates, lambda logits, _: logits)

    @torch.no_grad()
    def loop() -> Tensor:
        return torch.stack([hooks.logits(row) for row in gates])

    torch.testing.assert_close(ours(), loop(), rtol=1e-3, atol=1e-4)
    found = rounds({"engine": (n, ours), "hooks": (n, loop)}, repeats, device)
    about = {"task": "single-head ablation", "shape": shape.name, "layers": shape.n_layers,
             "closed": 1 / len(case.grid), "k": n}  # fmt: skip
    return rows_of(found, about)


def compare(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], wanted: Tensor) -> None:
    """Both give the same loss and the same gradients of the gates that are learned."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-6)
    slopes = torch.where(wanted, found[1], 0.0)
    scale = float(expected[1].abs().max())
    torch.testing.assert_close(slopes, expected[1], rtol=1e-3, atol=1e-3 * scale)


def arithmetic(shape: Shape, gates: Tensor) -> float:
    """Floating-point operations of the matrix products that open gates need, forward and back.

    The first layer's queries, keys, values and attention are shared, and its gradient stops there;
    in a classifier's last layer only keys and values are needed at every position. A language
    model's logits are as many products as its vocabulary has words, forward and back.
    """
    m, rows, s = shape.d_model, shape.batch * shape.positions, shape.positions
    heads = gates[:, : shape.n_layers * shape.n_heads] != 0
    open_ = heads.view(len(gates), shape.n_layers, -1).double().mean(2)
    mlps = (gates[:, shape.n_layers * shape.n_heads :] != 0).double()
    total = 0.0
    for layer in range(shape.n_layers):
        last, first = layer == shape.n_layers - 1 and not shape.writes, layer == 0
        inside = 0.0 if first else (2 * m * m + (0 if last else m * m + 2 * s * m))
        outside = 0.0 if last else m * m
        share = open_[:, layer].sum().item()
        back = inside + outside + (0.0 if first or last else 2 * s * m)
        total += 2 * rows * share * (inside + outside + back)
        total += 0.0 if last else 2 * rows * mlps[:, layer].sum().item() * 2 * 8 * m * m
    return total + (len(gates) * 2 * 2 * rows * m * shape.vocabulary if shape.writes else 0.0)


def peak(shape: Shape, device: str) -> float:
    """Operations a second of the largest matrix product of this shape, here and now."""
    m, rows = shape.d_model, shape.batch * shape.positions
    x, weight = torch.randn(rows, m, device=device), torch.randn(4 * m, m, device=device)
    found = rounds({"product": (1, lambda: product(x, weight))}, 15, device)["product"]
    return 2 * rows * m * 4 * m / min(found)


def peak_memory(run: Run) -> float | None:
    """MiB that a run takes at most beyond what is held before it (Linux, CPU); else None.

    What was freed before, and kept by the allocator, is given back first: it would hide the run.
    """
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    give_back_freed()
    try:
        clear.write_text("5")
    except OSError:
        return None

    def held(name: str) -> int:
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    before = held("VmRSS")
    run()
    taken = (held("VmHWM") - before) / 1024
    return taken if taken > 0 else None  # some systems do not reset the high-water mark


def beside(shape: Shape) -> tuple[list[str], int]:
    """Which rivals run beside the engine, and how many members; fewer where a step takes seconds.

    pyvene knows GPT-2 alone, and takes part where it is installed; ``torch.func.vmap`` is written
    out for classifiers.
    """
    rivals = ["published", "hooks"]
    if shape.writes:
        return [*rivals, *(["pyvene"] if installed() else [])], 4
    large = shape.d_model * shape.n_layers * shape.batch * shape.positions > 2**24
    return (rivals, 2) if large else ([*rivals, "vmap"], 8)


def measure(
    shapes: Sequence[str],
    repeats: int,
    device: str,
    *,
    closed: Sequence[float] = (0.0, 0.25, 0.5, 0.7),
    members: Sequence[int] = (),
    layers: Sequence[int] = (),
    on_rows: Callable[[list[Row]], object] | None = None,
) -> list[Row]:
    """Rows of the benchmark: each shape by share closed beside the others, then by K and layers.

    Args:
        shapes: names in ``SHAPES``; "sweep" is the single-head ablation of a 12-layer model.
        repeats: rounds; one more comes first and is not counted.
        closed: shares of heads and MLPs closed.
        members: numbers of members for which the first shape is timed alone, half closed.
        layers: depths at which the first shape is timed beside the published formulation.
        on_rows: called with the rows of each part when it is done.
    """
    rows: list[Row] = []
    plan: list[Callable[[], list[Row]]] = []
    for name in shapes:
        shape = SHAPES[name]
        if name == "sweep":
            plan.append(lambda s=shape: sweep(s, repeats, device))
            continue
        some, k = beside(shape)
        for share in closed:
            plan.append(lambda s=shape, c=share, r=some, k=k: steps(s, c, repeats, device, k, r))
    first = SHAPES[shapes[0] if shapes else "small"]
    for k in members:
        many = max(2, min(repeats, 256 // k))
        plan.append(lambda k=k, n=many: steps(first, 0.5, n, device, k, ()))
    for n_layers in layers:
        deep = first.deep(n_layers)
        plan.append(lambda s=deep: steps(s, 0.5, repeats, device, 8, ["published"]))
    with progress(len(plan), "bench masks") as bar:
        for part in plan:
            found = part()
            rows += found
            if on_rows is not None:
                on_rows(found)
            bar.update(1)
    return rows
