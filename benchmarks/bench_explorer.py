"""How long a click in the circuit explorer takes, from the click to the numbers on the page.

    python benchmarks/bench_explorer.py MODEL --task nli/overlap [--sets FOLDER] [--shot FILE]

A real chromium shows the explorer's page; each click closes or opens one site, so that nearly every
set of closed sites is new and is computed. With ``--lab`` the page lives in a cell of JupyterLab;
else Python answers over the browser's debugging pipe. The median and the 95th percentile are over
the clicks; the time ends when the page has drawn the answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

import mechprobe as mp

TESTS = Path(__file__).resolve().parents[1] / "tests" / "show"


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clicks(browser: Any, settle: Callable[[str], None], n: int, seed: int) -> np.ndarray:
    """Milliseconds of each click, from the page's own clock."""
    rng = np.random.default_rng(seed)
    sites = browser.run("[...document.querySelectorAll('.mpx-side:not([hidden]) [data-site]')]"
                        ".map(e => e.dataset.site)")
    took = []
    for _ in range(n):
        site = json.dumps(f'[data-site="{rng.choice(sites)}"]')
        browser.run(
            "(() => {const root = document.querySelector('.mpx'); const began = performance.now();"
            f"document.querySelector({site}).click(); const watch = new MutationObserver(() => {{"
            "if (root.dataset.state !== 'ready') return; watch.disconnect();"
            "requestAnimationFrame(() => {window.took = performance.now() - began})});"
            "window.took = null; watch.observe(root, {attributes: true})})()"
        )
        settle("window.took !== null")
        took.append(browser.run("window.took"))
    return np.array(took)


def main() -> None:
    """Open the explorer, click, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--task", default="nli/overlap")
    parser.add_argument("--sets", help="a folder of subnetworks")
    parser.add_argument("--checkpoint", help="an earlier state of the model")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--lab", action="store_true", help="in JupyterLab")
    parser.add_argument("--shot", help="also write a picture of the page here")
    args = parser.parse_args()
    print(json.dumps(in_lab(args) if args.lab else by_pipe(args)))


def in_lab(args: argparse.Namespace) -> dict[str, Any]:
    """Clicks on the explorer in a cell of JupyterLab."""
    chromium, lab = _beside("chromium"), _beside("lab")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = "None" if args.sets is None else f"mp.SubnetworkSet.load({_whole(args.sets)!r})"
        lab.notebook(
            folder / "x.ipynb",
            f"import torch\ntorch.set_num_threads({torch.get_num_threads()})\n"
            f"import mechprobe as mp\nmodel = mp.load_model({_whole(args.model)!r})\n"
            f"mp.explore(model, {args.task!r}, {sets}, n={args.examples})",
        )
        browser = chromium.Chromium(folder / "profile", 1400, 1000)
        with lab.jupyterlab(folder) as address:
            lab.run_all(browser, address, "x.ipynb")
            browser.wait("document.querySelector('.mpx')?.dataset.state === 'ready'", 300)
            before = os.getloadavg()[0]
            took = clicks(browser, browser.wait, args.clicks, seed=0)
            if args.shot:
                browser.screenshot(args.shot)
            away = [url for url in browser.outgoing if not url.startswith(address)]
            browser.close()
    return {**_summary(took, before), "examples": args.examples, "outgoing": away}


def _whole(path: str) -> str:
    return str(Path(path).resolve())


def _summary(took: np.ndarray, before: float) -> dict[str, Any]:
    return {
        "clicks": len(took), "median_ms": round(float(np.median(took))),
        "p95_ms": round(float(np.percentile(took, 95))), "most_ms": round(float(took.max())),
        "load_average": [round(before, 1), round(os.getloadavg()[0], 1)],
    }


def by_pipe(args: argparse.Namespace) -> dict[str, Any]:
    """Clicks on the explorer's page by itself, Python beside it."""
    chromium, live = _beside("chromium"), _beside("live")
    model = mp.load_model(args.model)
    nets = None if args.sets is None else mp.SubnetworkSet.load(args.sets)
    earlier = {} if args.checkpoint is None else {Path(args.checkpoint).name: args.checkpoint}
    explorer = mp.explore(model, args.task, nets, n=args.examples, checkpoints=earlier)
    with tempfile.TemporaryDirectory() as folder:
        browser = chromium.Chromium(Path(folder) / "profile", 1280, 980)
        page = live.Live(browser, explorer, Path(folder) / "live.html")
        before = os.getloadavg()[0]
        began = time.process_time()
        took = clicks(browser, page.settle, args.clicks, seed=0)
        cpu = 1000 * (time.process_time() - began) / args.clicks
        if args.shot:
            _picture(page, args.shot)
        errors, outgoing = browser.errors, browser.outgoing
        browser.close()
    return {
        **_summary(took, before), "examples": len(explorer.behaviour),
        "sites": len(explorer.circuit.names), "python_cpu_ms": round(cpu), "errors": errors,
        "outgoing": outgoing,
    }


def _picture(page: Any, path: str) -> None:
    """The page as a reader would meet it: one subnetwork chosen, one head looked at."""
    browser = page.browser
    browser.run(
        "(() => {const s = document.querySelector('[aria-label=\"start from a set\"]');"
        "s.value = s.options[1].value; s.dispatchEvent(new Event('change'))})()")
    page.settle()
    browser.run("document.querySelector('[data-site=\"3.3\"]')?.focus()")
    page.settle("document.querySelector('.mpx-attention td[title]')")
    page.settle()
    browser.screenshot(path)


if __name__ == "__main__":
    main()
