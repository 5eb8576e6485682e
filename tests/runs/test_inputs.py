"""What a run reads is noted once, and every difference of a later reading is shown."""

from __future__ import annotations

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.runs.inputs import card_inputs, digest_of, digest_of_file, refuse_other_inputs


def test_a_digest_counts_rows_and_sees_values_order_and_columns():
    rows = digest_of(["a", "b"], [0, 1])
    assert rows.startswith("2 rows, sha256 ")
    assert rows == digest_of(("a", "b"), (0, 1))
    others = [digest_of(["a", "b"], [0, 2]), digest_of(["b", "a"], [0, 1]), digest_of(["a", "b"]),
              digest_of(["a", "b", 0, 1]), digest_of(["ab", ""], [0, 1])]
    assert len({rows, *others}) == 6


def test_a_files_digest_sees_one_byte(tmp_path):
    (tmp_path / "text").write_bytes(b"abc")
    before = digest_of_file(tmp_path / "text")
    assert before.startswith("3 bytes, sha256 ba7816bf8f01cfea")  # FIPS 180-2, appendix B.1
    (tmp_path / "text").write_bytes(b"abd")
    assert digest_of_file(tmp_path / "text") != before


def test_a_card_is_told_value_by_value():
    card = {"kind": "x", "words": {"noun": {"list": ["cat"]}, "verb": ["run"]}}
    assert card_inputs(card) == {
        "card kind": "x", "card words.noun.list": ["cat"], "card words.verb": ["run"]
    }


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("3 rows", "4 rows", "x: '3 rows' -> '4 rows'"),
        (["a", "b"], ["b", "c"], "x: without 'a', with 'c'"),
        (["a", "b"], ["b", "a"], "x: the same values in another order or number"),
        ([], list("abcde"), "x: with 'a', 'b', 'c' and 2 more"),
        (1, None, "x: 1 -> None"),
        ("a" * 100, "b", f"x: '{'a' * 55} ... -> 'b'"),
    ],
)
def test_what_changed_is_shown(tmp_path, before, after, said):
    with Run.open(tmp_path, {"study": "s"}) as run:
        refuse_other_inputs(run, {"x": before, "y": (1, 2)})
    with Run.open(tmp_path, {"study": "s"}) as run:
        refuse_other_inputs(run, {"x": before, "y": (1, 2)})
        with pytest.raises(InputError) as found:
            refuse_other_inputs(run, {"x": after, "y": (1, 2)})
    assert f"({said}); put them back" in str(found.value)


def test_a_value_that_came_or_went_is_shown_and_many_are_counted(tmp_path):
    with Run.open(tmp_path, {"study": "s"}) as run:
        refuse_other_inputs(run, {"x": 1})
        with pytest.raises(InputError, match=r"x: 1 -> '\(absent\)'; y: '\(absent\)' -> 1\)"):
            refuse_other_inputs(run, {"y": 1})
        with pytest.raises(InputError, match=r"c: '\(absent\)' -> 1; and 2 more\)"):
            refuse_other_inputs(run, {"x": 1, **dict.fromkeys("abcde", 1)})
