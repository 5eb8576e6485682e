"""The whole task space of a small model, beside tuning and scoring a separate copy for each task.

    python benchmarks/bench_task_space.py --data ../shared/data [--tasks 67] [--plain-tasks 3]

The model is a 2-layer, d = 64 decoder with a word vocabulary of BLiMP's own sentences (weights are
random: time does not depend on them). Ours: one resident model, sparse deltas, sentences bucketed
by length, only what differs scored. Plain: for each task a deep copy, dense masked steps, one
sentence pair a forward pass in evaluation; a few tasks are measured and scaled to all of them.
Both tune with the same steps, and the margins they give are compared.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch

from mechprobe.models import build_decoder
from mechprobe.tasks.blimp import load_blimp
from mechprobe.tasks.pair_tokens import EncodedPairs, encode_minimal_pairs, subset
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, pair_batch, pair_loss
from mechprobe.training.pair_scores import pair_margins
from mechprobe.training.transfer import transfer_space


def main() -> None:
    """Measure both and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--tasks", type=int, default=67)
    parser.add_argument("--plain-tasks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=50)
    given = parser.parse_args()
    pairs = load_blimp(Path(given.data))
    pairs = pairs.choose(pairs.names[: given.tasks])
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 4_000)
    tuning = encode_minimal_pairs(pairs.part("tune"), tokenizer)
    evaluation = encode_minimal_pairs(pairs.part("evaluate"), tokenizer)
    model = build_decoder(n_layers=2, n_heads=4, d_model=64, n_ctx=64, tokenizer=tokenizer)
    settings = TuneSettings(steps=given.steps, batch=given.batch, lr=0.004)
    began = time.process_time(), time.perf_counter()
    with flat_weights(model) as weights:
        space = transfer_space(model, weights, tuning, evaluation, settings)
    cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    n = len(tuning.names)
    print(f"{n} tasks, {len(evaluation)} evaluation pairs, {torch.get_num_threads()} threads, "
          f"{sum(p.numel() for p in model.parameters()):,} weights")
    print(f"one resident model: {cpu:.0f} s CPU, {wall:.0f} s wall ({cpu / n:.2f} s CPU a task)")
    began_cpu, worst = time.process_time(), 0.0
    for task in range(given.plain_tasks):
        mine = subset(tuning, tuning.of_task(task))
        margins = plain(model, mine, evaluation, settings, seed=task)
        worst = max(worst, float(np.abs(margins - space.after[task]).max()))
    each = (time.process_time() - began_cpu) / given.plain_tasks
    print(f"separate copies, pair by pair: {each:.1f} s CPU a task, {each * n:.0f} s for {n}; "
          f"largest difference of a margin {worst:.1e} nats; {each * n / cpu:.1f} times as long")


def plain(
    model: torch.nn.Module, tuning: EncodedPairs, evaluation: EncodedPairs, settings: TuneSettings,
    seed: int,
) -> np.ndarray:
    """Tune a deep copy with dense arithmetic and score every pair by itself."""
    twin = copy.deepcopy(model)
    rng, mask = np.random.default_rng(seed), None
    for _ in range(settings.steps):
        chosen = np.sort(rng.choice(len(tuning), settings.batch, replace=False))
        twin.zero_grad()
        pair_loss(twin, pair_batch(tuning, chosen, settings), settings)[0].backward()
        grad = torch.cat([p.grad.reshape(-1) for p in twin.parameters() if p.grad is not None])
        if mask is None:
            k = round(settings.top * len(grad))
            mask = torch.zeros_like(grad)
            mask[grad.abs().topk(k).indices] = 1.0
        start = 0
        for p in twin.parameters():
            p.data -= settings.lr * (mask * grad)[start : start + p.numel()].view(p.shape)
            start += p.numel()
    one = [pair_margins(twin, subset(evaluation, np.array([i]))) for i in range(len(evaluation))]
    return np.concatenate(one)


if __name__ == "__main__":
    main()
