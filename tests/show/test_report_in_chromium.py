"""Reports in a real browser: on a desk, on a phone, at twice the size, in the dark, on paper."""

import base64
import re

import pandas as pd
import pytest

from mechprobe.show.attention import show_attention
from mechprobe.show.compare import compare_runs
from mechprobe.show.kept_view import keep_view
from mechprobe.show.report import build_report
from tests.show import chromium, texts
from tests.show import finished_run as made
from tests.show.contrast import CONTRAST

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
]
WIDE = pd.DataFrame({f"a_long_column_name_{i}": [0.5, 1 / 3] for i in range(30)})


def _run(folder, with_view=False):
    told = made.content()
    told["command"] = "mechprobe run " + "--x" * 300
    if with_view:
        told["sections"][0]["views"] = [{"file": "views/heads.json", "caption": "Heads"}]
    made.write(folder, told, WIDE)
    keep_view(show_attention(texts.decoder(), texts.TEXT, ["0.0", "1.1"]),
              folder / "views" / "heads.json")
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [_run(folder / "one", with_view=True), _run(folder / "two")]
    return {"report": build_report(runs[0]), "still": build_report(runs[1]),
            "compared": compare_runs(*runs)}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 640, 1300])  # a phone, 1280 at 200 %, a desk
def test_only_boxes_scroll_sideways_and_all_words_can_be_read(browser, pages, width, dark):
    browser.show_as(width, dark)
    for name, page in pages.items():
        browser.open(page)
        if name == "report":
            browser.wait("document.body.dataset.state === 'ready'")
            browser.wait("document.querySelectorAll('.panel canvas').length === 3")
        whole, seen, box = browser.run(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth, "
            "(e => e.scrollWidth > e.clientWidth)([...document.querySelectorAll('.box')].at(-1))]")
        assert whole <= seen
        assert box
        ratios = browser.run(CONTRAST.replace("SELECTOR", (
            "'h1, h2, h3, p, dt, dd, th, td, a, summary, figcaption, .source, .badge, pre, "
            ".count span, footer'")))
        assert len(ratios) > 100
        assert min(ratios) > 4.5
    assert browser.errors == []
    assert browser.outgoing == []


def test_a_view_in_a_report_is_drawn_and_its_tokens_stay_text(browser, pages):
    browser.open(pages["report"])
    browser.wait("document.querySelectorAll('.panel canvas').length === 3")
    browser.run("document.querySelectorAll('.panel [role=button]')[1].focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('.panel').textContent.includes('1.1 Zoomed')")
    assert browser.run("document.title") == "Lines"
    assert browser.run("document.querySelector('.panel img, .panel script')") is None
    assert browser.errors == []
    assert browser.outgoing == []


def test_the_contents_lead_by_keyboard_to_what_they_name(browser, pages):
    browser.open(pages["still"])
    browser.press("Tab")
    for _ in range(2):
        browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Empty"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Enter")
    browser.wait("location.hash === '#section-2'")
    for place in browser.run("[...document.querySelectorAll('nav a')].map(a => a.hash)"):
        assert browser.run(f"document.querySelector('{place}') !== null")


def test_on_paper_everything_is_there(browser, pages):
    browser.open(pages["still"])
    browser.send("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run(
        "[...document.querySelectorAll('td, .source a, article, img')]"
        ".filter(e => !e.getClientRects().length).length")
    assert hidden == 0
    assert browser.run("getComputedStyle(document.querySelector('.box')).overflow") == "visible"
    assert browser.run("document.querySelector('nav').getClientRects().length") == 0
    pdf = base64.b64decode(browser.send("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2
