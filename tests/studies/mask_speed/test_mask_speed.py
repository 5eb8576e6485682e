"""The benchmark of masks: its rivals agree with the engine, and its page says what was measured."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import torch

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.gates.engine import Engine
from mechprobe.studies.mask_speed import command, rival_pyvene
from mechprobe.studies.mask_speed.measure import arithmetic, compare, peak_memory, rounds, rows_of
from mechprobe.studies.mask_speed.record import MARKS, Record
from mechprobe.studies.mask_speed.report import readme_lines
from mechprobe.studies.mask_speed.rivals import Hooks, Published, Vmapped, means
from mechprobe.studies.mask_speed.shapes import SHAPES, Case, Shape
from tests.gates.work import work_of

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
    published = Published(case.hf, case.grid, means(case))
    hooks = Hooks(case)
    for k in range(3):
        compare(published(gates[k], case.batch), (losses[k], slopes[k]), wanted[k])
        compare(hooks(gates[k]), (losses[k], slopes[k]), wanted[k])
    found = Vmapped(case)(gates)
    compare((found[0][1], found[1][1]), (losses[1], slopes[1]), wanted[1])
    with pytest.raises(AssertionError):
        compare((losses[0], slopes[0] * 1.1), (losses[0], slopes[0]), wanted[0])


def test_on_a_language_model_too():
    """GPT-2, TransformerLens' hooks and the engine agree; pyvene where it is there."""
    case = Case(Shape("written", 2, 16, 2, 5, 3, vocabulary=30, writes=True))
    gates = case.gates(2, 0.5)
    wanted = (gates > 0) & (gates < 1)
    engine = Engine(case.model, case.grid, case.baseline)
    losses, slopes = engine.gradients(case.batch, gates, case.loss, wanted=wanted)
    assert slopes.abs().max() > 0
    published = Published(case.hf, case.grid, means(case))
    compare(published(gates[1], case.batch), (losses[1], slopes[1]), wanted[1])
    compare(Hooks(case)(gates[1]), (losses[1], slopes[1]), wanted[1])
    if rival_pyvene.installed():
        compare(rival_pyvene.Pyvene(case)(gates[1]), (losses[1], slopes[1]), wanted[1])
        compare(published(gates[1], case.batch), (losses[1], slopes[1]), wanted[1])


def test_closed_gates_are_in_equal_proportion_and_differ_between_members():
    case = Case(SHAPES["small"].deep(4))
    gates = case.gates(6, 0.5)
    heads, mlps = gates[:, :32] == 0, gates[:, 32:] == 0
    assert (heads.sum(1) == 16).all()
    assert (mlps.sum(1) == 2).all()
    assert len({tuple(row.tolist()) for row in heads}) == 6
    assert not (case.gates(2, 0.0) == 0).any()


@pytest.mark.parametrize("writes", [False, True])
def test_arithmetic_counts_what_the_engine_multiplies(writes):
    shape = Shape("counted", 3, 32, 4, 6, 4, vocabulary=40, writes=writes)
    case = Case(shape)
    gates = case.gates(2, 0.0).clamp(max=0.9)
    engine = Engine(case.model, case.grid, case.baseline, remember=2**20)
    engine.gradients(case.batch, gates, case.loss)  # from now on the first layer is remembered
    work = work_of(lambda: engine.gradients(case.batch, gates, case.loss))
    expected = arithmetic(shape, gates)
    assert 0.85 * expected < 2 * (work.linear + work.batched) < 1.25 * expected


def test_peak_memory_sees_what_was_freed_before_and_what_is_freed_after():
    def run():
        torch.ones(40, 2**18)

    run()
    found = peak_memory(run)
    if found is None:
        pytest.skip("this system does not reset its high-water mark")
    assert 35 < found < 60


def test_ratios_are_taken_within_a_round(monkeypatch):
    found = {"engine": [1.0, 2.0, 3.0], "hooks": [3.0, 8.0, 6.0]}
    rows = rows_of(found, {"task": "x"})
    assert [row["ratio"] for row in rows] == [1.0, 3.0]
    assert (rows[1]["ratio_low"], rows[1]["ratio_high"]) == (2.0, 4.0)
    calls = []
    rounds({"a": (1, lambda: calls.append("a")), "b": (2, lambda: calls.append("b"))}, 2, "cpu")
    assert calls == ["a", "b"] * 3


ABOUT = {"task": "subnetwork-step", "shape": "small", "layers": 4, "closed": 0.5, "k": 8}
ROW = ABOUT | {"implementation": "engine", "seconds": 0.1, "seconds_low": 0.1, "seconds_high": 0.1,
               "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "share": 0.5}  # fmt: skip
OTHER = ROW | {"implementation": "published", "seconds": 0.4, "ratio": 4.0, "share": None}


def test_the_record_keeps_older_rows_and_replaces_the_same_setting(tmp_path):
    Record(tmp_path, repeats=1).add([ROW, OTHER])
    Record(tmp_path, repeats=1).add([ROW | {"closed": 0.7}])
    record = Record(tmp_path, repeats=1)
    record.add([ROW | {"seconds": 0.2}, OTHER | {"ratio": 2.0}])
    assert len(record.table) == 3
    assert len(pd.read_csv(tmp_path / "masks.csv")) == 3
    text = (tmp_path / "masks.md").read_text()
    assert text == record.page()
    assert re.search(r"\| 50% \| 8 \| 1 \| 20\d\d-\d\d-\d\d \| 200 \[100, 100\]", text)
    assert "| 2.0 [1.0, 1.0] | not measured |" in text
    assert "On a GPU: not measured." in text


def test_the_readme_s_table_is_the_record_s(tmp_path):
    record, readme = Record(tmp_path), tmp_path / "README.md"
    record.add([ROW, OTHER])
    with pytest.raises(InputError, match="needs one <!-- masks -->"):
        record.show_in(readme)
    readme.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    record.show_in(readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    small = "| small: 4 layers, d 256, 8 heads, 32 x 64 tokens | 50 % | 4.0 [1.0, 1.0] |"
    assert small + " not measured | not measured | not measured |" in text
    assert "| any, on a GPU | | not measured |" in text
    assert readme_lines(Record(tmp_path).table, None) == text.splitlines()[2:-2]


def test_the_readme_shows_the_record(repo):
    record = Record(repo / "benchmarks" / "results")
    text = (repo / "README.md").read_text(encoding="utf-8")
    shown = text[text.index(MARKS[0]) + len(MARKS[0]) : text.index(MARKS[1])].strip()
    assert shown == "\n".join(readme_lines(record.table, record.search))
    assert (repo / "benchmarks" / "results" / "masks.md").read_text() == record.page()


def test_the_command_refuses_what_cannot_be_measured(capsys):
    assert set(command.SHAPES) == set(SHAPES)
    assert main(["bench", "masks", "--closed", "1.5"]) == 2
    assert "shares from 0 to below 1" in capsys.readouterr().err
    assert main(["bench", "masks", "--repeats", "0"]) == 2
    assert main(["bench", "masks", "--readme", "README.md"]) == 2
    assert "--readme shows a record" in capsys.readouterr().err


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    from mechprobe.studies.mask_speed import measure

    monkeypatch.setitem(measure.SHAPES, "small", TINY)
    options = ["--closed", "0.5", "--repeats", "1", "--members", "2", "--out", str(tmp_path)]
    assert main(["bench", "masks", "--shapes", "small", *options]) == 0
    table = pd.read_csv(tmp_path / "masks.csv")
    assert set(table.implementation) == {"engine", "published", "hooks", "vmap"}
    assert "published formulation" in capsys.readouterr().out
