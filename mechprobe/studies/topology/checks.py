"""What must hold whatever the data: labels, planted trees, the regulariser; measured anew."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from mechprobe.models.classifier import HookedClassifier, build_classifier
from mechprobe.models.decoder_classifier import Classifier
from mechprobe.models.edits import forward
from mechprobe.models.streams import Stream
from mechprobe.probes import (
    ProbeSettings,
    TopologyRegulariser,
    WordVectors,
    bank_losses,
    distance_objective,
    fit_bank,
    pseudo_labels,
    score_depths,
    score_distances,
    topology_objective,
)
from mechprobe.probes.tree_baselines import random_heads
from mechprobe.studies.topology.finetune import probe_loss
from mechprobe.tasks.acceptability import LABELS, encode_judged, word_order
from mechprobe.tasks.batches import Batch, Encoded, word_tokenizer
from mechprobe.tasks.metrics import label_loss
from mechprobe.tasks.treebank import Sentence, ancestors, tree_depths
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.training.fit import FitSettings, fit_classifier
from mechprobe.training.regularise import fit_regularised, regularised_loss

_ROWS = 200  # rows of numbers that are labelled, of each length
_WIDTH = 24  # arcs of a sentence that a planted tree has room for


def checks_unit() -> dict[str, int | float]:
    """Every check by name; a unit of the run, of a few seconds."""
    return {**label_checks(), **planted_checks(), **regulariser_checks()}


def label_checks() -> dict[str, int | float]:
    """Labels against a plain loop, enumeration, and the depths of random trees."""
    rng = np.random.default_rng(0)
    wrong, excess, worse = 0, 0.0, 0
    for n in (1, 2, 3, 4, 5, 6, 12, 25):
        # rounded to halves in every second row, so that there are ties
        drawn = rng.random((_ROWS, n)) * rng.choice([4, 12], (_ROWS, 1))
        drawn[::2] = np.round(2 * drawn[::2]) / 2
        nu, every = torch.from_numpy(drawn), torch.ones(_ROWS, n, dtype=torch.bool)
        greedy, exact = (pseudo_labels(nu, every, how).numpy() for how in ("greedy", "exact"))
        wrong += int((greedy != np.array([_plain_greedy(row) for row in drawn])).sum())
        gold = np.array([tree_depths(random_heads(n, rng)) + 1 for _ in range(_ROWS)])
        errors, *others = (((drawn - one) ** 2).sum(1) for one in (exact, greedy, gold))
        worse += int((errors > np.minimum(*others) + 1e-9).sum())
        if n <= 6:
            least = ((drawn[:, None] - _profiles(n)) ** 2).sum(-1).min(1)
            excess = max(excess, float(np.abs(errors - least).max()))
    return {"greedy_wrong": wrong, "exact_excess": excess, "exact_worse": worse}


def _plain_greedy(row: np.ndarray) -> list[int]:
    """The greedy rule, one number after the other."""
    levels, level = [0] * len(row), 0
    for place, i in enumerate(np.argsort(row, kind="stable")):
        if place < 2 or not abs(row[i] - level) < abs(level + 1 - row[i]):
            level += 1
        levels[i] = level
    return levels


def _profiles(n: int) -> np.ndarray:
    """Every vector of n levels with one 1 and no level left out."""
    return np.array([
        p for p in product(range(1, n + 1), repeat=n)
        if p.count(1) == 1 and len(set(p)) == max(p)
    ])  # fmt: skip


def planted_checks() -> dict[str, int | float]:
    """Probes of vectors whose squared norms and distances are depths and tree distances."""
    sentences = generate_treebank(560, seed=9)
    train, dev = (_planted(part) for part in (sentences[:480], sentences[480:]))
    settings = ProbeSettings(lr=0.05, epochs=40, plateau=0.5)
    depth = fit_bank(topology_objective("sp", rank=_WIDTH + 1), train, dev, settings)
    distance = fit_bank(
        distance_objective(), train, dev, ProbeSettings(lr=0.02, epochs=25, plateau=0.5)
    )
    return {
        "planted_x_sp": float(bank_losses(depth, dev)[0]),
        "planted_nspr": float(score_depths(depth, dev).scores["nspr"][0]),
        "planted_uuas": float(score_distances(distance, dev).scores["uuas"][0]),
    }


def _planted(sentences: list[Sentence]) -> WordVectors:
    """A word is the sum of the arcs on its way to the root, plus 1 in a place that all share."""
    rows = []
    for sentence in sentences:
        way = ancestors(sentence.heads).astype(np.float32)
        way[:, sentence.root] = 0  # each other word stands for the arc to its head
        wide = np.pad(way, ((0, 0), (0, _WIDTH - len(sentence))))
        rows.append(np.roll(wide, len(rows), axis=1))  # so that every direction is used
    found = np.pad(np.concatenate(rows), ((0, 0), (0, 1)), constant_values=1)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(_WIDTH + 1, _WIDTH + 1)))
    lengths = [len(sentence) for sentence in sentences]
    return WordVectors(
        (Stream("resid", 0),), torch.from_numpy(found @ turn.astype(np.float32))[:, None],
        np.cumsum([0, *lengths]), tuple(sentences),
        np.concatenate([np.arange(n) for n in lengths]), tuple(range(len(sentences))),
    )  # fmt: skip


def regulariser_checks() -> dict[str, int | float]:
    """A small classifier of word order: weight 0, the reach of the gradient, a strong pull."""
    sentences = generate_treebank(120, seed=7)
    tokenizer = word_tokenizer(" ".join(s.words) for s in sentences)
    data = encode_judged(word_order(sentences, seed=0), tokenizer, 64)
    b = 0.2 * torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    extra = TopologyRegulariser(b, special=tokenizer.all_special_ids)
    settings = FitSettings(steps=120, batch_size=12, lr=5e-3)

    def model() -> HookedClassifier:
        return build_classifier(
            LABELS, tokenizer, n_layers=3, n_heads=2, d_model=16, d_mlp=32, n_ctx=64, seed=0
        )

    def own_loss(fitted: Classifier, batch: Batch) -> torch.Tensor:
        return label_loss(forward(fitted, batch), batch.labels).mean()

    plain, zero, pulled = model(), model(), model()
    fit_classifier(plain, data, settings, seed=4, loss_of=own_loss)  # by this process alone, too
    for fitted, weight in ((zero, 0.0), (pulled, 10.0)):
        fit_regularised(fitted, data, settings, extra, stream="resid.2", weight=weight, seed=4)
    before, after = (probe_loss(m, data, extra, "resid.2") for m in (model(), pulled))
    same = zip(plain.parameters(), zero.parameters(), strict=True)
    below, past = _reach(model(), data, extra)
    return {
        "weights_changed_by_0": sum(int((one != other).sum()) for one, other in same),
        "gradient_below": below, "gradient_past": past, "strong_fall": before / after,
    }


def _reach(
    model: HookedClassifier, data: Encoded, extra: TopologyRegulariser
) -> tuple[float, float]:
    """Largest gradient of L_probe at resid.2 in the two blocks before it, and in the one after."""
    batch, stream = data.batches(12)[0], Stream("resid", 2)
    one, other = (regularised_loss(model, batch, extra, stream, weight) for weight in (10.0, 0.0))
    (one - other).backward()
    sizes = [
        max(float(p.grad.abs().max()) for p in block.parameters() if p.grad is not None)
        for block in model.blocks
    ]
    return min(sizes[:2]), sizes[2]
