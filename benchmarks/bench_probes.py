"""All probes of a model at once, beside loops of single probes and the original formulation.

    OMP_NUM_THREADS=1 python benchmarks/bench_probes.py --treebank EN_EWT_DEV.conllu

Probes of every stream of MiniLM on sentences of a treebank, and of a small encoder on sentences of
our own. Ways to fit them, on the same vectors with the same first parameters, batches and learning
rates: one bank; a loop of banks of one stream; and, for the distance probe, the original
formulation (Hewitt and Manning 2019), a loop over streams that pads each batch to its longest
sentence and takes the difference of each two projected words. Ways to read: one pass for all
streams, or a pass a stream, as a script that probes one layer does when it is run for each.

Every round does each piece of work once, in turn; ratios are taken within a round, their median
and range over rounds are reported. With one thread seconds are CPU seconds, with more they are
wall seconds, which other programs disturb. The UUAS of the three ways is compared too.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechprobe.models.build import build_encoder
from mechprobe.models.edits import HookedModel
from mechprobe.models.load import load_model, packaged_minilm
from mechprobe.probes import (
    Objective,
    ProbeSettings,
    WordVectors,
    distance_objective,
    fit_bank,
    linear_objective,
    score_distances,
    tag_task,
    topology_objective,
    word_vectors,
)
from mechprobe.probes.bank import ProbeBank, _order
from mechprobe.probes.structural import uniform_map
from mechprobe.runs.files import atomic_write
from mechprobe.runs.tables import write_table
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.treebank import Sentence, read_conllu, tree_distances
from mechprobe.tasks.treebank_grammar import generate_treebank

RESULTS = Path(__file__).resolve().parent / "results"
MARK = 5.0
ONCE, EACH = "one pass", "a pass a stream"
BANK, LOOP, ORIGINAL = "one bank", "loop of single probes", "original, in a loop"
TOGETHER = "all four"


def original_probe(train: WordVectors, site: int, rank: int, settings: ProbeSettings) -> Tensor:
    """One probe by differences of padded vectors, with torch.optim.Adam; the last epoch's B."""
    vectors = train.values[site].contiguous()
    generator = torch.Generator().manual_seed(0)
    b = uniform_map(vectors.shape[1], rank, generator)["B"].float().requires_grad_()
    optimiser = torch.optim.Adam([b], lr=settings.lr)
    gold = [torch.from_numpy(tree_distances(s.heads)).float() for s in train.sentences]
    for epoch in range(settings.epochs):
        for rows in _order(train.lengths, settings.batch_size, 0, epoch):
            longest = int(train.lengths[rows].max())
            padded = torch.zeros(len(rows), longest, vectors.shape[1])
            target = torch.full((len(rows), longest, longest), -1.0)
            for i, row in enumerate(rows):
                n = int(train.lengths[row])
                padded[i, :n] = vectors[train.starts[row] : train.starts[row + 1]]
                target[i, :n, :n] = gold[row]
            low = padded @ b
            found = (low[:, :, None] - low[:, None, :]).pow(2).sum(-1)
            mask = (target >= 0).float()
            each = ((found - target).abs() * mask).sum((1, 2)) / mask.sum((1, 2))
            optimiser.zero_grad()
            each.mean().backward()
            optimiser.step()
    return b.detach()


def fit_original(train: WordVectors, rank: int, settings: ProbeSettings) -> Tensor:
    return torch.stack([
        original_probe(train, site, rank, settings) for site in range(len(train.streams))
    ])


def fit_loop(
    objective: Objective, train: WordVectors, dev: WordVectors, settings: ProbeSettings
) -> list[ProbeBank]:
    return [fit_bank(objective, train.at([s]), dev.at([s]), settings) for s in train.streams]


def objectives(sentences: list[Sentence], rank: int) -> dict[str, Objective]:
    return {
        "distance": distance_objective(rank), "X_ssp": topology_objective("ssp", rank=rank),
        "X_sp": topology_objective("sp", rank=rank),
        "parts of speech": linear_objective(tag_task(sentences)),
    }


def work_of(
    model: HookedModel, train: WordVectors, dev: WordVectors, rank: int, settings: ProbeSettings
) -> dict[tuple[str, str], Callable[[], object]]:
    """Each piece of work by (work, way)."""
    sentences = list(train.sentences)
    found: dict[tuple[str, str], Callable[[], object]] = {
        ("read", ONCE): lambda: word_vectors(model, sentences),
        ("read", EACH): lambda: [word_vectors(model, sentences, wanted=[s]) for s in train.streams],
    }
    for name, objective in objectives(sentences, rank).items():
        found[name, BANK] = lambda o=objective: fit_bank(o, train, dev, settings)
        found[name, LOOP] = lambda o=objective: fit_loop(o, train, dev, settings)
    found["distance", ORIGINAL] = lambda: fit_original(train, rank, settings)
    return found


def measure(
    work: dict[tuple[str, str], Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> pd.DataFrame:
    """Seconds, one row a round, one column a piece of work."""
    for do in work.values():
        do()  # the first calls load code and warm caches
    rows = []
    for _ in range(rounds):
        row = {}
        for key, do in work.items():
            began = clock()
            do()
            row[key] = clock() - began
        rows.append(row)
    return pd.DataFrame(rows)


def compare(seconds: pd.DataFrame) -> list[dict[str, Any]]:
    """Ratios to the first way of each piece of work, alone and with reading before it."""
    kinds = [work for work, way in seconds if way == BANK]
    for way in (BANK, LOOP):
        seconds[TOGETHER, way] = sum(seconds[kind, way] for kind in kinds)
    rows = []

    def add(title: str, ways: dict[str, pd.Series]) -> None:
        first = next(iter(ways.values()))
        for way, spent in ways.items():
            ratio = spent / first
            rows.append({
                "work": title, "way": way, "seconds": spent.median(),
                "times_slower": ratio.median(), "least": ratio.min(), "most": ratio.max(),
            })

    once, each = (seconds["read", way] for way in (ONCE, EACH))
    add("read", {ONCE: once, EACH: each})
    for kind in [*kinds, TOGETHER]:
        there = [way for way in (BANK, LOOP, ORIGINAL) if (kind, way) in seconds]
        add(f"fit {kind}", {way: seconds[kind, way] for way in there})
        add(f"read, then fit {kind}", {
            f"{ONCE}, {BANK}": once + seconds[kind, BANK],
            **{f"{ONCE}, {way}": once + seconds[kind, way] for way in there[1:]},
            **{f"{EACH}, {way}": each + seconds[kind, way] for way in there[1:]},
        })
    return rows


def uuas_table(
    train: WordVectors, dev: WordVectors, rank: int, settings: ProbeSettings
) -> pd.DataFrame:
    """UUAS of dev sentences by stream, after each way of fitting."""
    objective = distance_objective(rank)
    # held out on its own sentences the last epoch is the best, which the original keeps
    bank = fit_bank(objective, train, train, settings)
    original = ProbeBank(
        bank.objective, bank.streams, {"B": fit_original(train, rank, settings)}, bank.dev_loss,
        bank.epochs, bank.settings, bank.seed,
    )  # fmt: skip
    loop = [
        score_distances(one, dev.at(one.streams)).scores["uuas"]
        for one in fit_loop(objective, train, train, settings)
    ]
    return pd.DataFrame({
        "stream": [str(s) for s in train.streams],
        BANK: score_distances(bank, dev).scores["uuas"], LOOP: np.concatenate(loop),
        ORIGINAL: score_distances(original, dev).scores["uuas"],
    })


def markdown(table: pd.DataFrame) -> list[str]:
    """One row a kind of probe: seconds of the bank, how many times slower other ways are."""
    by = table.set_index(["work", "way"])
    ways = (f"fit: {LOOP}", f"fit: {ORIGINAL}", f"{ONCE}, {LOOP}", f"{ONCE}, {ORIGINAL}",
            f"{EACH}, {LOOP}", f"{EACH}, {ORIGINAL}")

    def cell(work: str, way: str) -> str:
        if (work, way) not in by.index:
            return "-"
        row = by.loc[(work, way)]
        return f"{row['times_slower']:.2f} ({row['least']:.2f}, {row['most']:.2f})"

    lines = [f"Reading: {by.loc[('read', ONCE), 'seconds']:.2f} s in {ONCE}; {EACH}: "
             f"{cell('read', EACH)} times slower.", "",
             f"| probe | {BANK}: fit, s | " + " | ".join(ways) + " |",
             "|---|---:|" + "---:|" * len(ways)]
    for work in dict.fromkeys(table["work"]):
        if work.startswith("fit "):
            kind = work.removeprefix("fit ")
            cells = [cell(f"fit {kind}", way.removeprefix("fit: ")) if way.startswith("fit: ")
                     else cell(f"read, then fit {kind}", way) for way in ways]
            lines.append(f"| {kind} | {by.loc[(work, BANK), 'seconds']:.2f} | "
                         + " | ".join(cells) + " |")
    return lines


def small_encoder(sentences: list[Sentence]) -> HookedModel:
    tokenizer = word_tokenizer(" ".join(s.words) for s in sentences)
    return build_encoder(
        tokenizer=tokenizer, n_layers=4, n_heads=4, d_model=64, d_mlp=128, n_ctx=64, seed=0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--treebank", required=True, help="a CoNLL-U file")
    parser.add_argument("--sentences", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.threads == 1 else time.perf_counter
    everything = read_conllu(given.treebank)
    order = np.random.default_rng(0).permutation(len(everything))[: given.sentences]
    own = generate_treebank(given.sentences, seed=0)
    cases = {
        "MiniLM on EWT": (load_model(packaged_minilm()), [everything[i] for i in order]),
        "small encoder on our treebank": (small_encoder(own), own),
    }
    # without a plateau or a stop, so that all ways make the same steps
    settings = ProbeSettings(epochs=given.epochs, patience=given.epochs, plateau=1.0)
    tables, text = [], [
        "# Probes of all streams at once", "",
        f"{given.sentences} sentences, two thirds to train on, rank {given.rank}, {given.epochs} "
        f"epochs, {given.threads} thread(s), {'CPU' if given.threads == 1 else 'wall'} seconds, "
        f"{given.rounds} rounds with all ways in turn; torch {torch.__version__}, "
        f"{platform.machine()}. How many times slower than one pass and one bank: median (least, "
        "most) over rounds. 'fit': on the same vectors; the others read the training sentences "
        f"too. Mark: {MARK:g}.", "",
    ]
    scores = None
    for title, (model, sentences) in cases.items():
        model.requires_grad_(False).eval()
        cut = 2 * len(sentences) // 3
        train, dev = (word_vectors(model, part) for part in (sentences[:cut], sentences[cut:]))
        if scores is None:
            scores = uuas_table(train, dev, given.rank, settings)
        work = work_of(model, train, dev, given.rank, settings)
        table = pd.DataFrame(compare(measure(work, given.rounds, clock)))
        tables.append(table.assign(model=title))
        text += [
            f"## {title}: {len(train.streams)} streams of width {train.storage.shape[-1]}", "",
            *markdown(table), "",
        ]
    assert scores is not None
    apart = (scores[BANK] - scores[ORIGINAL]).abs().max()
    text += [
        "Fitted on shared vectors, all ways multiply the same matrices, and with wide vectors that "
        "is most of the bank's own time; what a bank saves there is everything else. A pass a "
        "stream is what a script costs that reads the model for the probe it trains.", "",
        "UUAS of one bank and of the original formulation, MiniLM: apart by "
        f"{float(apart):.4f} at most over streams.", "",
    ]
    name = "probes" if given.threads == 1 else f"probes-{given.threads}-threads"
    write_table(given.out / f"{name}-times.csv", pd.concat(tables))
    write_table(given.out / f"{name}-uuas.csv", scores)
    atomic_write(given.out / f"{name}.md", "\n".join(text).encode())
    print("\n".join(text))


if __name__ == "__main__":
    main()
