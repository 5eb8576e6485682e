"""``mechprobe sweep`` and ``gather``: their words become runs, and what cannot be is one line."""

import argparse
import json
from pathlib import Path

import pytest

from mechprobe.cli import DATA, build_parser, main
from mechprobe.cli.sweep import jobs
from mechprobe.studies import STUDIES

CORE = STUDIES["heuristic-core"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No data folder of the user's, default folders under tmp_path."""
    monkeypatch.delenv(DATA, raising=False)
    monkeypatch.chdir(tmp_path)


def parsed(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["sweep", "heuristic-core", *words])


def test_seeds_and_settings_become_runs():
    found = jobs(CORE, "tiny", parsed(
        "--seeds", "3..5", "--set", "sparsities=0.3 0.5,0.7", "--set", "n-masks=2",
        "--set", "encoder=none",
    ))
    assert [job.settings.seed for job in found] == [3, 3, 4, 4, 5, 5]
    assert [job.settings.sparsities for job in found[:2]] == [(0.3, 0.5), (0.7,)]
    assert {(job.settings.n_masks, job.settings.encoder) for job in found} == {(2, None)}
    assert parsed("--seeds", "0,3,7").seeds == (0, 3, 7)
    (alone,) = jobs(CORE, "tiny", parsed())
    assert alone.settings == CORE.settle("tiny", {"threads": 1})
    hierarchy = jobs(STUDIES["hierarchy"], "tiny", parsed("--set", "decay=true,False"))
    assert [job.settings.decay for job in hierarchy] == [True, False]


def test_the_data_variable_is_for_runs_that_read_files(monkeypatch):
    monkeypatch.setenv(DATA, "/some/data")
    pairs = parsed("--set", "pair=overlap,qqp-paws")
    assert [job.settings.data_dir for job in jobs(CORE, "tiny", pairs)] == [None, "/some/data"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep", "required: STUDY"),
        ("sweep hierarchyy", "unknown study 'hierarchyy'; nearest: hierarchy"),
        ("sweep hierarchy --preset tny", "'tny'; nearest: tiny"),
        ("sweep hierarchy --seeds 4..0", "'4..0' is no list of seeds; write 0..4 or 0,3,7"),
        ("sweep hierarchy --seeds 1,a", "'1,a' is no list of seeds"),
        ("sweep hierarchy --seeds 0..99999999", "is more than 100,000 seeds"),
        ("sweep hierarchy --seeds 99999999999999999999", "--seeds: 99999999999999999999 is out of"),
        ("sweep hierarchy --set lr", "has no '='; write NAME=V1,V2"),
        ("sweep hierarchy --set lrr=1,2", "has no setting 'lrr'; nearest: lr"),
        ("sweep hierarchy --set lr=x", "--set lr=x: 'x' is not a finite number"),
        ("sweep hierarchy --set lr=0.1,0.1", "lr has a value twice: 0.1, 0.1"),
        ("sweep hierarchy --set decay=maybe", "'maybe' is neither true nor false"),
        ("sweep hierarchy --seeds 1 --set seed=2", "seed is given twice"),
        ("sweep hierarchy --set seed=9999999999999", "out of range; give a number up to"),
        ("sweep hierarchy --shard 3/2", "'3/2' is no share; write 1/4"),
        ("sweep hierarchy --workers 0", "--workers 0 --gpus 0; give 1 worker or more"),
        ("sweep hierarchy --gpus 1", "--gpus and --address are for --engine ray"),
        ("sweep hierarchy --out notes", "notes is a file; give a folder"),
        ("sweep hierarchy --preset tiny --set depth=0,3 --out s", "--depth is 0; give 1 or more"),
        ("gather", "required: DIR"),
        ("gather nowhere", "nowhere holds no sweep (no sweep.json)"),
        ("gather odd", "is damaged, or of another version of mechprobe"),
        ("gather strange", "unknown study 'hierarchyy'"),
    ],
)
def test_words_that_are_no_sweep_are_refused(capsys, tmp_path, words, said):
    (tmp_path / "notes").write_text("mine")
    for name, content in {"odd": [], "strange": {"study": "hierarchyy", "jobs": []}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.json").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    assert main(words.split()) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("mechprobe: error: ")
    assert said in line
    assert told.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_counts_runs_units_and_hours_and_leaves_nothing(capsys, tmp_path):
    words = ["--set", "models=root-k0,root-k0 root-k2", "--set", "root_steps=5", "--workers", "2"]
    assert main(["sweep", "hierarchy", "--preset", "tiny", "--seeds", "0..2", *words,
                 "--shard", "1/2", "--dry-run"]) == 0
    told = capsys.readouterr().out
    study, counts = STUDIES["hierarchy"], []
    for models in (("root-k0",), ("root-k0", "root-k2")):
        counts.append(len(study.units(study.settle("tiny", {"models": models}))))
        assert f"3 runs of {counts[-1]} units, such as seed=0,models={'+'.join(models)}" in told
    assert told.count("\nmemory: ") == 2
    last = told.splitlines()[-1]
    assert f"sweep of hierarchy: 6 runs, {3 * sum(counts)} units, " in last
    assert "with 2 workers in each of 2 shares" in last
    assert list(Path(tmp_path).iterdir()) == []
