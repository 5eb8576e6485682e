"""Effects with intervals: what is drawn is what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.figures import site_effects


def table(shift=0.0):
    effect = np.array([2.0, -1.0, 0.2]) + shift
    return pd.DataFrame({
        "site": ["1.0", "mlp.2", "0.1"], "effect": effect, "effect_low": effect - 0.5,
        "effect_high": effect + 0.25, "p_corrected": [0.01, 0.04, 0.6],
    })


def test_points_stand_at_their_effects_filled_when_significant():
    (axes,) = site_effects({"mean": table(), "zero": table(1.0)}, top=2).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1.0", "mlp.2"]
    points = [line for line in axes.lines if line.get_marker() not in ("None", None, "|")]
    for shift, filled, hollow in ((0.0, points[0], points[1]), (1.0, points[2], points[3])):
        np.testing.assert_allclose(filled.get_xdata(), [2 + shift, -1 + shift])
        assert len(hollow.get_xdata()) == 0
        assert hollow.get_markerfacecolor() == "white"
    ends = [path.vertices[:, 0] for path in axes.collections[0].get_paths()]
    np.testing.assert_allclose(ends, [[1.5, 2.25], [-1.5, -0.75]])


def test_a_site_one_table_lacks_is_left_out_there():
    (axes,) = site_effects({"mean": table(), "zero": table().iloc[1:]}).axes
    shown = [len(path.get_paths()) for path in axes.collections]
    assert shown == [3, 2]


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="site_effects needs columns"):
        site_effects({})
    with pytest.raises(InputError, match="missing"):
        site_effects({"mean": table().drop(columns="effect_low")})
