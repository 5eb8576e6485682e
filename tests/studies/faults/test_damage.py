"""Damaged files in a run folder are named or mended; a full disk, an older version, one line."""

import importlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import finished
from mechprobe.studies import STUDIES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quick(monkeypatch):
    """A study's run without pictures, which take longest and decide no number."""

    def make(name: str):
        package = STUDIES[name].package
        monkeypatch.setattr(importlib.import_module(f"{package}.write"), "draw", lambda *_: {})
        study = importlib.import_module(f"{package}.study")
        monkeypatch.setattr(study, "build_report", lambda folder: folder / "report.html")
        return study.run

    return make


def _kinds(folder: Path) -> list[Path]:
    """One file of each kind that a run has, by folder, suffix and the start of its name."""
    found: dict[tuple[str, ...], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock" and path.stat().st_size:
            inside = path.relative_to(folder)
            kind = (inside.parts[0], path.suffix, re.sub(r"\d|-.*", "", path.stem))
            found.setdefault(kind, inside)
    return list(found.values())


def _said(run, settings, folder: Path) -> str | None:
    """What a run that is gone on with complains of."""
    try:
        run(settings, folder)
    except InputError as error:
        return str(error)
    return None


def _damage_each(run, settings, tables, tmp_path: Path) -> tuple[int, int]:
    """Cut one file of each kind and go on; how many were mended, how many named."""
    run(settings, tmp_path / "whole")
    whole, mended, named = tables(tmp_path / "whole"), 0, 0
    for rel in _kinds(tmp_path / "whole"):
        folder = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", folder)
        content = (folder / rel).read_bytes()
        (folder / rel).write_bytes(content[: len(content) // 2])
        said = _said(run, settings, folder)
        mended, named = mended + (said is None), named + (said is not None)
        if said is not None:
            assert str(folder / rel) in said
            if rel.name != "config.json":  # as the message says; of the config it says otherwise
                (folder / rel).unlink()
                run(settings, folder)
        if rel.name not in ("config.json", "metrics.jsonl"):
            assert tables(folder) == whole, rel
        shutil.rmtree(folder)
    return mended, named


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_damaged_files_of_every_study_are_named_or_made_again(
    micro, tables, quick, tmp_path, name
):
    mended, named = _damage_each(quick(name), micro(name), tables, tmp_path)
    assert mended > 5
    assert named >= 2  # its config, and the result of a unit


def test_results_of_another_version_are_refused_with_both_versions(micro, quick, tmp_path):
    run = quick("hierarchy")
    with STUDIES["hierarchy"].opened(micro("hierarchy"), tmp_path / "run"):
        pass
    path = tmp_path / "run" / "config.json"
    kept = json.loads(path.read_text())
    now = kept["environment"]["versions"]["mechprobe"]
    kept["environment"]["versions"]["mechprobe"] = "0.0.1"
    path.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=f"holds results of mechprobe 0.0.1, and this is {now}"):
        run(micro("hierarchy"), tmp_path / "run")
    del kept["settings"]["sigma"]  # a setting that an older version did not have
    path.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"other settings \(sigma: '\(absent\)' -> 1.0\)"):
        run(micro("hierarchy"), tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_with_space_the_run_goes_on(micro, micro_order, tmp_path):
    """Files of this process may have 60 kB, which a checkpoint or a model of the study exceeds."""
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom mechprobe.runs import complete\n"
        "from mechprobe.studies import STUDIES\n"
        "from mechprobe.studies.sweep.plan import settings_from\n"
        "study = STUDIES['hierarchy']\nsettings = settings_from(study, json.loads(sys.argv[1]))\n"
        "from mechprobe.errors import InputError\n"
        "try:\n    with study.opened(settings, Path(sys.argv[2])) as at:\n"
        "        complete(at.run, study.units(settings), at)\n"
        "except InputError as error:\n    print('told:', error)\nelse:\n    print('done')\n"
    )
    order = micro_order("hierarchy", models=("root-k0",), d_model=32, d_mlp=64)

    def child(limit: int | None) -> str:
        def full() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = subprocess.run(
            [sys.executable, "-c", code, order, str(tmp_path / "run")], text=True,
            capture_output=True, timeout=500, preexec_fn=full,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MECHPROBE_PROGRESS": "0"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    told = child(60_000)
    assert told.startswith("told: cannot write ")
    assert "File too large" in told
    assert "give a folder that can be written, with space" in told
    assert not list((tmp_path / "run").rglob("*.tmp-*"))
    assert finished(tmp_path / "run", "train-root-k0") is None
    assert child(None) == "done"
