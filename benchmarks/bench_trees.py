"""Sequences a second of sampling and exact inference on trees, beside what one would write first.

    OMP_NUM_THREADS=1 python benchmarks/bench_trees.py

Each comparison runs all its implementations in turn, several times over, in one process; a ratio is
taken within each round, and its median and range over rounds are reported. Two other
implementations are timed: the obvious one, a Python loop over sequences and nodes with NumPy, and a
straightforward batched one in torch. Before anything is timed their results are compared. One CPU
thread is timed by its own CPU seconds, which other programs disturb less than the clock; more
threads or a GPU by the clock.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechprobe.runs.files import atomic_write
from mechprobe.runs.tables import write_table
from mechprobe.trees import Grammar, belief_propagation, make_sampler, sample

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results"


def sample_loop(grammar: Grammar, n: int, rng: np.random.Generator) -> np.ndarray:
    """One sequence and one node after the other, with ``rng.choice``."""
    q, rows = grammar.q, grammar.transition.numpy().reshape(grammar.q, -1)
    leaves = []
    for _ in range(n):
        nodes = [int(rng.integers(q))]
        for _ in range(grammar.depth):
            pairs = [int(rng.choice(q * q, p=rows[a])) for a in nodes]
            nodes = [child for pair in pairs for child in divmod(pair, q)]
        leaves.append(nodes)
    return np.array(leaves)


def sample_multinomial(grammar: Grammar, n: int, generator: torch.Generator) -> Tensor:
    """All sequences at once, with ``torch.multinomial``."""
    q, rows = grammar.q, grammar.transition.flatten(1)
    nodes = torch.randint(q, (n, 1), generator=generator)
    for _ in range(grammar.depth):
        pairs = torch.multinomial(rows[nodes.flatten()], 1, generator=generator)
        nodes = torch.cat([pairs // q, pairs % q], dim=1).view(n, -1)
    return nodes


def infer_loop(grammar: Grammar, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root posterior and leaf marginals, one sequence and one node after the other (k = 0)."""
    rules, q = grammar.transition.numpy(), grammar.q
    roots, marginals = [], []
    for row in leaves:
        up = [[np.eye(q)[symbol] for symbol in row]]
        while len(up[-1]) > 1:
            level = []
            for left, right in zip(up[-1][::2], up[-1][1::2]):
                message = (rules @ right) @ left
                level.append(message / message.sum())
            up.append(level)
        roots.append(up[-1][0])
        down = [np.full(q, 1 / q)]
        for level in reversed(up[:-1]):
            below = []
            for message, left, right in zip(down, level[::2], level[1::2]):
                joint = np.tensordot(message, rules, 1)
                for sent in (joint @ right, left @ joint):
                    below.append(sent / sent.sum())
            down = below
        marginals.append(np.stack(down))
    return np.stack(roots), np.stack(marginals)


def infer_einsum(grammar: Grammar, leaves: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same for all sequences at once, a level at a time, sequences first, with einsum."""
    rules, q = grammar.transition.to(dtype), grammar.q
    up = [torch.nn.functional.one_hot(leaves, q).to(dtype)]
    for _ in range(grammar.depth):
        left, right = up[-1][:, ::2], up[-1][:, 1::2]
        message = torch.einsum("abc,nib,nic->nia", rules, left, right)
        up.append(message / message.sum(-1, keepdim=True))
    down = torch.full_like(up[-1], 1 / q)
    for level in reversed(up[:-1]):
        left, right = level[:, ::2], level[:, 1::2]
        to_left = torch.einsum("nia,abc,nic->nib", down, rules, right)
        to_right = torch.einsum("nia,abc,nib->nic", down, rules, left)
        sent = torch.stack([to_left, to_right], dim=2).flatten(1, 2)
        down = sent / sent.sum(-1, keepdim=True)
    return up[-1][:, 0], down


def rates(
    runs: dict[str, tuple[int, Callable[[], object]]], repeats: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Sequences a second of each implementation in each round, after one round of warm-up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    sync = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    clock = time.process_time if by_cpu_seconds(device) else time.perf_counter
    for round_ in range(repeats + 1):
        for name, (n, run) in runs.items():
            sync()
            start = clock()
            run()
            sync()
            if round_:
                found[name].append(n / (clock() - start))
    return found


def by_cpu_seconds(device: str) -> bool:
    return device == "cpu" and torch.get_num_threads() == 1


def infer(grammar: Grammar, leaves: Tensor, dtype: torch.dtype, k: int = 0) -> object:
    return belief_propagation(grammar, leaves, k, levels=(), dtype=dtype)


def compare(repeats: int, n: int, n_loop: int, check: int = 50) -> list[Row]:
    """Ours beside the loop and the plain batched version: q = 4, depth 4, k = 0."""
    grammar = Grammar.random(q=4, depth=4)
    leaves = sample(grammar, n, seed=1).leaves
    some = leaves[:check]
    exact = belief_propagation(grammar, some)
    assert exact.leaf_marginals is not None
    for root, marginals in (infer_loop(grammar, some.numpy()),
                            infer_einsum(grammar, some, torch.float64)):
        np.testing.assert_allclose(root, exact.root, atol=1e-12)
        np.testing.assert_allclose(marginals, exact.leaf_marginals, atol=1e-12)

    sampler, generator = make_sampler(grammar), torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    cases: dict[str, dict[str, tuple[int, Callable[[], object]]]] = {
        "sampling": {
            "mechprobe": (n, lambda: sampler.draw(n, generator)),
            "batched": (n, lambda: sample_multinomial(grammar, n, generator)),
            "loop": (n_loop, lambda: sample_loop(grammar, n_loop, rng)),
        },
        "inference, float64": {
            "mechprobe": (n, lambda: infer(grammar, leaves, torch.float64)),
            "batched": (n, lambda: infer_einsum(grammar, leaves, torch.float64)),
            "loop": (n_loop, lambda: infer_loop(grammar, leaves[:n_loop].numpy())),
        },
        "inference, float32": {
            "mechprobe": (n, lambda: infer(grammar, leaves, torch.float32)),
            "batched": (n, lambda: infer_einsum(grammar, leaves, torch.float32)),
        },
    }
    rows = []
    for task, runs in cases.items():
        found = rates(runs, repeats)
        for name, values in found.items():
            ratio = [ours / other for ours, other in zip(found["mechprobe"], values)]
            rows.append({"task": task, "implementation": name} | spread("rate", values)
                        | spread("ratio", ratio))
    return rows


def scaling(repeats: int, work: int, device: str, depths: Sequence[int], qs: Sequence[int],
            batches: Sequence[int]) -> list[Row]:
    """Sampling and inference, one setting varied at a time about q = 4, depth 4, 10,000 rows."""
    settings = [("q", q, q, 4, None, 0) for q in qs]
    settings += [("depth", depth, 4, depth, None, 0) for depth in depths]
    settings += [("batch", batch, 4, 4, batch, 0) for batch in batches]
    settings += [("k", k, 4, 4, None, k) for k in range(5)]
    rows = []
    for varied, value, q, depth, batch, k in settings:
        n = batch or max(4, min(10_000, work // (2**depth * q**3)))
        found = timed(Grammar.random(q, depth), n, k, repeats, device)
        rows += [
            {"varied": varied, "value": value, "q": q, "depth": depth, "k": k, "rows": n,
             "task": task} | spread("rate", values)
            for task, values in found.items()
        ]
    return rows


def timed(
    grammar: Grammar, n: int, k: int, repeats: int, device: str
) -> dict[str, list[float]]:
    """Ours alone in one setting; few rows are too quick to time once, so they take turns."""
    sampler = make_sampler(grammar, k, device=device)
    generator = torch.Generator(device).manual_seed(0)
    leaves = sampler.draw(n, generator).leaves
    turns = max(1, 1000 // n)

    def draw() -> None:
        for _ in range(turns):
            sampler.draw(n, generator)

    def infer_in(dtype: torch.dtype) -> Callable[[], object]:
        return lambda: [infer(grammar, leaves, dtype, k) for _ in range(turns)]

    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "sampling": (n * turns, draw),
        "inference, float32": (n * turns, infer_in(torch.float32)),
        "inference, float64": (n * turns, infer_in(torch.float64)),
    }
    return rates(runs, repeats, device)


def spread(name: str, values: Sequence[float]) -> Row:
    return {
        name: statistics.median(values), f"{name}_low": min(values), f"{name}_high": max(values)
    }


def report(compared: list[Row], scaled: list[Row], repeats: int, device: str) -> str:
    threads = f"{torch.get_num_threads()} thread(s) of {processor()}"
    where = threads if device == "cpu" else torch.cuda.get_device_name(device)
    unit = "CPU seconds of the process" if by_cpu_seconds(device) else "seconds by the clock"
    lines = [
        "# Trees: sequences a second",
        "",
        f"Median of {repeats} rounds, range in brackets, in {unit}; torch {torch.__version__}. "
        f"Comparison on {threads}, scaling on {where}. Inference is the root posterior, every "
        "leaf's marginal given all others, and the evidence. `loop` is Python over sequences and "
        "nodes with NumPy; `batched` is one `torch.multinomial` or `einsum` a level for all "
        "sequences at once.",
        "",
        "## Beside other implementations (q = 4, depth 4, k = 0)",
        "",
        "| Task | Implementation | Sequences a second | mechprobe is faster by |",
        "| --- | --- | --- | --- |",
    ]
    for row in compared:
        times = "" if row["implementation"] == "mechprobe" else (
            f"{row['ratio']:.3g} [{row['ratio_low']:.3g}, {row['ratio_high']:.3g}]"
        )
        lines.append(f"| {row['task']} | {row['implementation']} | {rate(row)} | {times} |")
    tasks = list(dict.fromkeys(row["task"] for row in scaled))
    for varied in dict.fromkeys(row["varied"] for row in scaled):
        part = [row for row in scaled if row["varied"] == varied]
        lines += ["", f"## By {varied}", "",
                  f"| {varied} | rows | " + " | ".join(tasks) + " |", "| --- " * 5 + "|"]
        for first, *others in zip(*[iter(part)] * len(tasks)):
            cells = " | ".join(rate(row) for row in (first, *others))
            lines.append(f"| {first['value']} | {first['rows']:,} | {cells} |")
    lines += ["", "Settings not named: q = 4, depth 4, k = 0.", ""]
    return "\n".join(lines)


def rate(row: Row) -> str:
    middle, low, high = (row[name] for name in ("rate", "rate_low", "rate_high"))
    return f"{rounded(middle)} [{rounded(low)}, {rounded(high)}]"


def rounded(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text(encoding="utf-8").splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the scaling; the comparison is on CPU")
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it runs")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    n, n_loop, work = (500, 5, 100_000) if given.quick else (200_000, 300, 200_000_000)
    depths, qs = ((2, 3), (2, 4)) if given.quick else ((2, 3, 4, 6, 8, 10), (2, 4, 8, 16, 32))
    batches = (1, 64) if given.quick else (1, 64, 1_000, 10_000, 100_000)
    compared = compare(given.repeats, n, n_loop)
    scaled = scaling(given.repeats, work, given.device, depths, qs, batches)
    write_table(given.out / "trees-comparison.csv", pd.DataFrame(compared))
    write_table(given.out / "trees-scaling.csv", pd.DataFrame(scaled))
    text = report(compared, scaled, given.repeats, given.device)
    atomic_write(given.out / "trees.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
