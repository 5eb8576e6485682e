import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.figures.matrices import named_matrix, task_matrix
from mechprobe.figures.style import save_figure
from mechprobe.figures.task_space import (
    cluster_tree,
    over_steps,
    task_accuracies,
    task_points,
    tuning_frontier,
)
from mechprobe.stats.ordination import cluster_items

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
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([10.0, 100.0])
    fallen = tuning_frontier(table.assign(perplexity_ratio=0.99)).axes[0]
    assert fallen.lines[0].get_ydata().tolist() == [0.01, 0.01]
    steps = pd.DataFrame({
        "step": [100, 10], "model": ["m", "m"], "within": [0.4, 0.2], "within_low": [0.3, 0.1],
        "within_high": [0.5, 0.4], "across": [0.1, 0.1],
    })
    axes = over_steps(steps, ["within", "across"], y="overlap").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.2, 0.4]


def test_each_model_has_a_panel_with_a_line_a_quantity():
    steps = pd.DataFrame({
        "step": [1, 10, 1, 10], "model": ["m", "m", "n", "n"], "within": [0.1, 0.2, 0.3, 0.4],
    })
    figure = over_steps(steps, ["within"], y="overlap")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["m", "n"]
    assert [axes.lines[0].get_ydata().tolist() for axes in figure.axes] == [[0.1, 0.2], [0.3, 0.4]]


def test_a_tree_joins_what_is_near_and_marks_groups():
    points = np.array([[0.0], [0.1], [5.0], [5.2], [9.0], [9.3]])
    tree = cluster_items(np.abs(points - points.T), list("aabbcc"), n=20).tree
    axes = cluster_tree(tree, NAMES, list("aabbcc")).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(shown) == [name.replace("_", " ") for name in NAMES]
    for a, b in ((0, 1), (2, 3), (4, 5)):
        places = [shown.index(f"paradigm {i}") for i in (a, b)]
        assert abs(places[0] - places[1]) == 1
    marked = {line.get_label(): sorted(line.get_ydata()) for line in axes.lines[-3:]}
    assert marked["a"] == sorted(shown.index(f"paradigm {i}") for i in (0, 1))
    same = cluster_items(np.zeros((6, 6)), list("aabbcc"), n=20).tree
    assert cluster_tree(same, NAMES, list("aabbcc")).axes[0].get_xlim() == (0.0, 1.0)
    with pytest.raises(InputError, match="a tree of 6 leaves, 5 names"):
        cluster_tree(tree, NAMES[:5], list("aabbcc"))


def test_rows_and_columns_of_a_matrix_are_named():
    values = np.array([[1.0, 2.0, np.nan], [0.5, 1.5, 1.0]])
    figure = named_matrix(
        values, ["a_b", "c"], ["0.0", "0.1", "1.0"], unit="x", diverging=True, centre=1.0
    )
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a b", "c"]
    cells = axes.images[0].get_array()
    middle = cells[1, 2]
    assert np.allclose(middle[:3], middle[0], atol=0.03)  # the centre is neither of both colours
    assert np.abs(cells[0, 1] - cells[1, 0]).max() > 0.2
    many = named_matrix(np.zeros((1, 90)), ["a"], [str(i) for i in range(90)], unit="x")
    assert len(many.axes[0].get_xticklabels()) <= 40
    with pytest.raises(InputError, match="with 1 and 3 names"):
        named_matrix(values, ["a"], ["b", "c", "d"], unit="")


def test_accuracies_stand_beside_their_names_with_ends():
    table = pd.DataFrame({
        "paradigm": NAMES, "phenomenon": GROUPS, "accuracy": np.linspace(0.2, 0.9, 6),
        "accuracy_low": np.linspace(0.1, 0.8, 6), "accuracy_high": np.linspace(0.3, 1.0, 6),
    })
    axes = task_accuracies(table).axes[0]
    drawn = {float(y): float(x) for line in axes.lines for x, y in line.get_xydata()[:2]
             if line.get_marker() in "os^" and line.get_linestyle() == "None"}
    assert drawn[0.0] == pytest.approx(20.0)
    assert len(axes.get_yticklabels()) == 6


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="5 names"):
        task_matrix(VALUES, NAMES[:5], GROUPS, unit="")
    with pytest.raises(InputError, match="6 points, 6 names, 2 groups"):
        task_points(VALUES[:, :2], NAMES, ["a", "b"])
    with pytest.raises(InputError, match="missing"):
        tuning_frontier(pd.DataFrame({"gain": [1.0]}))
