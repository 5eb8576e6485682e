import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.figures.matrices import task_matrix
from mechprobe.figures.style import save_figure
from mechprobe.figures.task_space import over_steps, task_points, tuning_frontier

NAMES = [f"paradigm_{i}" for i in range(6)]
GROUPS = ["a", "a", "b", "b", "b", "c_d"]
VALUES = np.random.default_rng(0).normal(size=(6, 6))


def test_a_matrix_shows_its_cells_names_and_blocks(tmp_path):
    values = VALUES.copy()
    values[1, 2] = np.nan
    figure = task_matrix(values, NAMES, GROUPS, unit="points")
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown.shape[:2] == (6, 6)
    assert [t.get_text() for t in axes.get_yticklabels()] == NAMES
    assert sorted(line.get_ydata()[0] for line in axes.lines[0::2]) == [1.5, 4.5]
    assert np.abs(axes.images[0].get_array()[0, 0] - shown[1, 1]).sum() > 0
    paths = save_figure(figure, tmp_path / "m")
    assert all(path.stat().st_size > 1_000 for path in paths)


def test_a_map_has_a_mark_a_task_and_a_legend_entry_a_group():
    figure = task_points(VALUES[:, :2], NAMES, GROUPS)
    axes = figure.axes[0]
    assert sum(len(line.get_xdata()) for line in axes.lines) == 6
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b", "c d"]
    assert len(axes.texts) == 6


def test_lines_of_methods_and_models():
    table = pd.DataFrame({
        "method": ["x", "x", "y"], "gain": [0.2, 0.1, 0.3], "perplexity_ratio": [2.0, 1.1, 1.5],
    })
    axes = tuning_frontier(table).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [10.0, 20.0]
    assert axes.lines[0].get_ydata().tolist() == [1.1, 2.0]
    steps = pd.DataFrame({
        "step": [100, 10], "model": ["m", "m"], "within": [0.4, 0.2], "within_low": [0.3, 0.1],
        "within_high": [0.5, 0.4], "across": [0.1, 0.1],
    })
    axes = over_steps(steps, ["within", "across"], y="overlap").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.2, 0.4]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="5 names"):
        task_matrix(VALUES, NAMES[:5], GROUPS, unit="")
    with pytest.raises(InputError, match="6 points, 6 names, 2 groups"):
        task_points(VALUES[:, :2], NAMES, ["a", "b"])
    with pytest.raises(InputError, match="missing"):
        tuning_frontier(pd.DataFrame({"gain": [1.0]}))
