"""A run directory that several processes share: each unit once, whoever comes first."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run, Unit, with_needs
from mechprobe.runs.metrics import fold

CONFIG = {"study": "lines", "seed": 0}
CHILD = """
import os, sys, time
from mechprobe.runs import Run
with Run.open(sys.argv[1], {"study": "lines", "seed": 0}, shared=True) as run:
    def compute(name):
        with open(run.folder.parent / "calls", "a") as file:
            file.write(name + "\\n")
        for step in range(3):
            run.log(name, step, value=step / 3)
            time.sleep(0.02)
        return {"name": name}
    for name in sys.argv[2:]:
        run.unit(name, lambda name=name: compute(name))
    print("done", flush=True)
"""


def _child(folder: Path, *names: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), *names], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def test_processes_that_share_a_folder_compute_each_unit_once(tmp_path):
    names = [f"u{i}" for i in range(6)]
    children = [_child(tmp_path / "run", *order) for order in (names, names[::-1], names)]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert out == "done\n", err
    assert sorted((tmp_path / "calls").read_text().split()) == names
    with Run.open(tmp_path / "run", CONFIG) as run:
        run.order_metrics(names)
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").open()]
        assert [(row["unit"], row["step"]) for row in rows] == [
            (name, step) for name in names for step in range(3)
        ]
        assert not (run.folder / "metrics").exists()
        assert [run.result(name) for name in names] == [{"name": name} for name in names]


def test_who_has_it_alone_and_who_shares_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("mechprobe.runs.lock.PATIENCE", 0.2)
    told = f"in use by process {os.getpid()}"
    with Run.open(tmp_path, CONFIG, shared=True):
        Run.open(tmp_path, CONFIG, shared=True).close()
        with pytest.raises(InputError, match=told):
            Run.open(tmp_path, CONFIG)
    with Run.open(tmp_path, CONFIG), pytest.raises(InputError, match=told):
        Run.open(tmp_path, CONFIG, shared=True)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        Run.open(tmp_path, {**CONFIG, "seed": 1}, shared=True)
    Run.open(tmp_path, CONFIG).close()


def test_a_unit_that_another_process_is_at_is_waited_for(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, shared=True) as run:
        with run.claim("a"):
            child = _child(tmp_path / "run", "a")
            until = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < until:
                assert child.stderr is not None
                if "another process is at a in " in child.stderr.readline():
                    break
            assert child.poll() is None
            assert not run.has("a")
        assert child.communicate(timeout=60)[0] == "done\n"
        assert run.has("a")


def test_lines_move_between_alone_and_shared_work_and_back(tmp_path):
    """A unit begun alone, continued shared, and finished alone has each step once."""
    with Run.open(tmp_path, CONFIG) as run:
        for step in range(4):
            run.log("a", step, x=step)
    with Run.open(tmp_path, CONFIG, shared=True) as run:
        for step in (2, 3, 4):  # resumed from a checkpoint after step 1
            run.log("a", step, x=step)
        assert [row["step"] for row in run.metrics("a")] == [0, 1, 2, 3, 4]
    with Run.open(tmp_path, CONFIG) as run:
        run.log("a", 5, x=5)
        assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3, 4, 5]
    before = (tmp_path / "metrics.jsonl").read_bytes()
    fold(tmp_path, ["a"])
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_what_a_unit_needs_comes_before_it():
    units = [Unit(name, lambda at: {}, tuple(needs)) for name, needs in (
        ("a", ""), ("b", "a"), ("c", ""), ("d", "bc"), ("e", "d"),
    )]
    assert [unit.name for unit in with_needs(units, "d")] == ["a", "b", "c", "d"]
    assert [unit.name for unit in with_needs(units, "c")] == ["c"]
    with pytest.raises(KeyError):
        with_needs(units, "f")


def test_the_clock_may_go_backwards(tmp_path):
    """A file written anew counts as written, also with an older time than before."""
    def write(run):
        run.write_json("a.json", {"x": 1})
        os.utime(run.folder / "a.json", ns=(5, 5))
        return {}

    with Run.open(tmp_path, CONFIG) as run:
        for name in ("first", "second"):
            run.unit(name, lambda: write(run))
            assert json.loads((tmp_path / "units" / f"{name}.json").read_bytes())["wrote"] == [
                "a.json"
            ]
