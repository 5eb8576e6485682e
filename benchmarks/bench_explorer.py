"""How long a click in the circuit explorer takes, from the click to the numbers on the page.

    python benchmarks/bench_explorer.py MODEL --task nli/overlap [--sets FOLDER] [--shot FILE]

A real chromium shows the explorer's page; each click closes or opens one site, so that every set of
closed sites is new and is computed. Python answers over the browser's debugging pipe. The median
and the 95th percentile are over the clicks; the time ends when the page has drawn the answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np

import mechprobe as mp

TESTS = Path(__file__).resolve().parents[1] / "tests" / "show"


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clicks(page: object, sites: list[str], n: int, seed: int) -> np.ndarray:
    """Milliseconds of each click, from the page's own clock."""
    rng = np.random.default_rng(seed)
    browser = page.browser  # pyright: ignore[reportAttributeAccessIssue]
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
        page.settle("window.took !== null")  # pyright: ignore[reportAttributeAccessIssue]
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
    parser.add_argument("--shot", help="also write a picture of the page here")
    args = parser.parse_args()
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
        took = clicks(page, explorer.circuit.names, args.clicks, seed=0)
        cpu = 1000 * (time.process_time() - began) / args.clicks
        if args.shot:
            _picture(page, args.shot)
        errors, outgoing = browser.errors, browser.outgoing
        browser.close()
    print(json.dumps({
        "sites": len(explorer.circuit.names), "examples": len(explorer.behaviour),
        "clicks": len(took), "median_ms": round(float(np.median(took))),
        "p95_ms": round(float(np.percentile(took, 95))), "most_ms": round(float(took.max())),
        "python_cpu_ms": round(cpu), "load_average": [round(before, 1),
                                                      round(os.getloadavg()[0], 1)],
        "errors": errors, "outgoing": outgoing,
    }))


def _picture(page: object, path: str) -> None:
    """The page as a reader would meet it: one subnetwork chosen, one head looked at."""
    browser = page.browser  # pyright: ignore[reportAttributeAccessIssue]
    browser.run(
        "(() => {const s = document.querySelector('[aria-label=\"start from a set\"]');"
        "s.value = s.options[1].value; s.dispatchEvent(new Event('change'))})()")
    page.settle()  # pyright: ignore[reportAttributeAccessIssue]
    browser.run("document.querySelector('[data-site=\"3.3\"]')?.focus()")
    page.settle("document.querySelector('.mpx-attention td[title]')")  # pyright: ignore
    page.settle()  # pyright: ignore[reportAttributeAccessIssue]
    browser.screenshot(path)


if __name__ == "__main__":
    main()
