"""Two runs on one page: what differs comes first, what is missing is said, nothing is loaded."""

import json

import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.show.compare import compare_runs
from tests.show import finished_run as made
from tests.show.reading import Page


def _write(folder, change=lambda told: None, table=made.TABLE, **settings):
    told = made.content()
    change(told)
    made.write(folder, told, table, **settings)
    return folder


def _other(told):
    told["claims"][1]["verdict"] = "held"
    told["claims"][2]["claim"] = "third claim of 7"
    told["sections"][1] |= {
        "title": "Only here", "tables": [{"file": "tables/lines.csv", "caption": "Again"}]}


@pytest.fixture
def pair(tmp_path):
    first = _write(tmp_path / "a" / "one", lambda told: told["claims"][2].update(
        claim="third claim of 3"))
    second = _write(tmp_path / "b" / "two", _other, pd.DataFrame({"x": [7.25]}), width=3)
    return first, second


def test_claims_whose_verdict_differs_come_first(pair, tmp_path):
    path = compare_runs(*pair)
    assert path == tmp_path / "a" / "compare-one-two.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.unmatched == []
    assert page.texts("h2") == [
        "Verdicts", "Settings that differ", "Every line", "Empty", "Only here"]
    assert page.texts("h3") == [
        "second claim", "first claim", "third claim of 3 / third claim of 7"]
    badges = [a["class"].split()[1] for a in page.all("span") if "badge" in a.get("class", "")]
    assert badges == ["failed", "held", "held", "held", "untested", "untested"]
    assert "1 of the 3 claims in both runs get another verdict: they come first." in page.texts("p")


def test_settings_tables_and_figures_stand_beside_each_other(pair):
    page = Page(compare_runs(*pair).read_text(encoding="utf-8"))
    cells = page.texts("td")
    assert cells[:2] == ["–", "3"]
    assert "width" in page.texts("th")
    assert "seed" not in page.texts("th")[:6]
    assert {"5.10", "7.250"} <= set(cells)
    images = [image["src"] for image in page.all("img")]
    assert len(images) == 2
    assert all(image.startswith("data:image/png;base64,") for image in images)
    assert "no tables/lines.csv in this run" in page.texts("p")
    for link in page.all("a"):
        if not link["href"].startswith("#"):
            assert (pair[0].parent / link["href"]).exists() or link["href"].endswith("report.html")
    kinds = {kind for kind, _ in page.elements}
    assert not {"script", "link", "iframe", "object", "embed", "base"} & kinds


def test_runs_of_one_name_go_by_their_paths_and_the_page_goes_where_it_is_told(tmp_path):
    runs = [_write(tmp_path / name / "run") for name in "ab"]
    path = compare_runs(*runs, tmp_path / "pages" / "both.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "pages" / "both.html"
    assert {str(run) for run in runs} <= set(page.texts("p"))
    assert "../a/run/tables/lines.csv" in [link["href"] for link in page.all("a")]
    assert "0 of the 3 claims in both runs get another verdict." in page.texts("p")


def test_what_a_run_says_never_becomes_html(tmp_path):
    evil = "</style><script>alert(1)</script>"

    def poison(told):
        told["claims"][0] |= {"claim": evil, "numbers": evil, "paper": evil}
        told["sections"][0]["title"] = evil
        told["title"] = evil

    runs = [_write(tmp_path / name, poison, note=name + evil) for name in "ab"]
    page = Page(compare_runs(*runs).read_text(encoding="utf-8"))
    assert page.unmatched == []
    assert page.all("script") == []
    assert page.texts("h3")[0] == evil


def test_runs_that_cannot_be_compared_are_named(pair, tmp_path):
    first, second = pair
    with pytest.raises(InputError, match="is given twice"):
        compare_runs(first, first.parent / "." / "one")
    with pytest.raises(InputError, match="nowhere holds no run"):
        compare_runs(first, tmp_path / "nowhere")
    (second / "report.json").unlink()
    with pytest.raises(InputError, match=r"two has no report\.json: the run is not finished"):
        compare_runs(first, second)
    config = json.loads((first / "config.json").read_text())
    other = _write(tmp_path / "other")
    config["settings"]["study"] = "circles"
    (first / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"a run of circles and .* of lines; compare"):
        compare_runs(first, other)
    assert not list(tmp_path.rglob("compare-*.html"))


def test_claims_that_differ_by_a_number_alone_stay_apart(tmp_path):
    def change(told):
        half = told["claims"][0] | {"claim": "At 50% it holds", "verdict": "held"}
        most = told["claims"][0] | {"claim": "At 70% it holds", "verdict": "did not hold"}
        told["claims"] = [half, most]

    def other(told):
        change(told)
        told["claims"][0]["verdict"] = "did not hold"

    first, second = _write(tmp_path / "one", change), _write(tmp_path / "two", other)
    page = Page(compare_runs(first, second).read_text(encoding="utf-8"))
    assert page.texts("h3") == ["At 50% it holds", "At 70% it holds"]
    assert "1 of the 2 claims in both runs get another verdict: they come first." in page.texts("p")


def test_a_report_that_names_no_files_behind_its_claims_is_said_to_be_older(pair):
    first, second = pair
    told = json.loads((second / "report.json").read_text())
    for claim in told["claims"]:
        claim.pop("files", None)
    (second / "report.json").write_text(json.dumps(told))
    said = [text for text in Page(compare_runs(*pair).read_text(encoding="utf-8")).texts("p")
            if "names no files behind its claims" in text]
    assert len(said) == 1
    assert said[0].startswith("two: ")
    assert "run the study again" in said[0]
    both = _write(first.parent / "newer")
    page = compare_runs(first, both).read_text(encoding="utf-8")
    assert "names no files" not in page
