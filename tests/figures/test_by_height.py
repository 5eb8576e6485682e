"""Attention by height: bars that add up, points with their bars, maps side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechprobe import figures
from mechprobe.errors import InputError


def test_bars_are_the_shares_stacked():
    table = pd.DataFrame({"layer": [1, 2], "height_0": [0.1, 0.2], "height_1": [0.9, 0.3],
                          "height_2": [0.0, 0.5]})
    (axes,) = figures.mass_by_height(table).axes
    widths = np.array([[bar.get_width() for bar in group] for group in axes.containers])
    np.testing.assert_allclose(widths.T, table[["height_0", "height_1", "height_2"]])
    lefts = np.array([[bar.get_x() for bar in group] for group in axes.containers])
    np.testing.assert_allclose(lefts[2], [1.0, 0.5])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "2"]


def test_enrichment_has_intervals_and_a_line_at_uniform():
    table = pd.DataFrame({"height": [1, 2], "enrichment": [8.0, 0.5], "low": [7.0, 0.4],
                          "high": [9.0, 0.6]})
    (axes,) = figures.enrichment_by_height({"model": table}).axes
    (bars,) = axes.containers
    points, _, (segments,) = bars.lines
    assert points.get_ydata().tolist() == [8, 0.5]
    ends = [segment[:, 1].tolist() for segment in segments.get_segments()]
    np.testing.assert_allclose(ends, [[7, 9], [0.4, 0.6]])
    assert any(set(line.get_ydata()) == {1} for line in axes.lines)


def test_maps_stand_where_they_are_named_on_one_scale():
    maps = [np.eye(4), np.full((4, 4), 0.25)]
    figure = figures.attention_maps({"trained": maps, "ideal": maps[:1]}, ["layer 1", "layer 2"])
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 3
    np.testing.assert_allclose(images[1].get_array(), 0.25)
    assert {image.get_clim() for image in images} == {(0, 1)}
    assert [axes.get_title() for axes in figure.axes[:2]] == ["layer 1", "layer 2"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="height_0"):
        figures.mass_by_height(pd.DataFrame({"layer": [1]}))
    with pytest.raises(InputError, match="1 names"):
        figures.attention_maps({"x": [np.eye(2), np.eye(2)]}, ["one"])
    with pytest.raises(InputError, match="enrichment"):
        figures.enrichment_by_height({"x": pd.DataFrame({"height": [1]})})
