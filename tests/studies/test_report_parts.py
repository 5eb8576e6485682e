"""Tables and figures of a run, kept by name, and sections that show what is there."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechprobe.runs import Run
from mechprobe.studies.report_parts import Gallery, Parts, write_tables


def test_figures_are_kept_with_their_numbers(tmp_path):
    with Run.open(tmp_path / "run", {"study": "x"}) as run:
        gallery = Gallery(run)
        gallery.keep("line", Figure(), pd.DataFrame({"x": [1, 2]}))
    assert gallery.drawn == {"line": "figures/line.png"}
    folder = tmp_path / "run" / "figures"
    assert sorted(path.name for path in folder.iterdir()) == ["line.csv", "line.pdf", "line.png"]
    assert pd.read_csv(folder / "line.csv")["x"].tolist() == [1, 2]


def test_tables_of_units_are_found_and_empty_ones_are_not_named(tmp_path):
    with Run.open(tmp_path / "run", {"study": "x"}) as run:
        run.write_table("tables/of-a-unit.csv", pd.DataFrame({"x": [1]}))
        there = write_tables(run, {
            "whole": pd.DataFrame({"x": [1]}), "empty": pd.DataFrame({"x": []}),
        })
        assert run.path("tables/empty.csv").is_file()
    assert there == {"of-a-unit": "tables/of-a-unit.csv", "whole": "tables/whole.csv"}


def test_a_section_shows_what_is_there_in_the_order_asked_for():
    parts = Parts({"a": "tables/a.csv", "b": "tables/b.csv"}, {"f": "figures/f.png"})
    captions = {"b": "B", "none": "?", "a": "A"}
    section = parts.section("Title", "One.", captions, {"f": "F", "g": "G"})
    assert section == {
        "title": "Title", "text": ["One."],
        "tables": [{"file": f"tables/{n}.csv", "caption": n.upper()} for n in ("b", "a")],
        "figures": [{"file": "figures/f.png", "caption": "F"}],
    }
    assert parts.section("Title", ["One.", "Two."], {}, {})["text"] == ["One.", "Two."]
