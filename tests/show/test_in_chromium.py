"""The views in a real browser: drawn, clicked, without errors, without a request to anywhere."""

import colorsys
import re

import numpy as np
import pytest

from mechprobe.show.attention import show_attention
from mechprobe.show.logits import show_logits
from mechprobe.show.tokens import show_tokens
from tests.show import chromium
from tests.show import texts as made
from tests.show.chromium import clean
from tests.show.contrast import CONTRAST

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
]

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
    clean(browser)


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
    clean(browser)


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
    clean(browser)


@pytest.mark.parametrize("several", [False, True])
def test_tokens_have_the_colours_that_their_note_says(browser, tmp_path, decoder, several):
    values = np.linspace(-1, 1, len(made.EVIL))
    _shown(browser, tmp_path, show_tokens(
        decoder, made.TEXT, np.stack([values, values], 1) if several else values))
    colours = browser.run(
        "(all => [all.at(-1), all[0]].map(e => getComputedStyle(e).backgroundColor"
        ".match(/[\\d.]+/g).map(Number)))([...document.querySelectorAll("
        "'.colored-tokens span > span')])")
    hues = [round(360 * colorsys.rgb_to_hsv(*colour)[0]) for colour in colours]
    note = browser.run("document.querySelector('.note').textContent")
    said = re.search("(blue|violet) is above zero, (orange|light red) below", note).groups()
    named = {"blue": (190, 240), "violet": (241, 290), "orange": (21, 45), "light red": (0, 20)}
    for hue, name in zip(hues, said, strict=True):
        assert named[name][0] <= hue <= named[name][1]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_views_can_be_read_by_day_and_by_night(browser, tmp_path, decoder, width, dark):
    browser.show_as(width, dark)
    crossed = made.encoder_decoder()
    for view in (
        show_attention(decoder, made.TEXT), show_logits(decoder, made.TEXT),
        show_attention(crossed, (made.TEXT, "cat sat"), ["cross 0.1", "cross 1.2"]),
    ):
        _shown(browser, tmp_path, view)
        ratios = browser.run(CONTRAST.replace("SELECTOR", (
            "'h1, section > h2, p, summary, .box th, .box td, .mp-rows button, .mp-rows th, "
            ".panel h3, .panel span > span'")))
        assert min(ratios) > 4.5
        assert len(ratios) > 20
        paper = browser.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    clean(browser)
