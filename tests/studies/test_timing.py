"""The parts of a dry run: what is timed, how hours add up, which threads are set."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from mechprobe.studies import timing
from mechprobe.studies.timing import Part, device_name, timed, use_threads, work_table


@dataclass(frozen=True)
class Asked:
    threads: int


def test_hours_add_up_over_the_parts():
    parts = [Part("steps", 3_600, 1.0), Part("passes", 1_800, 0.5)]
    assert [part.hours for part in parts] == [1.0, 0.25]
    heading, *rows, total = [line.split() for line in work_table(parts, count="times")]
    assert heading == ["work", "times", "ms", "each", "hours"]
    assert rows == [["steps", "3,600", "1000.0", "1.00"], ["passes", "1,800", "500.0", "0.25"]]
    assert total == ["total", "5,400", "1.25"]


def test_a_quick_step_is_timed_without_its_first_call():
    waits = iter([0.2, 0.02, 0.001])
    assert 0.001 <= timed(lambda: time.sleep(next(waits)), "cpu") < 0.02


def test_a_slow_first_call_is_the_only_one(monkeypatch):
    monkeypatch.setattr(timing, "SLOW", 0.01)
    calls = []
    assert timed(lambda: (calls.append(1), time.sleep(0.02)), "cpu") >= 0.02
    assert len(calls) == 1


def test_threads_are_set_when_asked_for(one_thread):
    assert use_threads(Asked(2)) == 2 == torch.get_num_threads()
    assert use_threads(Asked(0)) == 2


def test_a_device_has_a_name():
    assert device_name("cpu") == "cpu"
