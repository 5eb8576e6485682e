"""Every task once, after what it needs, on workers that take their time and may die."""

import heapq
import random

import pytest

from mechprobe.studies.sweep.plan import shard
from mechprobe.studies.sweep.schedule import MOST_DEATHS, Reply, Task, run_tasks


class Clockwork:
    """Workers that need a drawn time for each task, and go wrong at the tasks they are told to."""

    def __init__(self, count, seed=0, fails=(), dies=None):
        self.count, self._rng = count, random.Random(seed)
        self._fails, self._dies = set(fails), dict(dies or {})
        self._now, self._busy = 0.0, []
        self.began, self.ended, self.most = {}, {}, 0

    def give(self, worker, order):
        assert worker not in {w for _, w, _ in self._busy}
        key = order["key"]
        self.began[key] = self._now
        heapq.heappush(self._busy, (self._now + self._rng.random(), worker, key))
        self.most = max(self.most, len(self._busy))

    def wait(self):
        self._now, worker, key = heapq.heappop(self._busy)
        if self._dies.get(key, 0) > 0:
            self._dies[key] -= 1
            return worker, Reply(f"worker {worker} was killed", died=True)
        self.ended[key] = self._now
        return worker, Reply("it failed" if key in self._fails else None)


def _random_tasks(seed, n=60, groups=4):
    rng = random.Random(seed)
    tasks = []
    for i in range(n):
        group = f"g{i % groups}"
        mine = [task.key for task in tasks if task.group == group]
        needs = tuple(sorted(rng.sample(mine, min(len(mine), rng.randint(0, 3)))))
        tasks.append(Task(f"{group}/{i}", group, needs, {"key": f"{group}/{i}"}))
    return tasks


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_every_task_is_done_once_after_what_it_needs(count):
    for seed in range(10):
        tasks: list[Task] = _random_tasks(seed)
        done: list[Task] = []
        workers = Clockwork(count, seed)
        assert run_tasks(tasks, workers, done.append) == {}
        assert sorted(t.key for t in done) == sorted(t.key for t in tasks)
        for task in tasks:
            assert all(workers.ended[need] <= workers.began[task.key] for need in task.needs)
        assert workers.most <= count
        assert count > 5 or workers.most == count


def test_a_worker_stays_with_its_group_while_it_can():
    tasks = _random_tasks(0, n=40, groups=4)
    order = []
    run_tasks(tasks, Clockwork(1), lambda task: order.append(task.group))
    assert order == sorted(order)


def test_a_failure_leaves_out_what_needs_it_and_nothing_else():
    tasks = _random_tasks(3)
    wrong = next(t.key for t in tasks if sum(t.key in other.needs for other in tasks) > 1)
    lost = {wrong}
    for task in tasks:
        if lost.intersection(task.needs):
            lost.add(task.key)
    done = []
    errors = run_tasks(tasks, Clockwork(3, fails=[wrong]), lambda task: done.append(task.key))
    assert errors.keys() == lost
    assert errors[wrong] == "it failed"
    assert all("left out, for it needs g" in errors[key] for key in lost - {wrong})
    assert set(done) == {task.key for task in tasks} - lost


def test_a_task_whose_worker_died_is_begun_again_but_not_for_ever(capsys):
    tasks = _random_tasks(1, n=12)
    first, second = tasks[0].key, tasks[1].key
    workers = Clockwork(2, dies={first: MOST_DEATHS - 1, second: MOST_DEATHS})
    errors = run_tasks(tasks, workers)
    assert first in workers.ended
    assert errors[second] == "worker 1 was killed" or errors[second] == "worker 0 was killed"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 * (MOST_DEATHS - 1)
    assert all(line.endswith("; it is begun again") for line in told)


@pytest.mark.parametrize(("n", "groups"), [(2, 4), (4, 4), (3, 1), (7, 2)])
def test_shares_cover_everything_and_hold_what_they_need(n, groups):
    tasks = _random_tasks(5, groups=groups)
    shares = [shard(tasks, i, n) for i in range(1, n + 1)]
    assert {task.key for share in shares for task in share} == {task.key for task in tasks}
    for share in shares:
        keys = {task.key for task in share}
        assert all(keys.issuperset(task.needs) for task in share)
    if groups >= n:  # whole runs: nothing twice
        assert sum(map(len, shares)) == len(tasks)
