"""What stands in the figure is what was in the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.figures import layer_curves


def table():
    rows = []
    for model, shift in (("trained", 0.0), ("untrained", -0.2)):
        for part, layers in (("resid", 4), ("attn_out", 3)):
            for layer in range(layers):
                for metric in ("uuas", "x"):
                    value = 0.5 + shift + 0.05 * layer + 0.01 * (part == "resid")
                    rows.append({
                        "model": model, "metric": metric, "part": part, "layer": layer,
                        "value": value, "low": value - 0.03, "high": value + 0.02,
                    })
    return pd.DataFrame(rows)


def test_each_panel_has_each_submodule_of_both_models_and_its_levels():
    figure = layer_curves(
        table(), {"uuas": "UUAS", "x": "X"}, levels={"uuas": {"chain": 0.4, "random": 0.2}}
    )
    first, second = figure.axes
    assert first.get_ylabel() == "UUAS"
    assert second.get_ylabel() == "X"
    drawn = {c.get_label(): c for c in first.containers}
    assert set(drawn) == {
        "resid, trained", "resid, untrained", "attn_out, trained", "attn_out, untrained"
    }  # fmt: skip
    data = drawn["resid, trained"].lines[0].get_ydata()
    np.testing.assert_allclose(data, 0.51 + 0.05 * np.arange(4))
    ends = drawn["resid, trained"].lines[2][0].get_segments()[1][:, 1]
    np.testing.assert_allclose(sorted(ends), [0.56 - 0.03, 0.56 + 0.02])
    levels = {line.get_label(): line.get_ydata()[0] for line in first.lines}
    assert (levels["chain"], levels["random"]) == (0.4, 0.2)
    assert not [line for line in second.lines if line.get_label() == "chain"]


def test_a_table_without_a_column_is_refused():
    with pytest.raises(InputError, match="missing"):
        layer_curves(table().drop(columns="low"), {"uuas": "UUAS"})
