"""The explorer in a real browser: numbers follow clicks, and always belong to the state shown."""

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.show.explorer.explore import explore
from mechprobe.tasks import PromptTask
from tests.show import chromium, live
from tests.show import texts as made
from tests.show.chromium import clean
from tests.show.contrast import CONTRAST

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
]
HERE = 0
"""The number of an explorer's only checkpoint."""


def _ask(explorer, kind, checkpoint=HERE, **question):
    return explorer.answer({"kind": kind, "checkpoint": checkpoint, **question})


def _prompts():
    words = made.EVIL
    return PromptTask(
        [" ".join(words[(i + k) % 10] for k in range(3)) for i in range(8)],
        answers=[words[(i + 3) % 10] for i in range(8)], name="next word")


@pytest.fixture(scope="module")
def explorer(decoder):
    nets = {"first": ["0.0", "0.1", "mlp.0", "mlp.1"], "second": ["1.*", "mlp.1"]}
    return explore(decoder, _prompts(), nets, baseline="zero", progress=False)


def _metric(text):
    return float(text.split(" [")[0].split()[-1].replace("−", "-"))


def test_a_click_in_a_saved_page_changes_the_numbers(browser, tmp_path, explorer):
    browser.open(explorer.save_html(tmp_path / "saved.html"))
    browser.wait(live.READY)

    def text():
        return browser.run("document.querySelector('.mpx-metric').textContent")

    assert _metric(text()) == pytest.approx(explorer.scene()["full"][0], abs=1e-3)
    browser.click('[data-site="0.1"]')
    browser.wait(live.READY)
    alone = _ask(explorer, "set", closed=["0.1"], reads=0)["metric"][0]
    assert _metric(text()) == pytest.approx(alone, abs=1e-3)
    assert browser.run("document.querySelector('[data-site=\"0.1\"]').ariaPressed") == "true"
    assert browser.run("document.querySelector('[readonly]').value") == 'closed = ["0.1"]'
    browser.click('[data-site="mlp.1"]')
    browser.wait(live.READY)
    assert text() == "Not measured in this saved page"
    browser.press("z", code="KeyZ", modifiers=2)
    browser.wait(live.READY)
    assert _metric(text()) == pytest.approx(alone, abs=1e-3)
    browser.run(
        "(() => {const s = document.querySelector('[aria-label=\"start from a set\"]');"
        "s.value = 'set second'; s.dispatchEvent(new Event('change'))})()")
    browser.wait(live.READY)
    shut = ["0.0", "0.1", "0.2", "mlp.0"]
    kept = _ask(explorer, "set", closed=shut, reads=0)["metric"][0]
    assert _metric(text()) == pytest.approx(kept, abs=1e-3)
    clean(browser)


def test_heads_are_reached_and_closed_by_keyboard(browser, tmp_path, explorer):
    browser.open(explorer.save_html(tmp_path / "saved.html"))
    browser.wait(live.READY)
    browser.run("document.querySelector('.mpx-site').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        browser.press(key)
    assert browser.run("document.activeElement.dataset.site") == "1.2"
    assert "head 1.2; open; closing it alone takes" in browser.run(
        "document.activeElement.getAttribute('aria-label')")
    browser.wait("document.querySelector('.mpx-attention h3').textContent === 'Head 1.2'")
    browser.wait("document.querySelectorAll('.mpx-attention td[title]').length === 9")
    browser.press(" ")
    browser.wait(live.READY)
    assert browser.run("document.querySelector('[readonly]').value") == 'closed = ["1.2"]'
    unnamed = browser.run(
        "[...document.querySelectorAll('.mpx button, .mpx input, .mpx select')].filter(e => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length")
    assert unnamed == 0
    assert browser.run("document.querySelectorAll('.mpx-site[tabindex=\"0\"]').length") == 2
    clean(browser)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 640, 390])  # a desk, 1280 at 200 %, a phone
def test_only_boxes_scroll_sideways_and_all_words_can_be_read(
    browser, tmp_path, explorer, width, dark
):
    browser.show_as(width, dark)
    page = live.Live(browser, explorer, tmp_path / "live.html")
    browser.run("document.querySelector('form input').value = 'cat dog sat'")
    page.click("form button")
    page.click('[data-site="0.1"]')
    browser.run("document.querySelector('[data-site=\"1.1\"]').focus()")
    page.settle("document.querySelectorAll('.mpx-attention td[title]').length === 9")
    page.settle()
    for colour in ("effect", "changed"):
        browser.run("(s => {s.value = '" + colour + "'; s.dispatchEvent(new Event('change'))})"
                    "(document.querySelector('[aria-label=\"colour by\"]'))")
        ratios = browser.run(CONTRAST.replace("SELECTOR", (
            "'.mpx-site:not(.mpx-closed), .mpx p, .mpx h2, .mpx h3, .mpx label, .mpx bdi, .mpx th, "
            ".mpx-figures, .mpx button:not(.mpx-site, :disabled), .mpx input, .mpx select'")))
        assert len(ratios) > 60
        assert min(ratios) > 4.5
    wide, window = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window == width
    paper = browser.run("getComputedStyle(document.querySelector('.mpx')).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    clean(browser)


@pytest.mark.parametrize("theme_light", [False, True])
def test_in_jupyterlab_its_theme_decides_light_or_dark(browser, tmp_path, explorer, theme_light):
    browser.show_as(1280, dark=theme_light)  # the system says otherwise
    live.Live(browser, explorer, tmp_path / "live.html")
    browser.run(f"document.body.dataset.jpThemeLight = '{str(theme_light).lower()}'")
    ink = browser.run("getComputedStyle(document.querySelector('.mpx')).color")
    assert ink == ("rgb(27, 31, 36)" if theme_light else "rgb(228, 232, 236)")


def test_a_saved_page_has_no_empty_heading(browser, tmp_path, explorer):
    browser.open(explorer.save_html(tmp_path / "saved.html"))
    browser.wait(live.READY)
    browser.run("document.querySelector('[data-site=\"mlp.1\"]').focus()")
    browser.wait("document.querySelector('.mpx-attention h3').textContent === 'MLP of layer 1'")
    empty = browser.run("[...document.querySelectorAll('h1, h2, h3, h4, caption, th, legend')]"
                        ".filter(e => !e.textContent.trim()).length")
    assert empty == 0
    assert browser.run("[...document.querySelectorAll('section:not([hidden]) > h3')].every("
                       "e => e.parentElement.textContent.length > e.textContent.length)")


def test_the_live_page_asks_python(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    page.click('[data-site="1.1"]')
    page.click('[data-site="mlp.0"]')
    asked = _ask(explorer, "set", closed=["1.1", "mlp.0"], reads=0)
    assert _metric(page.text(".mpx-metric")) == pytest.approx(asked["metric"][0], abs=1e-3)
    assert sorted(explorer.closed) == ["1.1", "mlp.0"]
    changed = asked["changed"][explorer.circuit.names.index("1.0")]
    label = browser.run("document.querySelector('[data-site=\"1.0\"]').ariaLabel")
    assert f"changed by {round(100 * changed)}% now" in label
    assert page.text('[data-site="1.1"] small') == "closed"

    browser.run(f"document.querySelector('form input').value = {'cat sat </script>'!r}")
    page.click("form button")
    assert page.text(".mpx-tokens") == "catsat</script>"
    browser.run("document.querySelector('form input').value = ''")
    page.click("form button")
    assert "give one text or a pair" in page.text(".mpx-status.mpx-wrong")

    page.click("[aria-label='next example']")
    browser.run("[...document.querySelectorAll('button')].find("
                "b => b.textContent === 'Compare two sets').click()")
    page.settle()
    page.settle("document.querySelector('.mpx-difference').textContent.includes('[')")
    assert browser.run("document.querySelectorAll('.mpx-side:not([hidden])').length") == 2
    gap = _ask(explorer, "compare", first=["1.1", "mlp.0"], second=[])
    assert _metric(page.text(".mpx-difference")) == pytest.approx(gap["difference"][0], abs=1e-3)
    for _ in range(2):
        page.click(".mpx-undo")
    assert _metric(page.text(".mpx-metric")) == pytest.approx(explorer.scene()["full"][0], abs=1e-3)
    clean(browser)


def test_the_mouse_over_a_head_shows_where_it_looks(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    x, y = browser.run("(r => [r.x + 9, r.y + 9])"
                       "(document.querySelector('[data-site=\"1.1\"]').getBoundingClientRect())")
    browser.move(x, y)
    page.settle("document.querySelectorAll('.mpx-attention td[title]').length === 9")
    shown = browser.run("[...document.querySelectorAll('.mpx-attention td[title]')]"
                        ".map(e => Number(e.title.split(': ').at(-1)))")
    told = _ask(explorer, "attention", site="1.1", closed=[], reads=0)
    assert shown == pytest.approx(np.array(told["weights"]).ravel().tolist(), abs=6e-4)
    clean(browser)


def test_the_closed_set_is_copied_as_python(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    for site in ("0.2", "mlp.1", "1.0"):
        page.click(f'[data-site="{site}"]')
    browser.run("document.addEventListener('copy', () => {"
                "window.copied = document.activeElement.value})")
    browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    browser.run("[...document.querySelectorAll('button')].find("
                "b => b.textContent === 'Copy as Python').click()")
    browser.wait("window.copied !== undefined")
    names = {}
    exec(browser.run("window.copied"), names)
    assert names["closed"] == ["0.2", "1.0", "mlp.1"]
    browser.wait("document.querySelector('.mpx-status').textContent === 'Copied as Python.'")
    clean(browser)


@pytest.fixture(scope="module")
def trained(decoder):
    """The decoder with an earlier checkpoint whose outputs are half as sure, and a broken one."""
    early = made.decoder()
    with torch.no_grad():
        early.unembed.W_U.mul_(0.5)
    checkpoints = {"early": early, "broken": "/nowhere/at/all"}
    return explore(
        decoder, _prompts(), checkpoints=checkpoints, baseline="zero", progress=False)


def _slide(browser, to, view=0):
    browser.run(f"(() => {{const s = document.querySelectorAll('[type=range]')[{view}]; "
                f"s.value = {to}; s.dispatchEvent(new Event('input')); "
                "s.dispatchEvent(new Event('change'))})()")


def test_the_slider_goes_through_checkpoints(browser, tmp_path, trained):
    page = live.Live(browser, trained, tmp_path / "live.html")
    late = _metric(page.text(".mpx-metric"))
    _slide(browser, 0)
    page.settle()
    assert page.text("output") == "early"
    assert page.text(".mpx-side .mpx-note").endswith("checkpoint “early”")
    assert _metric(page.text(".mpx-metric")) == pytest.approx(
        trained.at(0).full.metric.estimate, abs=1e-3)
    assert abs(late - _metric(page.text(".mpx-metric"))) > 1e-3
    page.click('[data-site="0.2"]')
    assert _metric(page.text(".mpx-metric")) == pytest.approx(
        trained.at(0).measure(["0.2"]).metric.estimate, abs=1e-3)
    clean(browser)


def test_two_views_of_one_widget_keep_to_their_own_checkpoint(browser, tmp_path, trained):
    page = live.Live(browser, trained, tmp_path / "live.html", views=2)
    _slide(browser, 0, view=0)
    page.settle()
    for view in (1, 0):
        browser.run(f"document.querySelectorAll('.mpx')[{view}]"
                    ".querySelector('[data-site=\"0.1\"]').click()")
        page.settle()
    shown = browser.run("[...document.querySelectorAll('.mpx')].map("
                        "e => e.querySelector('.mpx-metric').textContent)")
    measured = [trained.at(i).measure(["0.1"]).metric.estimate for i in (0, 2)]
    assert [_metric(text) for text in shown] == pytest.approx(measured, abs=1e-3)
    assert abs(measured[0] - measured[1]) > 0.01
    assert browser.run("[...document.querySelectorAll('output')].map(e => e.textContent)") == [
        "early", "this model"]
    clean(browser)


def _close(browser, site):
    """A click without the mouse, which would also look at the site."""
    browser.run(f"document.querySelector('[data-site=\"{site}\"]').click()")


def _state(browser):
    """What the page shows: the sites it calls closed, and its numbers."""
    return browser.run(
        "[[...document.querySelectorAll('[aria-pressed=true][data-site]')]"
        ".map(e => e.dataset.site), document.querySelector('.mpx-metric').textContent,"
        "document.querySelector('.mpx-outputs').textContent,"
        "document.querySelector('[readonly]').value]")


def test_a_click_shows_its_site_closed_when_its_numbers_are_there(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    before = _state(browser)
    page.held = []
    for site in ("0.1", "mlp.1", "1.2"):
        _close(browser, site)
    (first,) = page.asked("set")
    assert _state(browser) == before
    waiting = "[...document.querySelectorAll('.mpx-waits')].map(e => e.dataset.site)"
    assert sorted(browser.run(waiting)) == ["0.1", "1.2", "mlp.1"]
    assert browser.run("document.querySelector('.mpx').ariaBusy") == "true"
    browser.wait("document.querySelector('.mpx-status').textContent === 'Waiting for the answer …'")

    page.held = []
    page.reply(first)
    page.asked("set")  # one question for the two clicks that came meanwhile
    closed, metric, *_ = _state(browser)
    assert closed == ["0.1"]
    alone = _ask(explorer, "set", closed=["0.1"], reads=0)["metric"][0]
    assert _metric(metric) == pytest.approx(alone, abs=1e-3)
    (last,), page.held = page.held, None
    page.reply(last)
    page.settle()
    closed, metric, *_ = _state(browser)
    assert sorted(closed) == ["0.1", "1.2", "mlp.1"]
    whole = _ask(explorer, "set", closed=closed, reads=0)["metric"][0]
    assert _metric(metric) == pytest.approx(whole, abs=1e-3)
    assert browser.run(waiting) == []
    clean(browser)


def test_a_question_that_fails_leaves_what_was_shown(browser, tmp_path, trained):
    page = live.Live(browser, trained, tmp_path / "live.html")
    _close(browser, "0.1")
    page.settle()
    before, tokens = _state(browser), page.text(".mpx-tokens")
    page.held = []
    _close(browser, "1.1")
    (question,), page.held = page.asked("set"), None
    page.reply(question, {"error": "RuntimeError: out of memory"})
    page.settle()
    assert page.text(".mpx-wrong") == "RuntimeError: out of memory"
    assert _state(browser) == before
    assert browser.run("document.querySelectorAll('.mpx-waits, .mpx.mpx-pending').length") == 0

    _slide(browser, 1)
    page.settle()
    assert "/nowhere/at/all" in page.text(".mpx-wrong")
    assert _state(browser) == before
    assert browser.run("document.querySelector('[type=range]').value") == "2"
    assert page.text("output") == "this model"

    browser.run("document.querySelector('form input').value = 'cat ' + 'sat '.repeat(40)")
    page.click("form button")
    assert "shorten it" in page.text(".mpx-wrong")
    assert _state(browser) == before
    assert page.text(".mpx-tokens") == tokens
    assert browser.run("document.querySelector('[type=number]').value") == "1"

    page.click(".mpx-undo")  # what failed is no step: this goes back before the first click
    assert _metric(page.text(".mpx-metric")) == pytest.approx(
        trained.scene()["full"][0], abs=1e-3)
    clean(browser)


def test_attention_that_comes_late_does_not_replace_the_newer(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    page.held = []
    browser.run("document.querySelector('[data-site=\"1.0\"]').focus()")
    page.asked("attention")
    assert page.text(".mpx-attention h3") == "Attention"
    browser.run("document.querySelector('[data-site=\"1.1\"]').focus()")
    (old, new), page.held = page.asked("attention", "attention"), None
    for question in (new, old):
        page.reply(question)
    page.settle()
    assert page.text(".mpx-attention h3") == "Head 1.1"
    shown = browser.run("[...document.querySelectorAll('.mpx-attention td[title]')]"
                        ".map(e => Number(e.title.split(': ').at(-1)))")
    told = _ask(explorer, "attention", site="1.1", closed=[], reads=0)
    assert shown == pytest.approx(np.array(told["weights"]).ravel().tolist(), abs=6e-4)
    assert browser.run("document.querySelector('.mpx-attention.mpx-pending')") is None

    page.held = []
    _close(browser, "0.2")
    (question,) = page.asked("set")
    page.held = []
    page.reply(question)
    (question,) = page.asked("attention")
    assert browser.run("document.querySelector('.mpx-attention.mpx-pending')") is not None
    page.held = None
    page.reply(question, {"error": "no more"})
    page.settle()
    assert page.text(".mpx-attention").endswith("Its attention is not known: no more")
    assert browser.run("document.querySelector('.mpx-attention table')") is None
    clean(browser)


def test_words_that_the_model_does_not_know_are_warned_of(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    assert browser.run("document.querySelector('.mpx-warning')") is None
    browser.run("document.querySelector('form input').value = 'cat <b>dog sat'")
    page.click("form button")
    assert "does not know “<b>dog”: it reads [UNK] instead" in page.text(".mpx-warning")
    assert browser.run("document.querySelector('[type=number]').value") == ""
    page.click("[aria-label='next example']")
    assert browser.run("document.querySelector('.mpx-warning')") is None
    clean(browser)


def test_colours_by_given_scores_are_called_by_their_method(browser, tmp_path, decoder):
    task = _prompts()
    scores = mp.attribute(decoder, task, baseline="zero", progress=False)
    explorer = explore(decoder, task, scores=scores, baseline="mean", progress=False)
    page = live.Live(browser, explorer, tmp_path / "live.html")
    named = f"{scores.method} on {scores.metric.replace('_', ' ')}, baseline zero"
    assert f"Colour: effect by {named}" in page.text(".mpx > .mpx-note")
    label = browser.run("document.querySelector('[data-site=\"0.1\"]').ariaLabel")
    assert f"; {named}: " in label
    assert "closing" not in browser.run("document.querySelector('.mpx').textContent")
    clean(browser)
