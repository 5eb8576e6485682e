"""Two processes that fit together take the steps of one, up to rounding, and stay equal."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mechprobe.errors import InputError
from mechprobe.models.build import build_encoder
from mechprobe.runs.crew import ALONE, Crew, at_unit, crew, gather
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.seq2seq_rows import encode_rows
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.word_ids import word_ids
from mechprobe.tasks.word_pieces import encode_words
from mechprobe.training.fit import FitSettings, fit_classifier
from mechprobe.training.fresh import FreshSettings, fit_fresh
from mechprobe.training.seq2seq import SequenceFit, fit_sequences
from mechprobe.training.tree_space import fit_tree_space
from mechprobe.training.tree_tasks import TreeTask, tree_encoder
from mechprobe.trees import Grammar
from tests.training.test_fit import LABELS, build_classifier, encode_pairs
from tests.training.test_seq2seq import LETTERS, model, pairs

pytestmark = pytest.mark.usefixtures("one_thread")
Fit = Callable[[], tuple[nn.Module, list[float]]]


def _classifier() -> tuple[nn.Module, list[float]]:
    from mechprobe.tasks.examples import PairExamples

    letters = [(x, y) for x in "abcdef" for y in "abcdef"]
    examples = PairExamples(
        first=tuple(x for x, _ in letters), second=tuple(y for _, y in letters),
        label=np.array([int(y > "c") for _, y in letters]), labels=LABELS,
        group=("",) * len(letters), name="letters",
    )  # fmt: skip
    tokenizer = word_tokenizer(examples.first)
    fresh = build_classifier(LABELS, tokenizer, n_layers=1, n_heads=2, d_model=16, n_ctx=12,
                             dtype=torch.float64)  # fmt: skip
    losses: list[float] = []
    fit_classifier(
        fresh, encode_pairs(examples, tokenizer, 12), FitSettings(6, batch_size=5, lr=1e-2), seed=0,
        on_step=lambda step, loss: losses.append(loss),
    )
    return fresh, losses


def _sequences() -> tuple[nn.Module, list[float]]:
    rows = encode_rows(pairs(40), word_ids([LETTERS]), decoder_only=True)
    fresh, losses = model(True).double(), []
    fit_sequences(
        fresh, rows, SequenceFit(6, batch_size=7), seed=0, rows=[3, 4, 5, 6],
        on_step=lambda step, loss: losses.append(loss),
    )
    return fresh, losses


def _trees(kind: str) -> tuple[nn.Module, list[float]]:
    grammar = Grammar.random(q=3, depth=2, sigma=1.0, seed=0)
    task = TreeTask(grammar, kind, batch_size=7, max_masks=2)
    fresh = tree_encoder(grammar, kind, n_layers=1, n_heads=2, d_model=16, d_mlp=16)
    fresh, losses = fresh.double(), []
    fit_fresh(fresh, task.loss, FreshSettings(6), shared=True,
              on_step=lambda step, loss: losses.append(loss))  # fmt: skip
    return fresh, losses


def _tree_space() -> tuple[nn.Module, list[float]]:
    sentences = generate_treebank(20, seed=5)
    tokenizer = word_tokenizer([" ".join(s.words) for s in sentences])
    encoded = encode_words([s.words for s in sentences], tokenizer, 64)
    fresh = build_encoder(tokenizer=tokenizer, n_layers=1, n_heads=2, d_model=16, n_ctx=64,
                          dtype=torch.float64)  # fmt: skip
    losses: list[float] = []
    fit_tree_space(fresh, encoded, sentences, FreshSettings(6), batch_size=5,
                   on_step=lambda step, loss: losses.append(loss))  # fmt: skip
    return fresh, losses


FITS: dict[str, Fit] = {
    "classifier": _classifier, "sequences": _sequences, "tree space": _tree_space,
    "root": lambda: _trees("root"), "masked": lambda: _trees("masked"),
}


def _member(fit: Fit, rank: int, size: int, place: Path) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{place / 'meet'}", rank=rank, world_size=size
    )
    with at_unit("a fit", called=True):
        fitted, losses = fit()
    weights = torch.cat([p.detach().flatten() for p in fitted.parameters()])
    np.savez(place / f"{rank}.npz", weights=weights.numpy(), losses=losses)
    dist.destroy_process_group()


def _by(size: int, fit: Fit, place: Path) -> Iterator[dict[str, np.ndarray]]:
    """What each of ``size`` processes ends with."""
    fork = multiprocessing.get_context("fork")
    members = [fork.Process(target=_member, args=(fit, i, size, place)) for i in range(size)]
    for member in members:
        member.start()
    for member in members:
        member.join(timeout=120)
        assert member.exitcode == 0
    for rank in range(size):
        with np.load(place / f"{rank}.npz") as kept:
            yield dict(kept)


@pytest.mark.parametrize("name", FITS)
def test_two_processes_fit_as_one(name, tmp_path):
    fitted, losses = FITS[name]()
    alone = torch.cat([p.detach().flatten() for p in fitted.parameters()]).numpy()
    first, second = _by(2, FITS[name], tmp_path)
    assert alone.dtype == np.float64
    assert (first["weights"] == second["weights"]).all()
    assert (first["losses"] == second["losses"]).all()
    np.testing.assert_allclose(first["losses"], losses, rtol=1e-6)
    assert np.abs(first["weights"] - alone).max() < 1e-5


def test_outside_a_unit_a_process_is_alone():
    assert gather() == ALONE == crew()
    with at_unit("one"):
        assert gather() == ALONE  # no others were started


def test_rows_are_shared_out_and_a_small_batch_is_refused():
    members = [Crew(rank, 3) for rank in range(3)]
    shares = [list(range(8))[member.rows(8)] for member in members]
    assert sorted(row for share in shares for row in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(InputError, match="a batch of 2 cannot be shared by 3 processes"):
        members[0].rows(2)


def test_parts_of_a_mean_add_up_to_it():
    values = torch.tensor([1.0, 2.0, 4.0, 5.0, 9.0])
    parts = [Crew(rank, 2).mean(values[Crew(rank, 2).rows(5)].sum(), 5) for rank in range(2)]
    assert float(sum(parts)) == pytest.approx(float(values.mean()))
    assert ALONE.mean(values.mean(), 5) == values.mean()
    assert (ALONE.reduction, Crew(0, 2).reduction) == ("mean", "sum")
