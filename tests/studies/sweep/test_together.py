"""A study in two processes: one writes, both train; killed, it goes on with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mechprobe.studies.together import link

STUDY = ["run", "hierarchy", "--preset", "tiny", "--q", "3", "--depth", "2", "--d-model", "16",
         "--d-mlp", "16", "--models", "root-k0", "--root-steps", "300", "--n-checkpoints", "3",
         "--n-eval", "40", "--n-attention", "30", "--n-null", "40", "--n-probe", "20",
         "--probe-epochs", "1", "--n-locate", "24", "--mask-seeds", "2", "--mask-steps", "2",
         "--max-masks", "2", "--threads", "1"]  # fmt: skip


def _start(out: Path, processes: int) -> subprocess.Popen[bytes]:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(several if processes > 1 else []), "-m", "mechprobe", *STUDY, "--out",
         str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MECHPROBE_PROGRESS": "0",
             "TMPDIR": str(out.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )


def _finish(process: subprocess.Popen[bytes]) -> str:
    said = process.communicate(timeout=900)[0].decode()
    assert process.returncode == 0, said
    return said


def _losses(folder: Path) -> np.ndarray:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.array([row["loss"] for row in rows if row["unit"] == "train-root-k0"])


@pytest.mark.slow
def test_two_processes_train_a_study_and_one_writes_it(tables, tmp_path):
    alone, both, killed = (tmp_path / name for name in ("alone", "both", "killed"))
    _finish(_start(alone, 1))
    said = _finish(_start(both, 2))
    assert said.count("report: ") == 1
    assert (both / "report.html").is_file()
    first, second = _losses(alone), _losses(both)
    assert len(first) == len(second) == 300
    np.testing.assert_allclose(second[:5], first[:5], rtol=1e-4)
    assert np.abs(second - first).max() < 0.1 * first.max()
    started = _start(killed, 2)
    saved = killed / "checkpoints" / "train-root-k0.safetensors"
    while not saved.exists() and started.poll() is None:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    _finish(_start(killed, 2))
    assert tables(killed) == tables(both)
    assert not [path for path in tmp_path.glob("mechprobe-*") if any(path.iterdir())]


def test_a_folder_of_links_takes_writing_and_changes_nothing(tmp_path):
    source, target = tmp_path / "run", tmp_path / "links"
    for rel in ("config.json", "metrics/a.jsonl", "models/m/w.safetensors", ".lock", ".claims/a",
                "tables/.x.csv.tmp-1"):  # fmt: skip
        (source / rel).parent.mkdir(parents=True, exist_ok=True)
        (source / rel).write_text(rel)
    link(source, target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {"config.json", "metrics/a.jsonl", "models/m/w.safetensors"}
    assert (target / "models/m/w.safetensors").read_text() == "models/m/w.safetensors"
    with (target / "metrics/a.jsonl").open("a") as file:
        file.write("more")
    (target / "draft").write_text("other")
    (target / "draft").replace(target / "config.json")
    (target / "models/m/w.safetensors").unlink()
    for rel in found:
        assert (source / rel).read_text() == rel
