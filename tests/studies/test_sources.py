"""Every number of a verdict can be traced: claims name the tables they come from."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from mechprobe.studies.claims import HELD, Claim, traced

RECORDS = {
    "heuristic-core-laptop": "heuristic_core", "heuristic-core-real": "heuristic_core",
    "abstraction-laptop": "abstraction", "abstraction-full-cpu": "abstraction",
    "task-space-laptop": "task_spaces", "task-space-real": "task_spaces",
    "hierarchy-laptop": "hierarchy", "hierarchy-full-cpu": "hierarchy",
    "hierarchy-shapes": "hierarchy",
    "topology-laptop": "topology",
}


def test_files_are_found_by_how_a_claim_begins(tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("lines", "rows-0.5", "rows-0.7", "other"):
        (tmp_path / "tables" / f"{name}.csv").touch()
    sources = {"Lines ": ["lines", "missing"], "Rows": ["rows-*", "lines"]}
    claims = [Claim(words, HELD, "1", "") for words in ("Lines are 5", "Rows", "Nothing")]
    assert [claim.files for claim in traced(claims, sources, tmp_path)] == [
        ("tables/lines.csv",),
        ("tables/rows-0.5.csv", "tables/rows-0.7.csv", "tables/lines.csv"), (),
    ]
    assert traced(claims, sources, tmp_path)[0].as_dict() == {
        "claim": "Lines are 5", "verdict": HELD, "numbers": "1", "paper": "",
        "files": ["tables/lines.csv"],
    }


@pytest.mark.parametrize("record", RECORDS)
def test_every_recorded_claim_with_numbers_has_its_tables(repo, record):
    folder = repo / "benchmarks" / "results" / record
    sources = import_module(f"mechprobe.studies.{RECORDS[record]}.sources").SOURCES
    summary = (folder / "summary.md").read_text(encoding="utf-8").replace("&lt;", "<")
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \| ", summary, re.M)
    assert len(rows) >= 5
    for verdict, words, numbers in rows:
        (claim,) = traced([Claim(words, verdict, numbers, "")], sources, folder)
        if re.search(r"\d\.\d", numbers):
            assert claim.files, words
