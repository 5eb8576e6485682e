"""Ray does the tasks of a sweep as local processes do; skipped where it is not installed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

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
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'mechprobe\[cluster\]'"):
        RayWorkers(1)


@pytest.mark.slow
def test_ray_gives_the_same_tables_also_when_an_actor_dies(
    micro, tables, tmp_path, capsys, monkeypatch
):
    ray = pytest.importorskip("ray", reason="Ray (extra cluster) is not installed")
    settings = dataclasses.replace(micro("topology"), n_untrained=1)
    TOPOLOGY.run(settings, tmp_path / "plain")
    plan = Plan(TOPOLOGY, (Job("run", {}, settings),))
    tasks = tasks_of(plan, tmp_path / "ray", None)
    begun, init = [], ray.init
    monkeypatch.setattr(ray, "init", lambda **given: begun.append(init(**given)))
    with RayWorkers(2) as workers:
        assert begun[0].dashboard_url == ""
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        workers.give(0, {**tasks[0].order, "unit": "encoder"})
        assert workers.wait()[1].error is None
        pid = ray.get(workers._actors[0].process.remote())
        os.kill(pid, signal.SIGKILL)
        assert run_tasks(tasks, workers) == {}
    assert "it is begun again" in capsys.readouterr().err
    assert tables(tmp_path / "ray" / "run") == tables(tmp_path / "plain")
    with pytest.raises(InputError, match=r"no such GPU; give 0"):
        RayWorkers(1, gpus=0.5)


PARTS = """
import json, sys, time
from mechprobe.errors import InputError
from mechprobe.studies.sweep.cluster import RayWorkers

with RayWorkers(2, address=sys.argv[1], gpus=0.25) as workers:
    ray = workers._ray
    workers._actors.update({i: workers._actor.remote() for i in range(2)})
    pids = ray.get([actor.process.remote() for actor in workers._actors.values()])
    until = time.monotonic() + 60
    while ray.available_resources().get("GPU", 0) != 0.5 and time.monotonic() < until:
        time.sleep(0.5)
    found = [len(set(pids)), ray.available_resources()["GPU"], ray.cluster_resources()["GPU"]]
try:
    RayWorkers(1, address=sys.argv[1], gpus=1.5)
except InputError as error:
    print(json.dumps([*found, str(error)]))
"""


@pytest.fixture
def cluster(monkeypatch) -> Iterator[str]:
    """The address of a cluster of one machine that says it has 2 CPUs and 1 GPU."""
    pytest.importorskip("ray", reason="Ray (extra cluster) is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # of a token kept in the home folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    started = subprocess.Popen(
        [sys.executable, "-c", command, "start", "--head", "--block", "--port", str(port),
         "--num-cpus", "2", "--num-gpus", "1", "--include-dashboard", "false",
         "--disable-usage-stats"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and started.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.5)
    yield f"127.0.0.1:{port}"
    started.terminate()
    started.wait(timeout=60)


@pytest.mark.slow
def test_workers_take_parts_of_a_gpu_of_a_cluster_that_is_there(cluster):
    done = subprocess.run(
        [sys.executable, "-c", PARTS, cluster], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    actors, free, whole, said = json.loads(done.stdout.splitlines()[-1])
    assert (actors, free, whole) == (2, 0.5, 1)
    assert "--gpus 1.5 for each worker" in said
