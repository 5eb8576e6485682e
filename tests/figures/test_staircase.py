"""Staircases and training curves show the numbers given, log in sequences, sure points apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechprobe import figures
from mechprobe.errors import InputError


def stairs(closest, share):
    n = len(closest)
    return pd.DataFrame({"sequences": [0, *(10 ** np.arange(1, n))], "closest": closest,
                         "share": share})


def test_points_are_the_checkpoints_after_the_first_sequences():
    table = stairs([3, 3, 2, 0], [1.0, 1.0, 0.6, 0.99])
    (axes,) = figures.staircase({"root": table}, rungs=4).axes
    assert axes.get_xscale() == "log"
    steps, sure, unsure = axes.lines
    assert steps.get_xdata().tolist() == [10, 100, 1000]
    assert steps.get_ydata().tolist() == [3, 2, 0]
    assert sure.get_xdata().tolist() == [10, 1000]
    assert unsure.get_xdata().tolist() == [100]
    assert unsure.get_alpha() < 0.5
    assert axes.get_yticks().tolist() == [0, 1, 2, 3]


def test_models_do_not_hide_each_other_and_are_named():
    tables = {name: stairs([2, 2, 1], [1.0] * 3) for name in ("one", "two")}
    figure = figures.staircase(tables, rungs=3)
    a, b = figure.axes[0].lines[0].get_ydata(), figure.axes[0].lines[3].get_ydata()
    assert abs(a[0] - b[0]) > 0.03
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one", "two"]


def test_curves_mark_the_least():
    table = pd.DataFrame({"sequences": [0, 10, 100], "rung_0": [9, 3.0, 1.0],
                          "rung_1": [9, 2.0, 4.0]})
    figure = figures.training_curves(
        {"KL": table}, {"rung_0": "0", "rung_1": "1"}, ylabel="nats", least=True, log_y=True
    )
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == [[3, 1], [2, 4]]
    marked = axes.collections[0].get_offsets()
    assert np.asarray(marked).tolist() == [[10, 2], [100, 1]]
    assert axes.get_yscale() == "log"


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="closest"):
        figures.staircase({"x": pd.DataFrame({"sequences": [1]})}, rungs=2)
    with pytest.raises(InputError, match="rung_7"):
        figures.training_curves(
            {"x": pd.DataFrame({"sequences": [1]})}, {"rung_7": "7"}, ylabel=""
        )
