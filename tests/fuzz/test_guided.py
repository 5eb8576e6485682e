"""A short coverage-guided search of every reader of text; longer ones are run by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

TEXT = ("tsv", "csv", "jsonl", "conllu", "blimp", "cogs", "released", "card", "grammar")


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT)
def test_no_input_found_in_ten_seconds_is_neither_read_nor_refused(name, repo, tmp_path):
    pytest.importorskip("atheris", reason="coverage-guided fuzzing needs the extra fuzz (atheris)")
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.coverage_guided", name, "-max_total_time=10",
         "-max_len=2000", f"-artifact_prefix={tmp_path}/"],
        cwd=repo, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    assert "Done " in found.stderr
