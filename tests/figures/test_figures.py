"""Figures: they show the numbers given, their words fit and do not collide, files come whole."""

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from mechprobe import figures
from mechprobe.errors import InputError
from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import wilson

RNG = np.random.default_rng(0)
LONG = "cn_embedded_under_a_verb_with_a_long_name"


def members(n=12, sparsities=(0.5, 0.7)):
    table = pd.DataFrame({"sparsity": np.repeat(sparsities, n)})
    for name in ("in_domain", "ln_preposition", LONG):
        table[name] = RNG.random(len(table))
    table["ln_preposition_low"] = table["ln_preposition"] - 0.03
    table["ln_preposition_high"] = table["ln_preposition"] + 0.03
    return table


def curve():
    table = pd.DataFrame({"sparsity": [0.7, 0.1, 0.5], "in_domain": [0.7, 0.9, 0.8]})
    table["out_of_domain"] = [0.1, 0.6, 0.3]
    table["out_of_domain_low"] = table["out_of_domain"] - 0.05
    table["out_of_domain_high"] = table["out_of_domain"] + 0.1
    return table


def steps():
    return pd.DataFrame({
        "step": [500, 6_500, 54_500], "in_domain": [0.5, 0.8, 0.83],
        "out_of_domain": [0.0, 0.1, 0.5], "small": [0.5, 0.5, 0.48], "big": [0.3, 0.9, 0.7],
    })


def against_chance():
    return pd.DataFrame({
        "statistic": ["core size", "core size", "mean Jaccard"],
        "null": ["any layer", "same layers", "any layer"], "observed": [9.0, 9.0, 0.5],
        "expected": [0.2, 0.9, 0.3], "null_low": [0.0, 0.0, 0.28], "null_high": [1.0, 3.0, 0.33],
        "p": [1e-9, 0.02, np.nan],
    })


def heads():
    table = pd.DataFrame(RNG.random((32, 2)), columns=["overlap", "previous"])
    return table.assign(in_core=np.arange(32) < 5)


def effects():
    table = pd.DataFrame({"site": [f"0.{i}" for i in range(6)], "effect": RNG.normal(size=6)})
    return table.assign(
        low=table["effect"] - 0.2, high=table["effect"] + 0.3, p_corrected=[0.01, 1] * 3)


def shares():
    table = pd.DataFrame({"share": [0, 0.25, 0.5, 1]})
    for column in ("faithfulness", "completeness", "null"):
        table[column] = RNG.random(4)
        for end, sign in (("low", -0.1), ("high", 0.1)):
            table[f"{column}_{end}"] = table[column] + sign
    return table


def closed():
    table = pd.DataFrame({"closed": range(5), "value": RNG.random(5), "null": RNG.random(5)})
    for column, name in (("value", ""), ("null", "null_")):
        table[f"{name}low"], table[f"{name}high"] = table[column] - 0.1, table[column] + 0.1
    return table


GRID = SiteGrid(4, 8)
EVERY = {
    "head_map": lambda: figures.head_map(
        RNG.normal(size=(12, 12)), "Change when a head is closed", "change in accuracy (points)",
        mlps=RNG.normal(size=12), diverging=True, marked=[Site("head", 1, 2), Site("mlp", 3)],
    ),
    "keep_frequency": lambda: figures.keep_frequency(
        {"50 % closed": RNG.random(len(GRID))}, GRID, n_members=[12]
    ),
    "keep_frequency, many": lambda: figures.keep_frequency(
        {f"{s} % closed": RNG.random(156) for s in (30, 50, 70)}, SiteGrid(12, 12)
    ),
    "jaccard_matrix": lambda: figures.jaccard_matrix(
        RNG.random((24, 24)), [f"{i} (50 %)" for i in range(24)], title="Who resembles whom"
    ),
    "accuracy_spread": lambda: figures.accuracy_spread(
        members(), ["in_domain", "ln_preposition", LONG], by="sparsity", chance=0.5,
        full={"in_domain": 0.84, "ln_preposition": wilson(700, 1_000)},
    ),
    "sparsity_curve": lambda: figures.sparsity_curve(curve(), full={"in_domain": 0.9}),
    "emergence": lambda: figures.emergence(
        steps(), size={"small": "in domain", "big": "out of domain"}, title="Emergence"
    ),
    "emergence, other names": lambda: figures.emergence(steps(), size=["small", "big"]),
    "bars_with_null": lambda: figures.bars_with_null(against_chance()),
    "attention_profile": lambda: figures.attention_profile(
        heads(), {"overlap": "same word in the other sentence", "previous": "previous word"},
        p={"overlap": 0.03, "previous": 1.0},
    ),
    "head_map, framed": lambda: figures.head_map(
        RNG.random((4, 8)), "Effects", "share", marked=[Site("head", 1, 2)],
        framed="p < .05, corrected",
    ),
    "edge_map": lambda: figures.edge_map(
        RNG.normal(size=(5, 4)), [f"0.{i}" for i in range(5)],
        ["1.0 q", "1.0 k", "1.0 v", "logits"],
        unit="effect on logit_difference", marked=[(0, 1)], framed="p < .05, corrected",
        width=figures.COLUMN,
    ),
    "circuit_graph": lambda: figures.circuit_graph(pd.DataFrame(
        [[f"{i}.{h}", f"{i + 1}.0", "qkv"[h], RNG.normal(), -0.1, 0.2]
         for i in range(5) for h in range(3)],
        columns=["sender", "receiver", "input", "effect", "low", "high"],
    ), unit="change in log probability (nats)", title="Who talks to whom"),
    "site_effects": lambda: figures.site_effects({name: effects() for name in ("one", "other")}),
    "faithfulness_curve": lambda: figures.faithfulness_curve(shares(), title="CPR 0.64"),
    "closing_curve": lambda: figures.closing_curve(closed(), unit="log probability (nats)"),
}


def words(figure):
    """Every visible text with its box in pixels."""
    figure.savefig(BytesIO(), format="png", dpi=100)
    unseen = {id(label) for axes in figure.axes for label in beyond_the_ends(axes)}
    texts = [
        t for t in figure.findobj(mpl.text.Text)
        if t.get_visible() and t.get_text().strip() and id(t) not in unseen
    ]
    return [(t.get_text(), t.get_window_extent()) for t in texts]


def beyond_the_ends(axes):
    """Tick labels that matplotlib keeps but does not draw, outside an axis' limits."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                yield from (tick.label1, tick.label2)


@pytest.mark.parametrize("name", EVERY)
def test_words_stay_inside_the_picture_and_apart(name):
    figure = EVERY[name]()
    assert figure.get_figwidth() in (figures.COLUMN, figures.PAGE)
    boxes = words(figure)
    assert len(boxes) > 5
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for i, (text, box) in enumerate(boxes):
        for other, its in boxes[:i]:
            across = min(box.x1, its.x1) - max(box.x0, its.x0)
            down = min(box.y1, its.y1) - max(box.y0, its.y0)
            assert across < 1 or down < 1, f"{text!r} lies over {other!r}"


@pytest.mark.parametrize("name", ["closing_curve", "keep_frequency, many"])
def test_a_saved_picture_has_the_dots_that_print_needs(name):
    figure, stream = EVERY[name](), BytesIO()
    figure.savefig(stream)
    width = int.from_bytes(stream.getvalue()[16:20], "big")
    assert width == round(300 * figure.get_figwidth())
    assert stream.getvalue().count(b"pHYs") == 1
    assert figure.dpi < 300  # on a screen it stays as large as it was


def test_who_names_a_resolution_gets_it():
    figure = EVERY["closing_curve"]()
    for said, kwargs in ((90, {"dpi": 90}), (150, {})):
        stream = BytesIO()
        with mpl.rc_context({"savefig.dpi": 150}):
            figure.savefig(stream, **kwargs)
        assert int.from_bytes(stream.getvalue()[16:20], "big") == int(figures.COLUMN * said)


def test_every_family_is_drawn_on_that_figure():
    folder = Path(figures.__file__).parent
    sources = {path.stem: path.read_text() for path in folder.glob("*.py")}
    made = {name for name, source in sources.items() if re.search(r"(?<!\w)Figure\(", source)}
    assert made <= {"style"}  # the class itself
    drawing = {name for name, source in sources.items() if re.search(r"-> Figure:", source)}
    assert len(drawing) > 15
    assert all("new_figure(" in sources[name] for name in drawing)


def points(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def test_a_head_map_writes_each_value_at_its_cell():
    values = np.array([[0.5, -0.25], [0.0, np.nan]])
    axes = figures.head_map(values, mlps=np.array([1.0, 2.0]), number=".2f").axes[0]
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written == {
        (0, 0): "0.50", (1, 0): "−0.25", (0, 1): "0.00", (2.4, 0): "1.00", (2.4, 1): "2.00",
    }


def test_frequencies_are_percent_and_the_shared_sites_framed():
    row = np.zeros(len(GRID))
    row[[3, 32]] = 1
    row[9] = 0.25
    axes = figures.keep_frequency({"a": row}, GRID).axes[0]
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written[3, 0] == "100"
    assert written[1, 1] == "25"
    assert len(written) == 36
    framed = {(round(p.get_x() + 0.45, 6), round(p.get_y() + 0.45, 6)) for p in axes.patches}
    assert framed == {(3, 0), (8.4, 0)}


def test_spread_draws_every_member_the_mean_and_the_full_model():
    table = members(sparsities=(0.5,))
    axes = figures.accuracy_spread(table, ["ln_preposition"], full={"ln_preposition": 0.8}).axes[0]
    (line,) = points(axes, "o")
    np.testing.assert_allclose(line.get_xdata(), 100 * table["ln_preposition"])
    assert np.all(np.abs(line.get_ydata()) < 0.5)
    ticks = {round(float(c.get_segments()[0][0, 0]), 6) for c in axes.collections[1:]}
    assert ticks == {round(100 * table["ln_preposition"].mean(), 6), 80.0}


def test_curves_are_sorted_with_their_bars():
    axes = figures.sparsity_curve(curve()).axes[0]
    line, bars = axes.containers[1][0], axes.containers[1][2][0]
    np.testing.assert_allclose(line.get_ydata(), [60, 30, 10])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[55, 70], [25, 40], [5, 20]])


def test_the_null_is_a_bar_and_the_observation_a_point():
    upper, lower = figures.bars_with_null(against_chance()).axes
    assert [(b.get_x(), b.get_width()) for b in upper.containers[0]] == [(0, 1), (0, 3)]
    np.testing.assert_allclose(points(upper, "D")[0].get_xdata(), [9, 9])
    assert [t.get_text() for t in upper.texts] == ["p < .001", "p = .020"]
    assert [t.get_text() for t in lower.texts] == [""]


def test_attention_keeps_core_and_others_apart():
    table = heads()
    axes = figures.attention_profile(table, ["overlap"]).axes[0]
    np.testing.assert_allclose(
        points(axes, "D")[0].get_xdata(), 100 * table["overlap"][table["in_core"]]
    )
    assert len(points(axes, "o")[0].get_xdata()) == 27


def test_files_are_whole_repeatable_and_carry_the_numbers(tmp_path):
    table = curve()
    first = figures.save_figure(figures.sparsity_curve(table), tmp_path / "a" / "curve.0.5", table)
    names = ["curve.0.5.csv", "curve.0.5.pdf", "curve.0.5.png"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == names
    second = figures.save_figure(figures.sparsity_curve(table), tmp_path / "b", table)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in first[0].read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(first[2]), table)


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        figures.save_figure(figures.sparsity_curve(curve()), tmp_path / "file" / "curve")
    (tmp_path / "curve.pdf").mkdir()
    with pytest.raises(OSError, match="directory"):
        figures.save_figure(figures.sparsity_curve(curve()), tmp_path / "curve")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.pdf", "file"]


def test_names_with_dollars_are_shown_as_they_stand():
    table = members().rename(columns={LONG: "cost $x_1$ or $y"})
    figure = figures.accuracy_spread(table, ["cost $x_1$ or $y"])
    assert any("cost" in text for text, _ in words(figure))


def test_missing_columns_and_empty_tables_are_named():
    with pytest.raises(InputError, match=r"missing \['step'\]"):
        figures.emergence(curve())
    with pytest.raises(InputError, match="without rows"):
        figures.sparsity_curve(curve().iloc[:0])
    with pytest.raises(InputError, match="no panels"):
        figures.keep_frequency({}, GRID)


def test_nothing_global_is_touched():
    program = (
        "import sys, matplotlib as m; before = m.rcParams.copy()\n"
        "from mechprobe import figures; import pandas as pd, tempfile\n"
        "t = pd.DataFrame({'sparsity': [.5], 'in_domain': [.5], 'out_of_domain': [.1]})\n"
        "figures.save_figure(figures.sparsity_curve(t), tempfile.mkdtemp() + '/x')\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
        "assert m.rcParams.copy() == before"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
