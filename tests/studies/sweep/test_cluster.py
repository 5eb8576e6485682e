"""Ray does the tasks of a sweep as local processes do; skipped where it is not installed."""

import dataclasses
import os
import signal

import pytest

from mechprobe.errors import InputError
from mechprobe.studies import STUDIES
from mechprobe.studies.sweep.cluster import RayWorkers
from mechprobe.studies.sweep.grid import Job
from mechprobe.studies.sweep.plan import Plan, tasks_of
from mechprobe.studies.sweep.schedule import run_tasks

pytestmark = pytest.mark.usefixtures("one_thread")
TOPOLOGY = STUDIES["topology"]


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'mechprobe\[cluster\]'"):
        RayWorkers(1)


@pytest.mark.slow
def test_ray_gives_the_same_tables_also_when_an_actor_dies(micro, tables, tmp_path, capsys):
    pytest.importorskip("ray", reason="Ray (extra cluster) is not installed")
    settings = dataclasses.replace(micro("topology"), n_untrained=1)
    TOPOLOGY.run(settings, tmp_path / "plain")
    plan = Plan(TOPOLOGY, (Job("run", {}, settings),))
    tasks = tasks_of(plan, tmp_path / "ray", None)
    with RayWorkers(2) as workers:
        workers.give(0, {**tasks[0].order, "unit": "encoder"})
        assert workers.wait()[1].error is None
        pid = workers._ray.get(workers._actors[0].process.remote())
        os.kill(pid, signal.SIGKILL)
        assert run_tasks(tasks, workers) == {}
    assert "it is begun again" in capsys.readouterr().err
    assert tables(tmp_path / "ray" / "run") == tables(tmp_path / "plain")
    with pytest.raises(InputError, match=r"no such GPU; give 0"):
        RayWorkers(1, gpus=0.5)
