"""Progress: a bar for people, few lines for logs, silence for short work."""

import sys
import time

import pytest

from mechprobe.runs import progress

MODULE = sys.modules[progress.__module__]  # the function hides the module of its name


@pytest.fixture(autouse=True)
def _nothing_decided(monkeypatch):
    monkeypatch.delenv("MECHPROBE_PROGRESS", raising=False)


def test_short_work_says_nothing_in_a_log(capsys):
    assert list(progress(range(5), "fit")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_long_work_says_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(MODULE, "SECONDS_BETWEEN_LINES", 0.1)
    with progress(50, "fit") as bar:
        for _ in range(50):
            time.sleep(0.01)
            bar.update()
        assert bar.n == 50
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert 2 <= len(lines) <= 8
    assert all(line.startswith("fit: ") and "<" in line for line in lines)
    assert "50/50" in lines[-1]
    assert "\r" not in shown


def test_the_environment_decides(capsys, monkeypatch):
    monkeypatch.setenv("MECHPROBE_PROGRESS", "1")
    list(progress(range(3), "fit"))
    shown = capsys.readouterr().err
    assert "\r" in shown
    assert "3/3" in shown
    monkeypatch.setenv("MECHPROBE_PROGRESS", "0")
    list(progress(range(3), "fit"))
    assert capsys.readouterr().err == ""


def test_it_counts_from_a_number_or_over_items(capsys):
    with progress(7) as bar:
        bar.update(3)
        assert (bar.n, bar.total) == (3, 7)
    assert [x * 2 for x in progress(iter("ab"), "letters")] == ["aa", "bb"]
