"""The report: complete, self-contained, and nothing from data can become part of the page."""

import base64
import json
import shutil

import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.show.report import build_report
from tests.show import finished_run as made
from tests.show.reading import Page

EVIL = "<script>alert(1)</script>\"'&amp; </td></style>"


def _page(folder) -> Page:
    return Page(build_report(folder).read_text(encoding="utf-8"))


def test_it_loads_nothing_and_runs_nothing(run_folder):
    page = _page(run_folder)
    assert page.unmatched == []
    kinds = {kind for kind, _ in page.elements}
    assert not {"script", "link", "iframe", "object", "embed", "base"} & kinds
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    (image,) = page.all("img")
    kind, _, data = image["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == (run_folder / "figures" / "lines.png").read_bytes()
    style = "".join(page.texts("style"))
    assert "url(" not in style
    assert "@import" not in style
    for link in page.all("a"):
        target = link["href"]
        if target.startswith("#"):
            assert target[1:] in {a.get("id") for _, a in page.elements}
        else:
            assert (run_folder / target).exists()
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]


def test_verdicts_come_first_and_are_counted(run_folder):
    page = _page(run_folder)
    assert page.texts("h2") == ["Verdicts", "Every line", "Empty", "Notes", "How to reproduce"]
    assert page.texts("h3") == ["first claim", "second claim", "third claim"]
    kinds = [a["class"] for a in page.all("article")]
    assert kinds == ["claim held", "claim failed", "claim untested"]
    assert page.texts("b") == ["1", "1", "1"]
    assert "5.1" in page.texts("code")


def test_a_claim_links_to_the_files_its_numbers_come_from(run_folder):
    page = build_report(run_folder).read_text(encoding="utf-8")
    first, second = page.split("<article")[1:3]
    assert 'Numbers from <a href="tables/lines.csv">tables/lines.csv</a>' in first
    assert "Numbers from" not in second


def test_the_table_shows_words_as_words_and_numbers_alike(run_folder):
    page = _page(run_folder)
    assert page.texts("th") == ["head", "out of domain", "sparsity", "seed", "in core", "p"]
    cells = page.texts("td")
    assert [cells[i : i + 6] for i in range(0, len(cells), 6)] == [
        ["5.1", "0.123", "0.5", "0", "yes", "<0.001"],
        ["5.10", "−0.250", "0.5", "1", "no", "0.035"],
        ["mlp.3", "–", "0.7", "2", "yes", "1.000"],
    ]
    assert "tables/lines.csv" in page.texts("a")


def test_how_to_reproduce_is_complete(run_folder):
    page = _page(run_folder)
    assert made.content()["command"] in page.texts("code")
    pairs = dict(zip(page.texts("dt"), page.texts("dd"), strict=False))
    assert len(page.texts("dt")) == len(page.texts("dd"))
    assert pairs["rates"] == "0.1, 1e-5"
    assert pairs["seed"] == "0"
    assert "fit" in pairs
    assert {"python", "threads", "torch", "numpy", "mechprobe"} <= set(pairs)


def test_a_change_on_resuming_is_in_the_report(tmp_path):
    made.write(tmp_path, made.content(), threads=1)
    Run.open(tmp_path, {"study": "lines", "seed": 0, "rates": (0.1, 1e-5), "threads": 2}).close()
    assert "threads: 1 → 2" in _page(tmp_path).texts("li")


def test_nothing_from_data_becomes_html(tmp_path):
    def poisoned(value):
        if isinstance(value, str):
            return value if value in ("held", "did not hold", "not testable here") or (
                value.endswith((".csv", ".png"))) else value + EVIL
        if isinstance(value, dict):
            return {k: poisoned(v) for k, v in value.items()}
        return [poisoned(v) for v in value]

    table = pd.DataFrame({f"column{EVIL}": [f"label{EVIL}", "`<b>`"], "x": [1, 2]})
    made.write(tmp_path, poisoned(made.content()), table, note=EVIL, **{f"key{EVIL}": 1})
    name = "a<b>\"'.csv"
    told = json.loads((tmp_path / "report.json").read_text())
    shutil.copy(tmp_path / "tables" / "lines.csv", tmp_path / "tables" / name)
    told["sections"][0]["tables"].append({"file": f"tables/{name}", "caption": "c"})
    (tmp_path / "report.json").write_text(json.dumps(told))
    page = _page(tmp_path)
    assert page.unmatched == []
    assert not {"script", "b>"} & {tag for tag, _ in page.elements}
    everything = "\n".join(text for _, text in page.text)
    for start in ("Lines", "Are they straight?", "Most are.", "first claim", "3 of 4", "4 of 4",
                  "Every line", "All of them.", "The lines", "Lines drawn", "A note.", "label",
                  "column", "key", "/home/someone/data"):
        assert f"{start}{EVIL}" in everything
    (image,) = page.all("img")
    assert image["alt"] == f"Lines drawn{EVIL}"
    assert all((tmp_path / _unquoted(a["href"])).exists() for a in page.all("a")
               if not a["href"].startswith("#"))


def _unquoted(link):
    from urllib.parse import unquote

    return unquote(link)


def test_a_long_table_says_that_it_is_cut(tmp_path):
    made.write(tmp_path, made.content(), pd.DataFrame({"x": range(1_000)}))
    page = _page(tmp_path)
    assert len(page.texts("td")) == 200
    assert any("first 200 of 1000 rows" in text for text in page.texts("span"))


def test_a_vector_figure_cannot_run_anything(run_folder):
    evil = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    (run_folder / "figures" / "lines.svg").write_text(evil)
    told = json.loads((run_folder / "report.json").read_text())
    told["sections"][0]["figures"][0]["file"] = "figures/lines.svg"
    (run_folder / "report.json").write_text(json.dumps(told))
    page = _page(run_folder)
    assert page.all("script") == []
    assert page.all("img")[0]["src"].startswith("data:image/svg+xml;base64,")


def test_the_same_run_gives_the_same_page(run_folder):
    first = build_report(run_folder).read_bytes()
    assert build_report(run_folder).read_bytes() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "report.json").unlink(), r"has no report\.json: the run is not finished"),
        (lambda f: (f / "report.json").write_text("{"), r"report\.json is damaged"),
        (lambda f: (f / "report.json").write_text("[]"), r"report\.json is damaged"),
        (lambda f: (f / "config.json").unlink(), "holds no run"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is damaged"),
        (lambda f: (f / "tables/lines.csv").unlink(), r"lines\.csv is missing; run the study"),
        (lambda f: (f / "tables/lines.csv").write_text('"x'), r"lines\.csv is damaged"),
        (lambda f: (f / "figures/lines.png").unlink(), r"lines\.png is missing"),
        (lambda f: (f / "figures/lines.png").write_bytes(
            (f / "figures/lines.png").read_bytes()[:-20]), r"lines\.png is damaged"),
        (lambda f: (f / "units/fit.json").write_text("{"), r"fit\.json is damaged"),
    ],
)
def test_what_is_missing_or_damaged_is_named(run_folder, change, said):
    change(run_folder)
    with pytest.raises(InputError, match=said) as caught:
        build_report(run_folder)
    assert "\n" not in str(caught.value)
    assert not (run_folder / "report.html").exists()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("claims", 0, "verdict"), "proven", "verdict 'proven' is none of"),
        (("claims", 0), {"claim": "x"}, "report.json is damaged"),
        (("summary",), "one text", "a list of texts was expected"),
        (("title",), None, "a text was expected"),
        (("claims", 0, "files"), "tables/lines.csv", "a list of texts was expected"),
        (("claims", 0, "files"), ["../x.csv"], "outside the run folder"),
        (("sections", 0, "tables", 0, "file"), "../../secret.csv", "outside the run folder"),
        (("sections", 0, "figures", 0, "file"), "/etc/hostname.png", "outside the run folder"),
    ],
)
def test_content_that_makes_no_report_is_named(run_folder, path, value, said):
    told = made.content()
    place = told
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (run_folder / "report.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=said):
        build_report(run_folder)
