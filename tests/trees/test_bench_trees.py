"""The benchmark runs, compares like with like, and writes what it says."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from mechprobe.runs.tables import read_table


@pytest.fixture(scope="module")
def bench(repo):
    spec = importlib.util.spec_from_file_location("bench_trees", repo / "benchmarks/bench_trees.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_writes_its_tables(bench, tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        bench.main(["--quick", "--repeats", "1", "--out", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    compared = read_table(tmp_path / "trees-comparison.csv")
    assert list(compared["implementation"]).count("loop") == 2
    assert (compared["rate"] > 0).all()
    assert (compared[compared["implementation"] == "mechprobe"]["ratio"] == 1).all()
    scaled = read_table(tmp_path / "trees-scaling.csv")
    assert set(scaled["varied"]) == {"q", "depth", "batch", "k"}
    text = (tmp_path / "trees.md").read_text()
    assert text in capsys.readouterr().out
    assert "| sampling | loop |" in text


def test_a_ratio_is_taken_within_each_round(bench, monkeypatch):
    """Rates are sequences over seconds, and the first round is left out."""
    times = iter([0, 9, 10, 12, 12, 13])  # two starts of the warm-up, then 2 s and 1 s
    clock = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr(bench, "by_cpu_seconds", lambda device: False)
    monkeypatch.setattr(bench, "time", clock)
    found = bench.rates({"one": (10, lambda: None), "two": (10, lambda: None)}, 1)
    assert found == {"one": [5.0], "two": [10.0]}
