"""Circuit graphs: every edge is an arrow as wide as its effect, layers stand in order."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation

from mechprobe import figures
from mechprobe.errors import InputError
from mechprobe.figures.circuit_graph import node_places
from mechprobe.figures.style import COLOURS
from mechprobe.locate.edges import Edge, EdgeScores


def edges():
    return pd.DataFrame(
        [["0.1", "2.0", "k", 3.0, 2.5, 3.5], ["0.1", "logits", "", 0.2, -0.1, 0.5],
         ["mlp.1", "2.0", "v", -1.5, -2.0, -1.0], ["2.0", "logits", "", 2.0, 1.0, 3.0],
         ["0.2", "2.0", "q", 0.01, -1.0, 1.0]],
        columns=["sender", "receiver", "input", "effect", "low", "high"],
    )


def arrows(figure):
    """Edge patches in the order drawn, the strongest last."""
    return [note.arrow_patch for note in figure.axes[0].findobj(Annotation) if note.arrow_patch]


def names(figure):
    return {note.get_text() for note in figure.axes[0].findobj(Annotation) if note.get_text()}


def test_width_colour_dashes_and_faintness_tell_the_effect():
    shown = arrows(figures.circuit_graph(edges()))[::-1]
    sizes = [3.0, 2.0, 1.5, 0.2, 0.01]
    np.testing.assert_allclose([a.get_linewidth() for a in shown], 0.5 + 2.5 * np.array(sizes) / 3)
    kinds = [COLOURS[i] for i in (1, 4, 2, 4, 0)]
    assert [to_hex(a.get_edgecolor(), keep_alpha=False).upper() for a in shown] == kinds
    assert [a.get_linestyle() for a in shown] == ["-", "-", "--", "-", "-"]
    assert [a.get_alpha() for a in shown] == [0.9, 0.9, 0.9, 0.3, 0.3]


def test_only_the_strongest_edges_and_their_nodes_are_drawn():
    figure = figures.circuit_graph(edges(), top=3)
    assert len(arrows(figure)) == 3
    assert names(figure) == {"0.1", "2.0", "mlp.1", "logits"}


def test_layers_stand_upwards_and_the_logits_on_top():
    places = node_places(["logits", "2.0", "0.7", "0.1", "mlp.0"])
    assert {name: y for name, (_, y) in places.items()} == {
        "0.1": 0, "0.7": 0, "mlp.0": 1, "2.0": 2, "logits": 3}
    assert places["0.1"][0] < places["0.7"][0]
    both = node_places(["cross 1.0", "dec 1.0", "dec mlp.1", "enc 2.0", "dec 0.0", "logits"])
    assert sorted(both, key=lambda name: both[name][1]) == [
        "enc 2.0", "dec 0.0", "dec 1.0", "cross 1.0", "dec mlp.1", "logits"]


def test_path_patching_draws_its_edges():
    effects = np.outer([2.0, -1.0, 0.5], np.ones(20)) + 0.01 * np.arange(20)
    scores = EdgeScores(
        "paths", (Edge("0.1", "logits"), Edge("0.0", "1.1", "k"), Edge("1.1", "logits")), effects,
        np.arange(10), np.arange(10, 20), "logit_difference", "paired", 1,
    )
    figure = scores.plot_graph(top=2)
    assert names(figure) == {"0.1", "logits", "0.0", "1.1"}
    assert len(arrows(figure)) == 2
    note = figure.legends[0].get_title().get_text()
    assert "2.15" in note
    assert "effect on logit difference" in note


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(InputError, match="missing \\['low', 'high'\\]"):
        figures.circuit_graph(edges().drop(columns=["low", "high"]))
    with pytest.raises(InputError, match="without rows"):
        figures.circuit_graph(edges()[:0])
    with pytest.raises(InputError, match="top=0"):
        figures.circuit_graph(edges(), top=0)
    with pytest.raises(InputError, match="'somewhere' is not a site"):
        figures.circuit_graph(edges().assign(receiver="somewhere"))
