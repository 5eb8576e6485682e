"""The whole task space of a small model, beside tuning and scoring a separate copy for each task.

    python benchmarks/bench_task_space.py --data ../shared/data [--tasks 67] [--copies 1]

The model is a 2-layer, d = 64 decoder with a word vocabulary of BLiMP's own sentences (weights are
random: time does not depend on them). Ours: one resident model, sparse deltas, sentences bucketed
by length, only what differs scored. Beside it, for a few tasks scaled to all of them: a deep copy
of the model tuned by dense masked steps, scored in padded batches in the order of the file with
all logits, and scored pair by pair. All tune with the same steps, and the margins they give are
compared.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mechprobe.models import build_decoder
from mechprobe.models.edits import HookedModel
from mechprobe.tasks.blimp import load_blimp
from mechprobe.tasks.pair_tokens import EncodedPairs, encode_minimal_pairs, subset
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.deltas import flat_weights
from mechprobe.training.ftgd import TuneSettings, pair_batch, pair_loss
from mechprobe.training.pair_scores import pair_margins
from mechprobe.training.transfer import transfer_space


def main() -> None:
    """Measure all and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--tasks", type=int, default=67)
    parser.add_argument("--copies", type=int, default=1, help="separate copies that are measured")
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
    n = len(tuning.names)
    print(f"{n} tasks, {len(evaluation)} evaluation pairs, {torch.get_num_threads()} threads, "
          f"{sum(p.numel() for p in model.parameters()):,} weights", flush=True)
    cpu, wall = time.process_time(), time.perf_counter()
    with flat_weights(model) as weights:
        space = transfer_space(model, weights, tuning, evaluation, settings)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"one resident model: {cpu:.0f} s CPU, {wall:.0f} s wall ({cpu / n:.2f} s CPU a task)",
          flush=True)
    for name, score in (("in padded batches", padded), ("pair by pair", one_by_one)):
        began, worst = time.process_time(), 0.0
        for task in range(given.copies):
            mine = subset(tuning, tuning.of_task(task))
            margins = score(tuned_copy(model, mine, settings, task), evaluation)
            worst = max(worst, float(np.abs(margins - space.after[task]).max()))
        each = (time.process_time() - began) / given.copies
        print(f"separate copies, scored {name}: {each:.1f} s CPU a task, {each * n:.0f} s for {n}, "
              f"{each * n / cpu:.1f} times as long; largest difference of a margin {worst:.1e} "
              "nats", flush=True)


def tuned_copy(
    model: HookedModel, tuning: EncodedPairs, settings: TuneSettings, seed: int
) -> HookedModel:
    """A deep copy of the model, tuned with dense arithmetic."""
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
    return twin


def padded(model: Callable[..., torch.Tensor], pairs: EncodedPairs) -> np.ndarray:
    """log P(x+) - log P(x-) of every pair: batches of 64 sentences as they come, all logits."""
    sums = []
    for start in range(0, 2 * len(pairs), 64):
        rows = np.arange(start, min(start + 64, 2 * len(pairs)))
        batch = pairs.batch(rows, whole=True)
        with torch.no_grad():
            logp = model(batch.tokens, padding_side="right").log_softmax(-1)
        each = logp[:, :-1].gather(2, batch.tokens[:, 1:, None])[..., 0]
        sums.append((each * batch.scored[:, 1:]).sum(1).double().numpy())
    every = np.concatenate(sums)
    return every[0::2] - every[1::2]


def one_by_one(model: HookedModel, pairs: EncodedPairs) -> np.ndarray:
    """log P(x+) - log P(x-) of every pair, a forward pass each."""
    one = [pair_margins(model, subset(pairs, np.array([i]))) for i in range(len(pairs))]
    return np.concatenate(one)


if __name__ == "__main__":
    main()
