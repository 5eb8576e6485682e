"""JupyterLab in a real browser: the explorer lives in a cell, and a view in its frame."""

import os
import time
from pathlib import Path

import pytest

from tests.show import chromium, lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
    pytest.mark.skipif(bool(lab.MISSING), reason=lab.WHY),
]

TEXTS = str(Path(__file__).with_name("texts.py"))
CODE = f"""
import importlib.util, os
import torch
torch.set_num_threads(1)
import mechprobe as mp
spec = importlib.util.spec_from_file_location("texts", {TEXTS!r})
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
model = made.decoder()
words = made.EVIL
task = mp.Task.from_pairs(
    [" ".join(words[(i + k) % 10] for k in range(3)) for i in range(8)],
    answers=[words[(i + 3) % 10] for i in range(8)])
mp.show_attention(model, made.TEXT, heads=["0.0", "1.2"])
"""
EXPLORE = "explorer = mp.explore(model, task, baseline='zero', progress=False)\nexplorer"
READY = "document.querySelector('.mpx')?.dataset.state === 'ready'"


def test_the_explorer_answers_clicks_in_a_cell(tmp_path):
    lab.notebook(tmp_path / "x.ipynb", CODE, EXPLORE)
    browser = chromium.Chromium(tmp_path / "profile", 1400, 1000)
    with lab.jupyterlab(tmp_path) as address:
        lab.run_all(browser, address, "x.ipynb")
        browser.wait(READY, 240)
        metric = "document.querySelector('.mpx-metric').textContent"
        before = browser.run(metric)
        assert before.startswith("logit difference ")
        for site in ("0.1", "mlp.1", "1.2", "0.0", "0.1"):
            browser.run(f"document.querySelector('[data-site=\"{site}\"]').click()")
            browser.wait(READY)
        assert browser.run(metric) != before
        assert browser.run("document.querySelector('[readonly]').value") == (
            'closed = ["0.0", "1.2", "mlp.1"]')
        browser.run("document.querySelector('.jp-Cell').scrollIntoView()")
        browser.wait("document.querySelector('.jp-OutputArea iframe[srcdoc]')")
        heads = "document.querySelectorAll('.panel [role=button]').length"
        assert _in_frame(browser, heads) == 2
        assert _in_frame(browser, "document.title").startswith("Attention on “<script>")
        if shot := os.environ.get("MECHPROBE_SHOT"):
            browser.screenshot(shot)
        assert [e for e in browser.errors if "mpx" in e or "anywidget" in e.lower()] == []
        assert [url for url in browser.outgoing if not url.startswith(address)] == []
        browser.close()


def _in_frame(browser, expression):
    """JavaScript inside the view's own frame, which the notebook's page cannot look into."""
    tree = browser.send("Page.getFrameTree")["frameTree"]
    frames = [child["frame"] for child in tree.get("childFrames", [])]
    (frame,) = (frame for frame in frames if frame["url"] == "about:srcdoc")
    world = browser.send("Page.createIsolatedWorld", frameId=frame["id"])["executionContextId"]
    for _ in range(100):
        got = browser.send("Runtime.evaluate", expression=expression, returnByValue=True,
                           contextId=world)["result"]["value"]
        if got:
            return got
        time.sleep(0.1)
    return got
