import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import SequencePairs

PAIRS = SequencePairs(
    source=(("a", "b"), ("c",), ("a", "c", "d")),
    target=(("A",), ("B", "C"), ("A", "C")),
    group=("x", "y", "x"),
    name="toy",
)


def test_types_lengths_and_texts():
    assert len(PAIRS) == 3
    assert PAIRS.source_types() == {"a", "b", "c", "d"}
    assert PAIRS.target_types() == {"A", "B", "C"}
    assert PAIRS.longest() == (3, 2)
    assert PAIRS.source_text(2) == "a c d"
    assert PAIRS.target_text(1) == "B C"
    assert PAIRS.groups() == ["x", "y"]


def test_rows_by_number_mask_and_group():
    assert PAIRS.take([2, 0]).source == (("a", "c", "d"), ("a", "b"))
    assert PAIRS.take(np.array([True, False, True])) == PAIRS.where_group("x")
    assert PAIRS.where_group(["x", "y"]) == PAIRS
    assert len(PAIRS.take([])) == 0
    assert PAIRS.take([]).longest() == (0, 0)
    with pytest.raises(InputError, match="rows 0 to 3 asked for; it has 3"):
        PAIRS.take([0, 3])
    with pytest.raises(InputError, match="a mask of shape"):
        PAIRS.take(np.array([True]))
    with pytest.raises(InputError, match="no sub-case 'z'; here: x, y"):
        PAIRS.where_group("z")


def test_samples_are_nested_and_in_order():
    many = SequencePairs(tuple((str(i),) for i in range(50)), (("X",),) * 50, ("",) * 50, "many")
    small, large = many.sample(10, seed=1), many.sample(30, seed=1)
    assert set(small.source) < set(large.source)
    numbers = [int(source[0]) for source in large.source]
    assert numbers == sorted(set(numbers))
    assert many.sample(10, seed=2) != small
    assert many.sample(99) == many
    with pytest.raises(InputError, match="cannot sample -1 pairs"):
        many.sample(-1)


def test_concat_and_wrong_sizes():
    both = SequencePairs.concat([PAIRS, PAIRS.take([1])], name="both")
    assert len(both) == 4
    assert both.target[3] == ("B", "C")
    assert both.name == "both"
    with pytest.raises(InputError, match="give at least one set"):
        SequencePairs.concat([])
    with pytest.raises(InputError, match="source, target and group have 1, 0 and 1 rows"):
        SequencePairs((("a",),), (), ("",), "toy")
