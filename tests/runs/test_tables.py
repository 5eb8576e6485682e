"""Tables come back with their digits, labels, gaps and kinds."""

import csv
import math

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import InputError
from mechprobe.runs.tables import read_table, write_table
from mechprobe.sites import Site

TABLE = pd.DataFrame({
    "label": ["NA", "null", 'a,b\n"c"', "None"],
    "head": ["5.1", "5.10", "0.1", "11.0"],
    "share": [1 / 3, math.nan, -1e-300, 0.1 + 0.2],
    "count": [1, -2, 3, 10**17 + 1],
    "kept": [True, False, True, True],
    "gap": ["x", None, "", "y"],
    "none": [math.nan] * 4,
})


def test_every_kind_of_column_comes_back(tmp_path):
    write_table(tmp_path / "a.csv", TABLE)
    found = read_table(tmp_path / "a.csv")
    assert found["head"].tolist() == TABLE["head"].tolist()
    assert found["count"].dtype == np.int64
    assert found["kept"].dtype == bool
    assert found["gap"].isna().tolist() == [False, True, False, False]
    pd.testing.assert_frame_equal(found, TABLE, check_dtype=False)


def test_floats_keep_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=2_000) * 10.0 ** rng.integers(-300, 300, 2_000)
    write_table(tmp_path / "a.csv", pd.DataFrame({"x": values, "inf": np.inf}))
    found = read_table(tmp_path / "a.csv")
    assert (found.x.to_numpy() == values).all()
    assert (found.inf == np.inf).all()


def test_other_programs_read_it(tmp_path):
    write_table(tmp_path / "a.csv", TABLE)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == TABLE["label"].tolist()
    assert [float(row["share"] or "nan") for row in rows][3] == 0.1 + 0.2
    # Quotes change nothing for pandas, which still takes "5.10" for a number unless told.
    told = pd.read_csv(tmp_path / "a.csv", dtype={"head": str})
    assert told["head"].tolist() == TABLE["head"].tolist()


def test_tables_of_other_programs_are_read(tmp_path):
    path = tmp_path / "a.csv"
    table = pd.DataFrame({"x": [1, 2], "y": [0.5, math.nan], "z": ["a b", 'c,"d"']})
    table.to_csv(path, index=False, lineterminator="\r\n")
    pd.testing.assert_frame_equal(read_table(path), table, check_dtype=False)


def test_an_index_with_names_or_words_is_not_lost(tmp_path):
    table = pd.DataFrame({"group": ["x", "x", "y"], "v": [1, 2, 3]})
    write_table(tmp_path / "means.csv", table.groupby("group").mean())
    write_table(tmp_path / "words.csv", pd.DataFrame({"v": [1, 2]}, index=["p", "q"]))
    write_table(tmp_path / "rows.csv", table[table.v > 1])
    means = read_table(tmp_path / "means.csv")
    assert means.to_dict("list") == {"group": ["x", "y"], "v": [1.5, 3.0]}
    assert list(read_table(tmp_path / "words.csv").iloc[:, 0]) == ["p", "q"]
    assert list(read_table(tmp_path / "rows.csv").columns) == ["group", "v"]


def test_sites_are_written_by_name_and_no_rows_are_no_rows(tmp_path):
    write_table(tmp_path / "a.csv", pd.DataFrame({"site": [Site("head", 5, 10)]}))
    assert read_table(tmp_path / "a.csv")["site"].tolist() == ["5.10"]
    write_table(tmp_path / "b.csv", TABLE[:0])
    assert list(read_table(tmp_path / "b.csv").columns) == list(TABLE.columns)
    assert len(read_table(tmp_path / "b.csv")) == 0


def test_columns_of_one_name_are_kept_apart(tmp_path):
    write_table(tmp_path / "a.csv", pd.DataFrame([[1, 2]], columns=["x", "x"]))
    assert read_table(tmp_path / "a.csv").to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[:-4], lambda b: b[:25], lambda b: b"",
     lambda b: b"\xff\n", lambda b: b + b"1,2\n"],
)
def test_a_damaged_table_is_named(tmp_path, damage):
    path = tmp_path / "kept.csv"
    with pytest.raises(InputError, match=r"kept\.csv is missing; run the study again"):
        read_table(path)
    write_table(path, TABLE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"kept\.csv is damaged \(.+\); delete this file"):
        read_table(path)
