"""The self-check: counts by hand, a method that lies is caught, the command's exit status."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.planted import selfcheck as checks
from mechprobe.planted.handmade import constant, decoy, or_gate
from mechprobe.planted.selfcheck import FINDER, METHODS, Method, as_markdown, selfcheck, summary
from mechprobe.sites import Site


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="module")
def cases():
    return [*or_gate(), *decoy(), *constant()]


QUICK = [m for m in METHODS if "masks" not in m.name]


@pytest.fixture(scope="module")
def detail(cases):
    return selfcheck(cases, QUICK, show_progress=False)


def test_the_finder_names_every_minimal_circuit(detail):
    mine = detail[detail.method == FINDER].set_index("case")
    assert mine.exact.all()
    assert mine.found.to_dict() == {
        "or gate": "0.0 | 0.2", "decoy": "0.1", "constant head": "0.1"
    }  # fmt: skip


def test_known_limits_show(detail):
    rows = detail.set_index(["method", "case"])
    assert rows.loc[("ablation, paired", "or gate"), "missed"] == 2
    assert rows.loc[("leave one in, paired", "or gate"), "exact"]
    assert rows.loc[("patching, denoising", "or gate"), "exact"]
    assert rows.loc[("ablation, zero", "constant head"), "extra"] == 1
    assert rows.loc[("ablation, mean", "constant head"), "exact"]
    assert rows.loc[("ablation, paired", "decoy"), "exact"]


def test_counts_by_hand(cases):
    def always(case, seed):
        return frozenset({frozenset({Site("head", 0, 0), Site("head", 0, 1)})})

    def never(case, seed):
        raise InputError("not today")

    methods = [Method("always", always, "guesses"), Method("never", never, "refuses")]
    table = summary(selfcheck(cases, methods, show_progress=False), methods).set_index("method")
    # truths {0.0, 0.2}, {0.1}, {0.1}: hits 1 + 1 + 1, extra 1 + 1 + 1, missed 1 + 0 + 0
    assert table.loc["always", "precision"] == pytest.approx(3 / 6)
    assert table.loc["always", "recall"] == pytest.approx(3 / 4)
    assert (table.loc["always", "cases"], table.loc["always", "exact"]) == (3, 0)
    assert (table.loc["never", "cases"], table.loc["never", "refused"]) == (0, 3)
    assert "| always | 0/3 | 0.50 | 0.75 |" in as_markdown(table.reset_index())


def test_the_command_fails_when_the_finder_misses(cases, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("MECHPROBE_DATA", raising=False)
    monkeypatch.setattr(checks, "collect_cases", lambda *a, **k: cases)
    real = selfcheck
    monkeypatch.setattr(checks, "selfcheck", lambda c, seed: real(c, QUICK[:2], seed=seed))
    assert main(["selfcheck", "--record", str(tmp_path / "record")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("minimal circuits of 3 of 3 cases")
    assert len(pd.read_csv(tmp_path / "record" / "detail.csv")) == 6
    written = (tmp_path / "record" / "summary.md").read_text()
    assert out.splitlines()[-1] in written
    assert "| minimal circuits | 3/3 |" in written

    def blind(c, seed):
        none = Method(FINDER, lambda case, seed: frozenset(), "blind")
        return real(c, [none], seed=seed)

    monkeypatch.setattr(checks, "selfcheck", blind)
    assert main(["selfcheck"]) == 1
    out = capsys.readouterr().out
    assert "missed: or gate, main: truth 0.0 | 0.2" in out
    assert out.splitlines()[-1].endswith("0 of 3 cases")


def test_bad_words_are_refused(capsys, tmp_path):
    assert main(["selfcheck", "--seed", "-1"]) == 2
    assert main(["selfcheck", "--cases", str(tmp_path)]) == 2
    assert "no planted cases" in capsys.readouterr().err


def test_the_readme_shows_the_recorded_table():
    root = Path(__file__).parents[2]
    recorded = (root / "benchmarks/results/selfcheck/summary.md").read_text()
    table = [line for line in recorded.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(METHODS)
    assert "\n".join(table) in (root / "README.md").read_text()


def test_compiled_cases_join(data_dir):
    found = checks.collect_cases(data_dir / "planted", trained=False)
    names = {(case.name, case.set) for case in found}
    assert {("two_task", "main"), ("two_task", "task_T"), ("heuristic_core", "ood")} <= names


@pytest.mark.slow
def test_the_whole_check_on_several_seeds(data_dir):
    finder = [m for m in METHODS if m.name == FINDER]
    for seed in range(4):
        found = selfcheck(
            checks.collect_cases(data_dir / "planted", seed, progress=False), finder, seed=seed
        )
        assert found.exact.all(), found[~found.exact].to_string()
