"""Studies killed at random points, again and again, end as those that were left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechprobe.studies import STUDIES

SCRIPT = Path(__file__).with_name("kill_study.py")
NOT_COMPARED = {".lock", ".claims", "report.html"}
"""Locks; and the page, which tells the seconds that units took: its content is report.json."""


def _content(folder: Path) -> dict[str, Any]:
    """Every file of a run, without the seconds that work took."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() or NOT_COMPARED.intersection(inside.parts):
            continue
        value: Any = path.read_bytes()
        if path.parent.name == "units":
            value = _timeless(json.loads(value))
        found[inside.as_posix()] = value
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "sha256")}
    return value


def _check(micro_order, tmp_path: Path, study: str, kills: int, *more: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), study, micro_order(study), str(tmp_path), str(kills), "0",
         *more],
        capture_output=True, text=True, timeout=1_500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MECHPROBE_PROGRESS": "0"},
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    whole = _content(tmp_path / "whole")
    assert len(whole) > 10
    assert not [name for name in whole if name.startswith("checkpoints/")]
    chains = sorted(tmp_path.glob("chain-*"))
    assert len(chains) == int(done.stdout.split()[-1]) >= 1
    for chain in chains:
        found = _content(chain)
        assert found.keys() == whole.keys()
        assert [name for name, value in found.items() if value != whole[name]] == []


def test_a_study_killed_thrice_ends_as_one_left_alone(micro_order, tmp_path):
    _check(micro_order, tmp_path, "topology", 3)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_killed_ten_times_ends_as_one_left_alone(micro_order, tmp_path, study):
    _check(micro_order, tmp_path, study, 10)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_report_killed_on_the_way_is_made_again(micro_order, tmp_path, study):
    _check(micro_order, tmp_path, study, 2, "report")
