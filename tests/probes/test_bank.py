"""A bank against a loop of single probes, torch's own Adam, and what it must refuse."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models.streams import Stream
from mechprobe.probes import (
    ProbeSettings,
    bank_losses,
    by_layer,
    control_task,
    depth_objective,
    distance_objective,
    fit_bank,
    head_objective,
    linear_objective,
    mlp_objective,
    tag_task,
    topology_objective,
)
from mechprobe.probes.bank import _order
from mechprobe.tasks.treebank import tree_depths
from mechprobe.tasks.treebank_grammar import generate_treebank

SENTENCES = generate_treebank(90, seed=3)
TRAIN, DEV = SENTENCES[:60], SENTENCES[60:]
TAGS = tag_task(TRAIN)
OBJECTIVES = {
    "distance": distance_objective(6),
    "depth": depth_objective(6),
    "ssp": topology_objective("ssp"),
    "essp greedy": topology_objective("essp", labels="greedy"),
    "sp": topology_objective("sp", rank=6),
    "linear": linear_objective(TAGS),
    "mlp": mlp_objective(control_task(TAGS, TRAIN), hidden=8),
    "head": head_objective(),
}


@pytest.fixture(scope="module")
def data(as_vectors, planted):
    """Four sites from clean to noise, so that probes stop at different epochs."""

    def build(sentences, seed, dtype=np.float64):
        rng = np.random.default_rng(seed)
        clean = planted(sentences, mixed=True)
        noise = rng.normal(size=clean.shape)
        sites = (clean, clean + 0.3 * noise, noise, 0.02 * noise)
        return as_vectors(sentences, *(site.astype(dtype) for site in sites))

    return lambda dtype=np.float64: (build(TRAIN, 0, dtype), build(DEV, 1, dtype))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_bank_is_a_loop_of_single_probes(name, data):
    settings = ProbeSettings(lr=0.03, epochs=7, patience=1, plateau=0.5, weight_decay=0.01)
    train, dev = data()
    together = fit_bank(OBJECTIVES[name], train, dev, settings, seed=5)
    assert len(set(together.epochs.tolist())) > 1, "the probes should stop at different epochs"
    for site, stream in enumerate(train.streams):
        alone = fit_bank(
            OBJECTIVES[name], train.at([stream]), dev.at([stream]), settings, seed=5
        )
        assert alone.epochs[0] == together.epochs[site]
        assert alone.dev_loss[0] == pytest.approx(together.dev_loss[site], rel=1e-5)
        for key, value in alone.params.items():
            torch.testing.assert_close(value[0], together.params[key][site], atol=1e-5, rtol=1e-5)


def test_a_bank_is_a_loop_of_single_probes_in_float32(data):
    settings = ProbeSettings(lr=0.01, epochs=3)
    train, dev = data(np.float32)
    together = fit_bank(OBJECTIVES["distance"], train, dev, settings)
    assert together.params["B"].dtype == torch.float32
    for site, stream in enumerate(train.streams):
        alone = fit_bank(OBJECTIVES["distance"], train.at([stream]), dev.at([stream]), settings)
        assert alone.dev_loss[0] == pytest.approx(together.dev_loss[site], rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_torchs_adam_on_a_plain_loss(decay, data):
    train, dev = data()
    stream = train.streams[1]
    settings = ProbeSettings(lr=0.02, batch_size=7, epochs=2, plateau=1.0, weight_decay=decay)
    bank = fit_bank(
        depth_objective(6), train.at([stream]), dev.at([stream]), settings, seed=2
    )
    generator = torch.Generator().manual_seed(2)
    b = torch.empty(24, 6, dtype=torch.float64).uniform_(-0.05, 0.05, generator=generator)
    b.requires_grad_()
    adam = torch.optim.AdamW([b], lr=0.02, weight_decay=decay)
    vectors = train.values[1].split(train.lengths.tolist())
    for epoch in range(2):
        for rows in _order(train.lengths, 7, 2, epoch):
            loss = torch.zeros((), dtype=torch.float64)
            for row in rows:
                gold = torch.from_numpy(tree_depths(train.sentences[row].heads))
                loss = loss + ((vectors[row] @ b).square().sum(1) - gold).abs().mean() / len(rows)
            adam.zero_grad()
            loss.backward()
            adam.step()
    torch.testing.assert_close(bank.params["B"][0], b.detach())


def test_each_epoch_has_every_sentence_once_in_a_seeded_order():
    lengths = np.random.default_rng(0).integers(1, 30, 101)
    first = _order(lengths, 10, 4, 0)
    assert sorted(np.concatenate(first).tolist()) == list(range(101))
    assert [r.tolist() for r in first] == [r.tolist() for r in _order(lengths, 10, 4, 0)]
    assert [r.tolist() for r in first] != [r.tolist() for r in _order(lengths, 10, 4, 1)]
    assert [r.tolist() for r in first] != [r.tolist() for r in _order(lengths, 10, 5, 0)]


def test_the_best_epoch_is_kept_and_the_loss_is_its_own(data):
    train, dev = data()
    runs = [
        fit_bank(OBJECTIVES["linear"], train, dev, ProbeSettings(lr=1.0, epochs=n, plateau=1.0))
        for n in range(1, 8)
    ]
    for before, after in pairwise(runs):
        assert (after.dev_loss <= before.dev_loss).all()
    assert (runs[-1].dev_loss < runs[0].dev_loss).any()
    bank = runs[-1]
    np.testing.assert_allclose(bank_losses(bank, dev), bank.dev_loss, rtol=1e-6)
    table = bank.table()
    assert table["epochs"].tolist() == bank.epochs.tolist()
    assert table["dev_loss"].tolist() == bank.dev_loss.tolist()


def test_some_of_the_probes_are_those_probes(data):
    train, dev = data()
    bank = fit_bank(OBJECTIVES["depth"], train, dev, ProbeSettings(epochs=1))
    some = bank.at(["resid.2", "resid.0"])
    expected = bank_losses(bank, dev)[[2, 0]]
    np.testing.assert_allclose(bank_losses(some, dev.at(some.streams)), expected)
    with pytest.raises(InputError, match=r"no probe of resid\.9 here"):
        bank.at(["resid.9"])


def test_values_by_layer_are_a_table():
    streams = [Stream("resid", 0), Stream("resid", 1), Stream("mlp_out", 0)]
    frame = by_layer(streams, [1.0, 2.0, 3.0])
    assert list(frame.columns) == ["resid", "mlp_out"]
    assert frame.loc[0].tolist() == [1, 3]
    assert frame.loc[1, "resid"] == 2
    assert np.isnan(frame.loc[1, "mlp_out"])


def test_epochs_are_reported_and_stopped_probes_leave(data):
    train, dev = data()
    seen = []
    fit_bank(
        OBJECTIVES["depth"], train, dev, ProbeSettings(lr=0.03, epochs=9, patience=1),
        on_epoch=lambda epoch, left: seen.append((epoch, left)),
    )  # fmt: skip
    assert [epoch for epoch, _ in seen] == list(range(1, len(seen) + 1))
    left = [n for _, n in seen]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]


def test_what_cannot_be_trained_is_refused(data):
    train, dev = data()
    with pytest.raises(InputError, match="not of the same streams"):
        fit_bank(OBJECTIVES["depth"], train, dev.at(["resid.1"]))
    bank = fit_bank(OBJECTIVES["depth"], train, dev, ProbeSettings(epochs=1))
    with pytest.raises(InputError, match=r"vectors of resid\.1 for probes of resid\.0, resid\.1"):
        bank_losses(bank, dev.at(["resid.1"]))
    with pytest.raises(InputError, match=r"no vectors of mlp_out\.0 here"):
        train.at(["mlp_out.0"])
    with pytest.raises(InputError, match="rank 0"):
        fit_bank(depth_objective(0), train, dev)
    for wrong in ({"lr": 0.0}, {"plateau": 2.0}, {"min_gain": -1.0}, {"epochs": 0}):
        with pytest.raises(InputError):
            ProbeSettings(**wrong)
    train.storage[3, 2] = torch.nan
    with pytest.raises(FloatingPointError, match=r"depth probe at resid\.2 is not finite"):
        fit_bank(OBJECTIVES["depth"], train, dev)
