"""metrics.jsonl: appended at once, healed after a kill, each step of a unit once."""

import json

import pytest

from mechprobe.errors import InputError
from mechprobe.runs.metrics import Metrics


def _log(folder, unit, steps):
    metrics = Metrics(folder)
    for step in steps:
        metrics.append(unit, step, {"loss": step / 3})
    return metrics


def _steps(folder, unit):
    return [row["step"] for row in Metrics(folder).rows(unit)]


def test_a_line_is_there_when_the_call_returns(tmp_path):
    _log(tmp_path, "fit", [1])
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"unit": "fit", "step": 1, "loss": 0.3333333333333333}\n'
    )


@pytest.mark.parametrize("torn", [b'{"unit": "fit", "st', b"{", b'{"unit": "fit", "step": 3}'])
def test_a_torn_last_line_is_cut(tmp_path, torn):
    _log(tmp_path, "fit", [1, 2])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    Metrics(tmp_path)
    assert path.read_bytes() == whole


def test_lines_of_work_done_again_are_replaced(tmp_path):
    _log(tmp_path, "first", [1, 2])
    _log(tmp_path, "fit", range(1, 8))
    untouched = (tmp_path / "metrics.jsonl").read_bytes()
    _log(tmp_path, "fit", range(5, 8))  # resumed from a checkpoint at step 4
    assert (tmp_path / "metrics.jsonl").read_bytes() == untouched
    _log(tmp_path, "fit", [1, 2])  # from the start
    assert _steps(tmp_path, "fit") == [1, 2]
    assert _steps(tmp_path, "first") == [1, 2]


def test_one_process_may_report_twice_at_a_step_and_start_over(tmp_path):
    metrics = _log(tmp_path, "fit", [1, 2, 2, 3])
    assert [row["step"] for row in metrics.rows()] == [1, 2, 2, 3]
    metrics.append("fit", 2, {"loss": 0.0})
    assert [row["step"] for row in metrics.rows()] == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    _log(tmp_path, "fit", [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for bad in ("{]\n", '{"unit": "fit"}\n', "3\n"):
        path.write_text("".join([lines[0], bad, lines[2]]))
        with pytest.raises(InputError, match=r"metrics\.jsonl is damaged \(line 2: "):
            Metrics(tmp_path)


def test_every_line_is_json_with_exact_floats(tmp_path):
    Metrics(tmp_path).append("ü", 0, {"x": [0.1 + 0.2, 1e-320], "text": "a\nb"})
    (line,) = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"unit": "ü", "step": 0, "x": [0.1 + 0.2, 1e-320], "text": "a\nb"}
