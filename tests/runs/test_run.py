"""A run directory: whose it is, what it refuses, and that finished work is never done again."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run, read_config

CONFIG = {"study": "lines", "seed": 0, "rates": (0.1, 0.2), "threads": 1, "name": None}


def test_config_tells_settings_versions_and_no_machine(tmp_path):
    config = {**CONFIG, "encoder": "/home/someone/models/small", "windows": "C:\\data\\x",
              "hub": "owner/name", "nested": {"where": str(tmp_path)}}
    with Run.open(tmp_path / "r", config) as run:
        kept = read_config(run.folder)
    assert kept["settings"]["rates"] == [0.1, 0.2]
    assert kept["settings"]["hub"] == "owner/name"
    assert kept["settings"]["encoder"] == ".../small"
    assert {"torch", "transformer-lens", "mechprobe"} <= set(kept["environment"]["versions"])
    text = (tmp_path / "r" / "config.json").read_text()
    for secret in (os.uname().nodename, "someone", str(tmp_path), "C:\\\\data"):
        assert secret not in text


def test_the_same_settings_go_on_and_others_are_shown(tmp_path):
    Run.open(tmp_path, CONFIG).close()
    before = (tmp_path / "config.json").read_bytes()
    with Run.open(tmp_path, CONFIG):
        assert (tmp_path / "config.json").read_bytes() == before
    changed = {**CONFIG, "rates": (0.1, 0.3), "extra": 1}
    changed.pop("name")
    shown = "rates: [0.1, 0.2] -> [0.1, 0.3], name: None -> '(absent)', extra: '(absent)' -> 1"
    with pytest.raises(InputError, match=re.escape(shown)):
        Run.open(tmp_path, changed)
    with pytest.raises(InputError, match="holds a run of 'lines', not of 'circles'"):
        Run.open(tmp_path, {"study": "circles"})
    assert (tmp_path / "config.json").read_bytes() == before
    Run.open(tmp_path, CONFIG).close()  # a refused attempt holds no lock


def test_a_change_that_only_rounds_is_said_and_kept(tmp_path, capsys):
    Run.open(tmp_path, CONFIG).close()
    assert capsys.readouterr().err == ""
    for said in (True, False):  # once, not at every resume
        with Run.open(tmp_path, {**CONFIG, "threads": 4}) as run:
            assert run.config["resumed"] == [{"threads": [1, 4]}]
        assert ("threads: 1 -> 4" in capsys.readouterr().err) is said
    assert read_config(tmp_path)["settings"]["threads"] == 1


def test_another_version_is_said_and_kept(tmp_path, capsys):
    Run.open(tmp_path, CONFIG).close()
    kept = read_config(tmp_path)
    kept["environment"]["versions"]["numpy"] = "1.0"
    (tmp_path / "config.json").write_text(json.dumps(kept))
    Run.open(tmp_path, CONFIG).close()
    assert f"numpy: 1.0 -> {np.__version__}" in capsys.readouterr().err
    assert read_config(tmp_path)["resumed"] == [{"numpy": ["1.0", np.__version__]}]


def test_finished_units_are_never_computed_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": np.float64(1) / 3, "pair": (1, 2), 5: [True, None]}

    for _ in range(3):
        with Run.open(tmp_path, CONFIG) as run:
            result = run.unit("a", compute)
        assert result == {"x": 1 / 3, "pair": [1, 2], "5": [True, None]}
    assert len(calls) == 1


def test_an_error_keeps_what_was_finished_and_nothing_else(tmp_path):
    def study():
        with Run.open(tmp_path, CONFIG) as run:
            run.unit("good", lambda: {"x": 1})
            run.checkpoint("bad").save({"step": 3})
            run.unit("bad", lambda: {"x": 1 / 0})

    with pytest.raises(ZeroDivisionError):
        study()
    with Run.open(tmp_path, CONFIG) as run:
        assert run.checkpoint("bad").load() == {"step": 3}
        assert [p.name for p in (tmp_path / "units").iterdir()] == ["good.json"]


def test_a_unit_takes_its_checkpoints_away_when_it_is_kept(tmp_path):
    def compute(run):
        run.checkpoint("a").save({"step": 1})
        run.write_arrays("x.safetensors", {"x": np.ones(1)})
        return {}

    with Run.open(tmp_path, CONFIG) as run:
        run.unit("a", lambda: compute(run))
        assert run.checkpoint("a").load() is None
        run.checkpoint("a").save({"step": 1})  # as a kill between the two would leave it
        run.unit("a", lambda: compute(run))
        assert run.checkpoint("a").load() is None


def test_a_file_that_went_missing_is_computed_again_alone(tmp_path):
    calls = []

    def make(run, name, needs):
        calls.append(name)
        if needs:
            assert run.path(f"{needs}.csv").exists()
        run.write_table(f"{name}.csv", pd.DataFrame({"x": [1]}))
        run.path(f"{name}-folder/inside").mkdir()
        return {}

    def all_units():
        with Run.open(tmp_path, CONFIG) as run:
            run.unit("a", lambda: make(run, "a", None))
            run.unit("b", lambda: make(run, "b", "a"))

    all_units()
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a-folder" / "inside").rmdir()
    all_units()
    (tmp_path / "b-folder" / "inside").rmdir()
    all_units()
    all_units()
    assert calls == ["a", "b", "a", "b"]


@pytest.mark.parametrize("damage", ["cut", "edited", "swapped", "empty"])
def test_a_damaged_unit_is_named_and_deleting_it_helps(tmp_path, damage):
    with Run.open(tmp_path, CONFIG) as run:
        run.unit("a", lambda: {"x": 12})
        path = tmp_path / "units" / "a.json"
        content = path.read_text()
        path.write_text({
            "cut": content[:40], "edited": content.replace("12", "13"),
            "swapped": content.replace('"a"', '"b"'), "empty": "{}",
        }[damage])
        with pytest.raises(InputError, match=r"units/a\.json is damaged .*; delete this file"):
            run.unit("a", lambda: {"x": 12})
        path.unlink()
        assert run.unit("a", lambda: {"x": 12}) == {"x": 12}


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {}}', ""])
def test_a_damaged_config_is_named(tmp_path, content):
    Run.open(tmp_path, CONFIG).close()
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        Run.open(tmp_path, CONFIG)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"not empty and holds no run .*thesis\.tex"):
        Run.open(tmp_path, CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="holds no run"):
        read_config(tmp_path)


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make the run folder .*; give a folder"):
        Run.open(tmp_path / place, CONFIG)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write in"):
        Run.open(tmp_path, CONFIG)


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match=f"cannot write in {tmp_path} "):
        Run.open(tmp_path, CONFIG)


def test_a_second_process_is_told_which_process_holds_the_folder(tmp_path):
    code = (
        "import sys\nfrom mechprobe.runs import Run\n"
        f"run = Run.open(sys.argv[1], {CONFIG!r})\n"
        "print('open', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=f"in use by process {holder.pid};"):
            Run.open(tmp_path, CONFIG)
        holder.kill()  # no chance to tidy up
        holder.wait()
    Run.open(tmp_path, CONFIG).close()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_unit_name_is_a_file_name(tmp_path, name):
    with Run.open(tmp_path, CONFIG) as run, pytest.raises(ValueError, match="is no name"):
        run.unit(name, dict)


def test_values_of_each_kind_through_the_run(tmp_path):
    with Run.open(tmp_path, CONFIG) as run:
        run.write_json("deep/er/a.json", {"x": np.arange(2)})
        run.write_arrays("a.safetensors", {"x": np.eye(2)})
        run.write_table("tables/a.csv", pd.DataFrame({"x": [0.1]}))
        run.log("u", 3, loss=0.5)
        assert run.read_json("deep/er/a.json") == {"x": [0, 1]}
        assert run.read_arrays("a.safetensors")["x"].tolist() == [[1, 0], [0, 1]]
        assert run.read_table("tables/a.csv").x.tolist() == [0.1]
        assert run.metrics("u") == [{"unit": "u", "step": 3, "loss": 0.5}]
        assert run.metrics("other") == []
