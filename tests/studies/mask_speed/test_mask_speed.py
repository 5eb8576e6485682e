"""The benchmark of masks: its rivals agree with the engine, and its page says what was measured."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from mechprobe.cli import main
from mechprobe.gates.engine import Engine
from mechprobe.studies.mask_speed import command
from mechprobe.studies.mask_speed.measure import arithmetic, compare, rounds, rows_of
from mechprobe.studies.mask_speed.report import keep, page
from mechprobe.studies.mask_speed.rivals import Hooks, Published, Vmapped, means
from mechprobe.studies.mask_speed.shapes import SHAPES, Case, Shape

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = Shape("small", 2, 16, 2, 5, 3)


@pytest.fixture(scope="module")
def case():
    return Case(TINY)


def test_the_rivals_give_the_engine_s_numbers(case):
    gates = case.gates(3, 0.5)
    wanted = (gates > 0) & (gates < 1)
    engine = Engine(case.model, case.grid, case.baseline)
    losses, slopes = engine.gradients(case.batch, gates, case.loss, wanted=wanted)
    assert slopes.abs().max() > 0
    published = Published(case.model, case.grid, means(case))
    hooks = Hooks(case)
    for k in range(3):
        compare(published(gates[k], case.batch), (losses[k], slopes[k]), wanted[k])
        compare(hooks(gates[k]), (losses[k], slopes[k]), wanted[k])
    found = Vmapped(case)(gates)
    compare((found[0][1], found[1][1]), (losses[1], slopes[1]), wanted[1])
    with pytest.raises(AssertionError):
        compare((losses[0], slopes[0] * 1.1), (losses[0], slopes[0]), wanted[0])


def test_closed_gates_are_in_equal_proportion_and_differ_between_members():
    case = Case(SHAPES["small"].deep(4))
    gates = case.gates(6, 0.5)
    heads, mlps = gates[:, :32] == 0, gates[:, 32:] == 0
    assert (heads.sum(1) == 16).all()
    assert (mlps.sum(1) == 2).all()
    assert len({tuple(row.tolist()) for row in heads}) == 6
    assert not (case.gates(2, 0.0) == 0).any()


def test_arithmetic_counts_what_the_engine_multiplies(monkeypatch):
    from mechprobe.gates import engine_attention, engine_mlp

    shape = Shape("counted", 3, 32, 4, 6, 4)
    case = Case(shape)
    work = []

    def counted(x, weight, bias=None):
        work.append(2 * x.numel() * weight.shape[0])
        return torch.nn.functional.linear(x, weight, bias)

    gates = case.gates(2, 0.0).clamp(max=0.9)
    engine = Engine(case.model, case.grid, case.baseline, remember=2**20)
    engine.gradients(case.batch, gates, case.loss)
    for module in (engine_attention, engine_mlp):
        monkeypatch.setattr(module, "product", counted)
    engine.gradients(case.batch, gates, case.loss)
    # the rest of it: scores and patterns; the last layer's queries and MLP at one position
    attention = 2 * 2 * (shape.n_layers - 2) * 6 * shape.batch * shape.positions**2 * shape.d_model
    expected = arithmetic(shape, gates) - attention
    assert 0.9 * expected < sum(work) < 1.25 * expected


def test_ratios_are_taken_within_a_round(monkeypatch):
    found = {"engine": [1.0, 2.0, 3.0], "hooks": [3.0, 8.0, 6.0]}
    rows = rows_of(found, {"task": "x"})
    assert [row["ratio"] for row in rows] == [1.0, 3.0]
    assert (rows[1]["ratio_low"], rows[1]["ratio_high"]) == (2.0, 4.0)
    calls = []
    rounds({"a": (1, lambda: calls.append("a")), "b": (2, lambda: calls.append("b"))}, 2, "cpu")
    assert calls == ["a", "b"] * 3


def test_the_table_keeps_older_rows_and_replaces_the_same_setting(tmp_path):
    about = {"task": "subnetwork-step", "shape": "small", "layers": 4, "closed": 0.5, "k": 8}
    row = about | {"implementation": "engine", "seconds": 0.1, "seconds_low": 0.1,
                   "seconds_high": 0.1, "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0,
                   "share": 0.5}  # fmt: skip
    other = row | {"implementation": "hooks", "seconds": 0.4, "ratio": 4.0, "share": None}
    keep(tmp_path, [row, other], "cpu", 1)
    keep(tmp_path, [row | {"closed": 0.7}], "cpu", 1)
    table = keep(tmp_path, [row | {"seconds": 0.2}, other | {"ratio": 2.0}], "cpu", 1)
    assert len(table) == 3
    assert len(pd.read_csv(tmp_path / "masks.csv")) == 3
    text = page(table)
    assert "| 50% | 200 [100, 100]" in text
    assert "2.0 [1.0, 1.0] | not measured |" in text
    assert "On a GPU: not measured." in text


def test_the_command_refuses_what_cannot_be_measured(capsys):
    assert set(command.SHAPES) == set(SHAPES)
    assert main(["bench", "masks", "--closed", "1.5"]) == 2
    assert "shares from 0 to below 1" in capsys.readouterr().err
    assert main(["bench", "masks", "--repeats", "0"]) == 2


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    from mechprobe.studies.mask_speed import measure

    monkeypatch.setitem(measure.SHAPES, "small", TINY)
    options = ["--closed", "0.5", "--repeats", "1", "--members", "2", "--out", str(tmp_path)]
    assert main(["bench", "masks", "--shapes", "small", *options]) == 0
    table = pd.read_csv(tmp_path / "masks.csv")
    assert set(table.implementation) == {"engine", "published", "hooks", "vmap"}
    assert "published formulation" in capsys.readouterr().out
