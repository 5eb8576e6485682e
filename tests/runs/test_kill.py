"""A run killed before any of its file operations, twice, ends like one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_study.py")


def _content(folder: Path) -> dict[str, object]:
    """Every file of a run, with the seconds that units took left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        value: object = path.read_bytes()
        if path.parent.name == "units":
            value = {k: v for k, v in json.loads(path.read_bytes()).items() if k != "seconds"}
        found[path.relative_to(folder).as_posix()] = value
    return found


def _check(tmp_path: Path, first: int, stride: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(first), str(stride)],
        capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60
    whole = _content(tmp_path / "whole")
    assert set(whole) == {
        "config.json", "metrics.jsonl", "models/fit-0.safetensors", "models/fit-1.safetensors",
        "tables/fits.csv", "units/fit-0.json", "units/fit-1.json", "units/table.json",
    }
    killed = sorted(tmp_path.glob("kill-*"))
    assert len(killed) >= int(done.stdout) // stride - 1
    for folder in killed:
        assert _content(folder) == whole, folder.name


def test_killed_twice_and_resumed_every_file_is_the_same(tmp_path):
    _check(tmp_path, first=1, stride=9)


@pytest.mark.slow
def test_killed_before_every_single_file_operation(tmp_path):
    _check(tmp_path, first=1, stride=1)
