"""JupyterLab in a real browser: the explorer lives in a cell, and a view in its frame."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest


def _beside(name):
    spec = importlib.util.spec_from_file_location(f"show_{name}", Path(__file__).with_name(
        f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


chromium = _beside("chromium")
MISSING = [name for name in ("jupyterlab", "anywidget", "ipykernel")
           if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.WHERE is None, reason=chromium.WHY),
    pytest.mark.skipif(
        bool(MISSING), reason=f"no {', '.join(MISSING)} here: pip install 'mechprobe[notebooks]'"),
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
CELLS = (CODE, "explorer = mp.explore(model, task, baseline='zero', progress=False)\nexplorer")


def _notebook(path):
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [],
              "execution_count": None, "source": source} for i, source in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps(
        {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab of one notebook."""
    _notebook(tmp_path / "x.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ, "HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_CONFIG_DIR": str(home / "config"), "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    log = (tmp_path / "lab.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
         "--ip=127.0.0.1", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
         "--expose-app-in-browser", "--LabApp.news_url=None",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
         "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={tmp_path}"],
        env=environment, stdout=log, stderr=log, cwd=tmp_path,
    )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2).read()
            break
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                server.kill()
                pytest.fail((tmp_path / "lab.log").read_text()[-2000:])
            time.sleep(0.5)
    yield address
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
    log.close()


def test_the_explorer_answers_clicks_in_a_cell(lab, tmp_path):
    browser = chromium.Chromium(tmp_path / "profile", 1400, 1000)
    browser.open(f"{lab}/lab/tree/x.ipynb")
    browser.wait("window.jupyterapp?.shell?.currentWidget?.context?.isReady", 180)
    browser.wait(
        "jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'", 180)
    browser.errors.clear()  # JupyterLab's own start
    browser.run("void jupyterapp.commands.execute('notebook:run-all-cells')")
    ready = "document.querySelector('.mpx')?.dataset.state === 'ready'"
    browser.wait(ready, 240)
    metric = "document.querySelector('.mpx-metric').textContent"
    before = browser.run(metric)
    assert before.startswith("logit difference ")
    took = []
    for site in ("0.1", "mlp.1", "1.2", "0.0", "0.1"):
        browser.run(f"document.querySelector('[data-site=\"{site}\"]').click()")
        browser.wait(ready)
        took.append(int(browser.run("document.querySelector('.mpx').dataset.ms")))
    assert browser.run(metric) != before
    assert browser.run("document.querySelector('[readonly]').value") == (
        'closed = ["0.0", "1.2", "mlp.1"]')
    print("milliseconds of each click:", took)
    if shot := os.environ.get("MECHPROBE_SHOT"):
        browser.screenshot(shot)
    browser.run("document.querySelector('.jp-Cell').scrollIntoView()")
    browser.wait("document.querySelector('.jp-OutputArea iframe[srcdoc]')")
    assert _in_frame(browser, "document.querySelectorAll('.panel [role=button]').length") == 2
    assert _in_frame(browser, "document.title").startswith("Attention on “<script>")
    ours = [e for e in browser.errors if "mp" in e.lower() or "anywidget" in e.lower()]
    assert ours == []
    assert [url for url in browser.outgoing if not url.startswith(lab)] == []
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
