"""The tiny study end to end: its numbers again by greedy decoding, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mechprobe.models.generate import generate
from mechprobe.runs import Run
from mechprobe.studies.abstraction.models import open_model
from mechprobe.studies.abstraction.procedures import SetRun
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.tasks.seq2seq_rows import SequenceRows

COMMAND = [sys.executable, "-m", "mechprobe", "run", "abstraction", "--preset", "tiny",
           "--threads", "1", "--out"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("abstraction") / "run"
    subprocess.run([*COMMAND, str(out)], check=True, capture_output=True)
    return out


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_the_report_speaks_of_every_claim(folder):
    found = report(folder)
    assert len(found["claims"]) == 6
    assert "Positive control" in found["claims"][0]["claim"]
    # the preset is too short to learn, and says so
    assert {claim["verdict"] for claim in found["claims"]} == {"not testable here"}
    assert "smoke test" in found["summary"][0]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("Main, control and contrast", "What the frozen body could do",
                  "Memorise, then abstract", "Abstraction heads"):
        assert title in page
    assert "http://" not in page.split("<body")[1].split("mechprobe run")[0]


def test_kept_numbers_are_those_of_greedy_decoding(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in config["settings"].items()
             if k in Settings.__dataclass_fields__}
    settings = Settings(**known)
    unit = json.loads((folder / "units/target-auxiliary-words-0.json").read_text("utf-8"))
    with Run.open(folder, {"study": "abstraction", **vars(settings)}) as run:
        at = SetRun(settings, run, 0)
        model = open_model(settings, at.data, run, "target-auxiliary-words-0", frozen=True)
        rows = at.data.target["test"]
        asked = SequenceRows(rows.sources, ((),) * len(rows), rows.words, True, "asked")
        batch = asked.batch(range(12))
        written = generate(model, batch, 44, eos=rows.words.end, pad=rows.words.pad).tolist()
    for i, text in enumerate(written):
        wanted = [*rows.targets[i], rows.words.end]
        assert (text[: len(wanted)] == wanted) == unit["result"]["test"][i]


@pytest.mark.slow
def test_killed_and_run_again_it_gives_the_same_numbers(folder, tmp_path):
    out = tmp_path / "killed"
    process = subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    until = time.monotonic() + 600  # a busy machine takes minutes
    while not (out / "units/contrast-0.json").exists() and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "report.json").exists()
    first = (out / "units/auxiliary-0.json").stat().st_mtime
    subprocess.run([*COMMAND, str(out)], check=True, capture_output=True)
    assert (out / "units/auxiliary-0.json").stat().st_mtime == first
    assert report(out)["claims"] == report(folder)["claims"]
