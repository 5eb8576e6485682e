"""The record that is kept with the code: complete, small, and silent about whose machine it was."""

import json
import os

import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.show.record import command_without_places, without_places
from mechprobe.show.report import write_summary


def _tell(folder, **changes):
    told = json.loads((folder / "report.json").read_text())
    told.update(changes)
    (folder / "report.json").write_text(json.dumps(told))


def _rows(markdown, first):
    lines = markdown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first}"))
    end = next(i for i in range(start, len(lines) + 1)
               if i == len(lines) or not lines[i].startswith("|"))
    return [line.strip("| ").split(" | ") for line in lines[start:end]]


def test_everything_shown_is_copied(run_folder, tmp_path):
    target = tmp_path / "results" / "lines-tiny"
    assert write_summary(run_folder, target) == target / "summary.md"
    found = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert found == {"summary.md", "config.json", "tables/lines.csv", "figures/lines.png"}
    for rel in found - {"summary.md"}:
        assert (target / rel).read_bytes() == (run_folder / rel).read_bytes()


def test_the_summary_tells_verdicts_numbers_settings_and_versions(run_folder, tmp_path):
    text = write_summary(run_folder, tmp_path / "r").read_text(encoding="utf-8")
    assert "## Verdicts: 1 held, 1 did not hold, 1 not testable here" in text
    verdicts = [[cell.strip() for cell in row] for row in _rows(text, "Verdict")[2:]]
    assert [row[:3] for row in verdicts] == [
        ["**held**", "first claim", "3 of 4"], ["**did not hold**", "second claim", "0 of 4"],
        ["**not testable here**", "third claim", ""],
    ]
    assert _rows(text, "head")[3] == ["5.10", "−0.250", "0.5", "1", "no", "0.035"]
    assert "![Lines drawn](figures/lines.png)" in text
    settings = json.loads(text.split("```json\n")[1].split("\n```")[0])
    assert settings == json.loads((run_folder / "config.json").read_text())
    assert "- Most are.\n- See `5.1`.\n" in text


def test_no_host_and_no_absolute_path(run_folder, tmp_path):
    _tell(
        run_folder, notes=[f"read from {run_folder}/x.csv, and 80/20/10 or and/or https://a.b/c/d"],
        command=f"mechprobe run lines --data-dir '/home/some one/data' --out={run_folder} --x a/b",
    )
    target = tmp_path / "r"
    text = write_summary(run_folder, target).read_text(encoding="utf-8")
    for file in target.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for secret in (str(tmp_path), "/home", "some one", os.uname().nodename):
            assert secret.encode() not in content
    assert "mechprobe run lines --data-dir .../data --out=.../run --x a/b" in text
    assert "read from .../x.csv, and 80/20/10 or and/or https://a.b/c/d" in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("see /a/b/c.txt.", "see .../c.txt."),
        ("(/srv/models/m-1)", "(.../m-1)"),
        ("C:\\Users\\me\\x.csv", ".../x.csv"),
        ("1/2, a/b/c, ./x/y", "1/2, a/b/c, ./x/y"),
    ],
)
def test_absolute_paths_lose_all_but_their_end(given, kept):
    assert without_places(given) == kept


def test_a_command_with_an_open_quote_is_still_cleaned():
    assert command_without_places("run '/home/me/x") == "run '.../x"


def test_data_cannot_break_the_table_or_become_html(run_folder, tmp_path):
    from mechprobe.runs.tables import write_table

    write_table(run_folder / "tables/lines.csv", pd.DataFrame(
        {"label": ["a | b\nc", "<script>alert(1)</script>"], "x": [1, 2]}
    ))
    text = write_summary(run_folder, tmp_path / "r").read_text(encoding="utf-8")
    assert "| a \\| b c | 1 |" in text
    assert "<script" not in text


def test_an_earlier_record_is_replaced_whole(run_folder, tmp_path):
    target = tmp_path / "r"
    write_summary(run_folder, target)
    (target / "tables" / "old.csv").write_text("x")
    (target / "figures" / "old.png").write_text("x")
    write_summary(run_folder, target)
    assert {p.name for p in target.rglob("*.*")} == {
        "summary.md", "config.json", "lines.csv", "lines.png",
    }


def test_a_folder_of_other_things_or_no_folder_is_refused(run_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex' and no summary\.md"):
        write_summary(run_folder, other)
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="cannot make the folder"):
        write_summary(run_folder, other / "thesis.tex" / "r")


def test_an_unfinished_run_leaves_no_record(run_folder, tmp_path):
    (run_folder / "tables" / "lines.csv").unlink()
    with pytest.raises(InputError, match="missing"):
        write_summary(run_folder, tmp_path / "r")
    assert not (tmp_path / "r" / "summary.md").exists()
