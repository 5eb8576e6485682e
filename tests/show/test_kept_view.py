"""Views in a report: kept as files, drawn once a page by one copy of circuitsvis."""

import json
import re

import pytest

from mechprobe.errors import InputError
from mechprobe.show.attention import show_attention
from mechprobe.show.kept_view import keep_view, read_view
from mechprobe.show.report import build_report
from mechprobe.show.tokens import show_tokens
from mechprobe.show.view import Panel, View
from tests.show import finished_run as run_made
from tests.show import texts as made
from tests.show.reading import Page

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def views():
    model = made.decoder()
    return [
        show_attention(model, made.TEXT, ["0.1", "1.2"]),
        show_tokens(model, made.TEXT, [float(i) for i in range(len(made.EVIL))]),
        show_attention(made.encoder_decoder(), (made.TEXT, "cat sat"), ["cross 1.0"]),
    ]


def _report(folder, views):
    told = run_made.content()
    told["sections"][0]["views"] = [
        {"file": f"views/{i}.json", "caption": f"View {i}"} for i in range(len(views))]
    run_made.write(folder, told)
    for i, view in enumerate(views):
        keep_view(view, folder / "views" / f"{i}.json")
    return build_report(folder).read_text(encoding="utf-8")


def test_a_view_comes_back_as_it_was(views, tmp_path):
    for view in views:
        assert read_view(keep_view(view, tmp_path / "view.json")).page() == view.page()


def test_a_report_carries_its_views_with_one_bundle(views, tmp_path):
    source = _report(tmp_path, views)
    page = Page(source)
    assert page.unmatched == []
    assert source.count('id="circuitsvis"') == 1
    assert len(page.all("script")) == 3  # the bundle, the data, our own
    drawn = json.loads(re.search(r'id="panels">(.*?)</script>', source, re.S)[1])
    assert [one["id"] for one in drawn] == ["panel-0", "panel-1", "panel-2"]
    assert [one["props"] for one in drawn] == [
        json.loads(json.dumps(dict(view.panels[0].props))) for view in views]
    places = [a["id"] for a in page.all("div") if "panel" in a.get("class", "").split()]
    assert places == ["panel-0", "panel-1", "panel-2"]
    assert "views/1.json" in page.texts("a")
    for token in made.EVIL:
        assert any(token in text for _, text in page.text)
    assert "img/src=x/onerror" not in {kind for kind, _ in page.elements}


def test_a_report_without_views_runs_nothing(tmp_path):
    assert Page(_report(tmp_path, [])).all("script") == []


def test_a_view_that_cannot_be_kept_or_read_is_said(views, tmp_path):
    with pytest.raises(InputError, match="finite numbers only"):
        keep_view(View("x", (Panel("x", "ColoredTokens", {"values": [float("nan")]}),)),
                  tmp_path / "view.json")
    assert not (tmp_path / "view.json").exists()
    for damaged in ("{", '{"title": "x"}', '{"title": "x", "panels": [{"kind": 1}]}'):
        (tmp_path / "view.json").write_text(damaged)
        with pytest.raises(InputError, match=r"view\.json is damaged"):
            read_view(tmp_path / "view.json")
