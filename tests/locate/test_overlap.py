"""Overlap of circuits against every pair of random sets there is."""

from itertools import combinations

import pytest

from mechprobe.errors import InputError
from mechprobe.locate.overlap import overlaps
from mechprobe.sites import SiteGrid

HEADS = SiteGrid(2, 3, mlps=False).sites


def test_chance_overlap_is_that_of_all_pairs_of_sets():
    first, second = {"0.0", "0.1", "1.2"}, {"0.1", "1.2"}
    table = overlaps({"a": first, "b": second, "c": ["1.0"]}, HEADS)
    assert table[["first", "second"]].values.tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    row = table.iloc[0]
    assert (row["shared"], row["jaccard"]) == (2, 2 / 3)
    shared = [
        len(set(x) & set(y)) for x in combinations(HEADS, 3) for y in combinations(HEADS, 2)
    ]
    assert row["expected"] == pytest.approx(sum(shared) / len(shared))
    assert row["p"] == pytest.approx(sum(s >= 2 for s in shared) / len(shared))
    assert table.iloc[1]["p"] == pytest.approx(1.0)


def test_a_set_with_a_site_that_is_no_candidate_is_refused():
    with pytest.raises(InputError, match=r"'b' holds '2.0'"):
        overlaps({"a": ["0.0"], "b": ["2.0"]}, HEADS)
    assert overlaps({"a": ["0.0"]}, HEADS).empty
