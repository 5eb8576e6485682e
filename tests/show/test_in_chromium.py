"""The pages in a real browser: drawn, clicked, without errors, without a request to anywhere."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mechprobe.show.attention import show_attention
from mechprobe.show.explorer.explore import explore
from mechprobe.show.logits import show_logits
from mechprobe.show.tokens import show_tokens
from mechprobe.tasks import PromptTask


def _beside(name):
    spec = importlib.util.spec_from_file_location(f"show_{name}", Path(__file__).with_name(
        f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made, chromium, live = _beside("texts"), _beside("chromium"), _beside("live")
CONTRAST = _beside("contrast").CONTRAST

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
]

@pytest.fixture
def browser(tmp_path):
    opened = chromium.Chromium(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def decoder():
    return made.decoder()


def _clean(browser):
    assert browser.errors == []
    assert browser.outgoing == []
    assert browser.run("document.title") != "pwned"


def _shown(browser, tmp_path, view):
    browser.open(view.save(tmp_path / "view.html"))
    browser.wait("document.body.dataset.state === 'ready'")
    browser.wait("document.querySelector('.panel').children.length")


def test_heads_are_drawn_and_chosen_by_keyboard(browser, tmp_path, decoder):
    _shown(browser, tmp_path, show_attention(decoder, made.TEXT))
    browser.wait("document.querySelectorAll('.panel [role=button]').length === 6")
    browser.wait("document.querySelectorAll('canvas').length === 7")
    inked = browser.run(
        "[...document.querySelectorAll('canvas')].map(c => new Set(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data).size > 8)")
    assert inked == [True] * 7
    browser.run("document.querySelectorAll('.panel [role=button]')[4].focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('.panel').textContent.includes('1.1 Zoomed')")
    assert browser.run("document.activeElement.getAttribute('aria-label')") == "show head 1.1"
    _clean(browser)


@pytest.mark.parametrize("kind", ["tokens", "several", "logits"])
def test_hostile_tokens_are_shown_and_never_run(browser, tmp_path, decoder, kind):
    values = np.linspace(-1, 1, len(made.EVIL))
    view = {
        "tokens": lambda: show_tokens(decoder, made.TEXT, values),
        "several": lambda: show_tokens(decoder, made.TEXT, np.stack([values, -values], 1)),
        "logits": lambda: show_logits(decoder, made.TEXT),
    }[kind]()
    _shown(browser, tmp_path, view)
    shown = browser.run("document.querySelector('.panel').innerText").replace("\u2060", "")
    for token in made.EVIL[kind == "logits":]:
        assert token in shown
    browser.run("document.querySelector('.panel span > span').scrollIntoView()")
    x, y = browser.run(
        "(() => {const r = [...document.querySelectorAll('.panel span > span')].at(1)"
        ".getBoundingClientRect(); return [r.x + 3, r.y + 3]})()")
    browser.move(x, y)  # its tooltip is drawn too
    browser.wait("document.querySelector('.panel').innerText.length > 0")
    assert browser.run("document.querySelector('.panel img, .panel script, .panel b')") is None
    ratios = browser.run(CONTRAST.replace("SELECTOR", "'.panel span > span'"))
    assert min(ratios) > 4.5
    _clean(browser)


def test_cross_attention_links_two_rows_of_tokens(browser, tmp_path):
    model = made.encoder_decoder()
    view = show_attention(model, (made.TEXT, "cat 🙂 שלום"), ["cross 0.1", "cross 1.2"])
    _shown(browser, tmp_path, view)
    weights = np.array(view.panels[0].props["weights"])
    browser.run("document.querySelectorAll('.mp-heads button')[1].click()")
    browser.run("document.querySelectorAll('.mp-line')[0].children[2].focus()")
    said = browser.run("document.querySelector('.mp-said').textContent")
    best = int(weights[1, 2].argmax())
    assert said.startswith(
        f"Head cross 1.2: “🙂” attends most to “{made.EVIL[best]}” {weights[1, 2, best]:.2f}")
    browser.run("document.querySelectorAll('.mp-line')[1].children[0].focus()")
    said = browser.run("document.querySelector('.mp-said').textContent")
    assert "gets most attention from" in said
    assert f"{weights[1, :, 0].max():.2f}" in said
    _clean(browser)


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
    alone = explorer.answer({"kind": "set", "closed": ["0.1"], "reads": 0})["metric"][0]
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
    kept = explorer.answer({"kind": "set", "closed": shut, "reads": 0})["metric"][0]
    assert _metric(text()) == pytest.approx(kept, abs=1e-3)
    _clean(browser)


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
    _clean(browser)


@pytest.mark.parametrize("width", [1280, 640, 400])
def test_only_boxes_scroll_sideways_also_at_twice_the_size(tmp_path, explorer, width):
    browser = chromium.Chromium(tmp_path / "profile", width=width)
    browser.open(explorer.save_html(tmp_path / "saved.html"))
    browser.wait(live.READY)
    browser.click('[data-site="0.1"]')
    browser.wait(live.READY)
    wide, window = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    ratios = browser.run(CONTRAST.replace("SELECTOR", "'.mpx-site:not(.mpx-closed), .mpx p'"))
    browser.close()
    assert wide <= window
    assert min(ratios) > 4.5


def test_the_live_page_asks_python(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    page.click('[data-site="1.1"]')
    page.click('[data-site="mlp.0"]')
    asked = explorer.answer({"kind": "set", "closed": ["1.1", "mlp.0"], "reads": 0})
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
    gap = explorer.answer({"kind": "compare", "first": ["1.1", "mlp.0"], "second": []})
    assert _metric(page.text(".mpx-difference")) == pytest.approx(gap["difference"][0], abs=1e-3)
    for _ in range(2):
        page.click(".mpx-undo")
    assert _metric(page.text(".mpx-metric")) == pytest.approx(explorer.scene()["full"][0], abs=1e-3)
    _clean(browser)


def test_the_mouse_over_a_head_shows_where_it_looks(browser, tmp_path, explorer):
    page = live.Live(browser, explorer, tmp_path / "live.html")
    x, y = browser.run("(r => [r.x + 9, r.y + 9])"
                       "(document.querySelector('[data-site=\"1.1\"]').getBoundingClientRect())")
    browser.move(x, y)
    page.settle("document.querySelectorAll('.mpx-attention td[title]').length === 9")
    shown = browser.run("[...document.querySelectorAll('.mpx-attention td[title]')]"
                        ".map(e => Number(e.title.split(': ').at(-1)))")
    told = explorer.answer({"kind": "attention", "site": "1.1", "closed": [], "reads": 0})
    assert shown == pytest.approx(np.array(told["weights"]).ravel().tolist(), abs=6e-4)
    _clean(browser)


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
    _clean(browser)


def test_the_slider_goes_through_checkpoints(browser, tmp_path, decoder):
    import torch

    early = made.decoder()
    with torch.no_grad():
        early.unembed.W_U.mul_(0.5)
    explorer = explore(
        decoder, _prompts(), checkpoints={"early": early}, baseline="zero", progress=False)
    page = live.Live(browser, explorer, tmp_path / "live.html")
    late = _metric(page.text(".mpx-metric"))
    browser.run("(() => {const s = document.querySelector('[type=range]'); s.value = 0;"
                "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change'))})()")
    page.settle("document.querySelector('output').textContent === 'early'")
    page.settle()
    assert _metric(page.text(".mpx-metric")) == pytest.approx(
        explorer.at(0).full.metric.estimate, abs=1e-3)
    assert abs(late - _metric(page.text(".mpx-metric"))) > 1e-3
    page.click('[data-site="0.2"]')
    assert _metric(page.text(".mpx-metric")) == pytest.approx(
        explorer.at(0).measure(["0.2"]).metric.estimate, abs=1e-3)
    _clean(browser)
