"""Figures of transfer: the numbers that are drawn, and what is refused."""

import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.figures.transfer import gains, memory_and_transfer, procedure_bars

PROCEDURES = pd.DataFrame([
    {"adapt": adapt, "procedure": name, "in_distribution": 0.9, "in_distribution_low": 0.85,
     "in_distribution_high": 0.95, "generalisation": value, "generalisation_low": value - 0.05,
     "generalisation_high": value + 0.05}
    for adapt in ("full", "frozen") for name, value in (("MainExp", 0.6), ("ControlExp", 0.2))
])
GAINS = pd.DataFrame([
    {"adapt": "full", "test": test, "difference": "MainExp - x", "gain": 0.4, "low": 0.3,
     "high": 0.45} for test in ("E1", "E2")
])
POINTS = pd.DataFrame({
    "set": [1, 1, 2, 2], "step": [10, 100] * 2, "memory": [0.1, 0.9, 0.2, 1.0],
    "delta": [0.0, 0.3, 0.1, 0.2],
})


def test_bars_have_the_heights_of_the_table():
    figure = procedure_bars(PROCEDURES)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["full", "frozen"]
    for axes in figure.axes:
        heights = sorted(round(bar.get_height(), 6) for bar in axes.patches)
        assert heights == [20, 60, 90, 90]


def test_gains_stand_at_their_values():
    axes = gains(GAINS).axes[0]
    assert list(axes.lines[1].get_xdata()) == [40, 40]
    assert [label.get_text().split(":")[0] for label in axes.get_yticklabels()] == [
        "E1, full", "E2, full"
    ]


def test_memory_and_transfer_have_a_line_a_set():
    axes = memory_and_transfer(POINTS).axes[0]
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert drawn == [[10, 90], [0, 30], [20, 100], [10, 20]]


@pytest.mark.parametrize("figure", [procedure_bars, gains, memory_and_transfer])
def test_a_missing_column_is_refused(figure):
    with pytest.raises(InputError):
        figure(pd.DataFrame({"adapt": ["full"]}))
