"""A JupyterLab of one notebook, and a real browser that opens it and runs it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

MISSING = [name for name in ("jupyterlab", "anywidget", "ipykernel") if find_spec(name) is None]
WHY = f"no {', '.join(MISSING)} here: pip install 'mechprobe[notebooks]'"


def notebook(path, *sources):
    """Write a notebook of these cells."""
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [],
              "execution_count": None, "source": source} for i, source in enumerate(sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps(
        {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@contextmanager
def jupyterlab(folder):
    """The address of a JupyterLab that serves a folder; ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / "home"
    home.mkdir()
    environment = {
        **os.environ, "HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_CONFIG_DIR": str(home / "config"), "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
             "--ip=127.0.0.1", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
             "--expose-app-in-browser", "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
             "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder}"],
            env=environment, stdout=log, stderr=log, cwd=folder,
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}", server, folder / "lab.log")
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _answering(address, server, log):
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2).read()
            return address
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text()[-2000:]) from None
            time.sleep(0.5)


def run_all(browser, address, name):
    """Open a notebook and run its cells."""
    browser.open(f"{address}/lab/tree/{name}")
    browser.wait("window.jupyterapp?.shell?.currentWidget?.context?.isReady", 180)
    browser.wait(
        "jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'", 180)
    browser.errors.clear()  # JupyterLab's own start
    browser.run("void jupyterapp.commands.execute('notebook:run-all-cells')")
