"""The same numbers whichever way a sweep runs: one process or many, in shares, in any order."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run, complete, with_needs
from mechprobe.studies import STUDIES
from mechprobe.studies.sweep.cost import total_hours
from mechprobe.studies.sweep.gather import bring, gather, join_tables
from mechprobe.studies.sweep.grid import Job
from mechprobe.studies.sweep.plan import FILE, Plan, keep_plan, read_plan, shard, tasks_of
from mechprobe.studies.sweep.processes import Processes
from mechprobe.studies.sweep.sweep import Engine, run_sweep
from mechprobe.studies.sweep.worker import Desk

pytestmark = pytest.mark.usefixtures("one_thread")
HIERARCHY = STUDIES["hierarchy"]


def _plan(micro, name="hierarchy", seeds=(0, 1)):
    jobs = [
        Job(f"seed={seed}", {"seed": seed}, dataclasses.replace(micro(name), seed=seed))
        for seed in seeds
    ]
    return Plan(STUDIES[name], tuple(jobs))


def _in_one_process(plan, folder):
    for job in plan.jobs:
        plan.study.run(job.settings, folder / job.name)


@pytest.mark.parametrize("name", STUDIES)
def test_units_come_after_what_they_need_in_every_preset(name):
    study = STUDIES[name]
    for preset, settings in study.presets.items():
        if name == "task-space" and preset in ("real", "paper"):
            continue  # its tasks are counted in files
        units = study.units(settings)
        names = [unit.name for unit in units]
        assert len(set(names)) == len(names) > 5
        for place, unit in enumerate(units):
            assert set(unit.needs) <= set(names[:place])


def test_units_in_any_order_by_workers_that_share_a_folder_give_the_same_tables(
    micro, tables, tmp_path
):
    """Two desks take turns at the units of one run, each with its own view of the folder."""
    settings = dataclasses.replace(micro("hierarchy"), models=("root-k0",))
    plan = Plan(HIERARCHY, (Job("run", {}, settings),))
    with HIERARCHY.opened(settings, tmp_path / "whole") as at:
        complete(at.run, HIERARCHY.units(settings), at)
    units = tasks_of(plan, tmp_path / "shared", None, report=False)
    desks, rng, done = (Desk(), Desk()), random.Random(1), set()
    while len(done) < len(units):
        ready = [t for t in units if t.key not in done and done.issuperset(t.needs)]
        task = rng.choice(ready[::-1])
        assert desks[len(done) % 2].perform(task.order) is None
        done.add(task.key)
    for desk in desks:
        desk.close()
    with HIERARCHY.opened(settings, tmp_path / "shared" / "run") as at:
        at.run.order_metrics([unit.name for unit in HIERARCHY.units(settings)])
    assert tables(tmp_path / "shared" / "run") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_one_worker_two_workers_and_gathered_shares_give_the_same_tables(
    micro, tables, tmp_path, name
):
    plan = _plan(micro, name)
    _in_one_process(plan, tmp_path / "plain")
    for workers in (1, 2):
        assert run_sweep(plan, tmp_path / f"{workers}", Engine(workers=workers)) == {}
    for i in (1, 2):  # one folder that both see
        assert run_sweep(plan, tmp_path / "shared", Engine(), part=(i, 2)) == {}
    assert gather(plan, tmp_path / "shared", Engine()) == {}
    apart = [tmp_path / f"apart-{i}" for i in (1, 2, 3)]  # machines with nothing in common
    for i, folder in enumerate(apart, start=1):
        assert run_sweep(plan, folder, Engine(), part=(i, 3)) == {}
    with pytest.raises(InputError, match=r"lacks \d+ of \d+ units .*run the shares"):
        gather(plan, apart[0], Engine())
    assert gather(plan, apart[0], Engine(workers=2), sources=apart[1:]) == {}
    for job in plan.jobs:
        plain = tables(tmp_path / "plain" / job.name)
        for way in ("1", "2", "shared", "apart-1"):
            assert tables(tmp_path / way / job.name) == plain, way
    join_tables(plan, tmp_path / "1")
    joined = {p.name: p.read_bytes() for p in (tmp_path / "1" / "tables").iterdir()}
    again = {p.name: p.read_bytes() for p in (apart[0] / "tables").iterdir()}
    assert joined == again


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_a_killed_sweep_leaves_no_worker(micro, tables, tmp_path):
    plan = _plan(micro, seeds=(0,))
    _in_one_process(plan, tmp_path / "plain")
    tasks = tasks_of(plan, tmp_path / "killed", None)
    with Processes(1, tmp_path / "logs") as workers:
        workers.give(0, tasks[0].order)
        os.kill(workers._started[0].pid, signal.SIGKILL)
        worker, reply = workers.wait()
        assert (worker, reply.died) == (0, True)
        assert "was killed by SIGKILL" in (reply.error or "")
        workers.give(0, tasks[0].order)  # another process
        assert workers.wait()[1].error is None
        process = workers._started[0]
    assert process.poll() is not None
    assert run_sweep(plan, tmp_path / "killed", Engine()) == {}
    assert tables(tmp_path / "killed" / "seed=0") == tables(tmp_path / "plain" / "seed=0")


def test_a_worker_ends_when_nobody_gives_orders():
    child = subprocess.Popen(
        [sys.executable, "-m", "mechprobe.studies.sweep.worker"], stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=120) == 0


def test_a_sweep_may_grow_but_not_change(micro, tmp_path):
    plan = _plan(micro, seeds=(0, 1))
    assert keep_plan(plan, tmp_path) == plan == read_plan(tmp_path)
    assert len(keep_plan(_plan(micro, seeds=(1, 2)), tmp_path).jobs) == 3
    other = dataclasses.replace(plan.jobs[0].settings, d_model=32)
    with pytest.raises(InputError, match=r"run seed=0 has other settings \(d_model: 16 -> 32\)"):
        keep_plan(Plan(HIERARCHY, (Job("seed=0", {"seed": 0}, other),)), tmp_path)
    with pytest.raises(InputError, match="holds a sweep of hierarchy, not of topology"):
        keep_plan(_plan(micro, "topology"), tmp_path)
    assert len(read_plan(tmp_path).jobs) == 3
    with pytest.raises(InputError, match=r"holds no sweep \(no sweep.json\)"):
        read_plan(tmp_path / "other")
    kept = json.loads((tmp_path / FILE).read_bytes())
    kept["jobs"][0]["settings"]["removed_setting"] = 1
    (tmp_path / FILE).write_text(json.dumps(kept))
    with pytest.raises(InputError, match="is damaged, or of another version of mechprobe"):
        read_plan(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        read_plan(tmp_path)


def test_shares_of_one_run_hold_whole_chains(micro, tmp_path):
    plan = _plan(micro, seeds=(0,))
    tasks = tasks_of(plan, tmp_path, None, report=False)
    units = HIERARCHY.units(plan.jobs[0].settings)
    shares = [{task.order["unit"] for task in shard(tasks, i, 3)} for i in (1, 2, 3)]
    assert set().union(*shares) == {unit.name for unit in units}
    for share in shares:
        for name in share:
            assert {unit.name for unit in with_needs(units, name)} <= share


def test_finished_units_are_brought_with_their_files_and_differences_refused(tmp_path):
    config = {"study": "lines", "seed": 0}

    def fill(folder: Path, value: int, *names: str) -> None:
        with Run.open(folder, config, shared=True) as run:
            for name in names:
                def compute(name: str = name) -> dict:
                    run.log(name, 1, x=value)
                    run.write_json(f"kept/{name}.json", value)
                    (run.path(f"deep/{name}") / "in").mkdir(parents=True)
                    (run.path(f"deep/{name}") / "in" / "file").write_text(name)
                    return {"value": value}

                run.unit(name, compute)

    fill(tmp_path / "a", 1, "one", "two")
    fill(tmp_path / "b", 1, "two", "three")
    assert bring(tmp_path / "b", tmp_path / "a") == 1
    assert bring(tmp_path / "b", tmp_path / "a") == 0
    assert bring(tmp_path / "nowhere", tmp_path / "a") == 0
    with Run.open(tmp_path / "a", config) as run:
        run.order_metrics(["one", "two", "three"])
        assert [run.result(name)["value"] for name in ("one", "two", "three")] == [1, 1, 1]
        assert [row["unit"] for row in run.metrics()] == ["one", "two", "three"]
        assert (run.folder / "deep" / "three" / "in" / "file").read_text() == "three"
    fill(tmp_path / "c", 2, "two")
    with pytest.raises(InputError, match="have different results of unit two"):
        bring(tmp_path / "c", tmp_path / "a")


def test_an_error_in_a_unit_is_one_line_and_the_worker_goes_on(micro, tmp_path):
    order = tasks_of(_plan(micro, seeds=(0,)), tmp_path, None)[0].order
    wrong = {**order, "settings": {**order["settings"], "depth": 0}}
    desk = Desk()
    error = desk.perform(wrong)
    assert error is not None
    assert "\n" not in error
    assert desk.perform(order) is None
    (tmp_path / "seed=0" / "units" / f"{order['unit']}.json").write_text("{")
    assert "is damaged" in (desk.perform(order) or "")
    desk.close()


@pytest.mark.parametrize("name", STUDIES)
def test_every_dry_run_tells_its_hours(micro, name):
    text = STUDIES[name].dry_run(micro(name))
    last = [line for line in text.splitlines() if line.startswith("total")][-1]
    assert total_hours(text) == float(last.split(" h;")[0].removesuffix(" h").split()[-1])
    assert total_hours("x\ntotal     1,234     1,000.25\nend") == 1_000.25
    with pytest.raises(ValueError, match="without a line of total hours"):
        total_hours("hours: 3")
