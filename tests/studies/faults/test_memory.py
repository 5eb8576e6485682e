"""Memory stays flat over 10,000 steps of a search and over 100 opened models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("soak.py")
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc"),
]


def _held(kind: str, count: int, folder: Path) -> np.ndarray:
    """MiB in memory on the way."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), kind, str(count), str(folder)], text=True, timeout=1_500,
        capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1", "MECHPROBE_PROGRESS": "0"},
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return np.array(json.loads(done.stdout.splitlines()[-1])) / 1024


def _growth(held: np.ndarray) -> float:
    """MiB that a line through the values rises by from the first to the last."""
    return float(np.polyfit(np.arange(len(held)), held, 1)[0] * (len(held) - 1))


def test_ten_thousand_steps_of_a_search_hold_no_more_than_a_thousand(tmp_path):
    held = _held("search", 10_000, tmp_path)
    assert len(held) == 100
    print(f"{held[10]:.1f} MiB after 1,100 steps, {held[-1]:.1f} after 10,000")
    assert _growth(held[10:]) < 2  # 230 bytes a step: less than one list of floats kept
    assert held[-10:].max() < held[10:20].max() + 2


def test_a_hundred_opened_models_hold_no_more_than_ten(tmp_path):
    held = _held("loads", 100, tmp_path)
    print(f"{held[10:20].max():.1f} MiB at most over models 11 to 20, {held[-10:].max():.1f} over "
          "the last ten")
    assert _growth(held[10:]) < 3  # what one model holds: not one in ninety stays
    assert held[-10:].max() < held[10:20].max() + 3
