import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.minimal_pairs import (
    MinimalPairs,
    Paradigm,
    hypothesis_space,
    word_overlap,
)


def paradigm(name="p", n=20, phenomenon="island_effects", field="syntax") -> Paradigm:
    return Paradigm(
        name, phenomenon, field, tuple(f"good {name} {i}." for i in range(n)),
        tuple(f"bad {name} {i}." for i in range(n)), tuple(f"f line {i + 1}" for i in range(n)),
    )


def test_parts_share_no_pair_and_take_their_shares():
    pairs = MinimalPairs("toy", (paradigm(n=1000), paradigm("q", 40)))
    parts = {name: pairs.part(name) for name in ("reserve", "tune", "validate", "evaluate")}
    assert [len(part["p"]) for part in parts.values()] == [600, 250, 50, 100]
    assert parts["tune"]["p"].good[0] == "good p 600."
    assert parts["evaluate"]["p"].good[-1] == "good p 999."
    for name in ("p", "q"):
        sentences = [s for part in parts.values() for s in part[name].good]
        assert len(sentences) == len(set(sentences)) == len(pairs[name])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": (0.0, 0.5), "b": (0.4, 1.0)}, "parts 'a' and 'b' share pairs"),
        ({"a": (0.5, 0.5)}, "part 'a' goes from 0.5 to 0.5"),
        ({"a": (0.0, 1.5)}, "part 'a' goes from 0 to 1.5"),
        ({"a": (0.0, 0.01)}, "part 'a' of paradigm p is empty"),
        ({"b": (0.0, 1.0)}, "no part 'a' of minimal pairs; one of b"),
    ],
)
def test_parts_that_cannot_be_are_refused(shares, message):
    with pytest.raises(InputError, match=message):
        MinimalPairs("toy", (paradigm(),)).part("a", shares)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("A b.", "A  b.", "f line 3: both sentences are 'A b.'"),
        (" ", "A b.", "f line 3: the acceptable sentence is empty"),
        ("A b.", "", "f line 3: the unacceptable sentence is empty"),
    ],
)
def test_a_pair_that_decides_nothing_is_refused_with_its_place(good, bad, message):
    with pytest.raises(InputError, match=message):
        Paradigm("p", "x", "syntax", (good,), (bad,), ("f line 3",))


def test_a_paradigm_twice_and_an_unknown_one_are_named():
    with pytest.raises(InputError, match="paradigm 'p' is there twice"):
        MinimalPairs("toy", (paradigm(), paradigm()))
    with pytest.raises(InputError, match="no paradigm 'qq'; nearest: q"):
        _ = MinimalPairs("toy", (paradigm(), paradigm("q")))["qq"]


def test_swapping_flips_about_half_of_the_pairs_and_keeps_the_sentences():
    pairs = MinimalPairs("toy", (paradigm(n=400),))
    swapped = pairs.swapped(3)["p"]
    flipped = sum(a != b for a, b in zip(pairs["p"].good, swapped.good, strict=True))
    assert 160 < flipped < 240
    for a, b, c, d in zip(pairs["p"].good, pairs["p"].bad, swapped.good, swapped.bad, strict=True):
        assert {a, b} == {c, d}
    assert pairs.swapped(3)["p"].good == swapped.good != pairs.swapped(4)["p"].good


def test_vocabulary_overlap_is_the_jaccard_similarity_of_word_types():
    a = Paradigm("a", "x", "f", ("The cat sat.",), ("The cat sit.",), ("w",))
    b = Paradigm("b", "x", "f", ("the cat ran!",), ("A cat ran.",), ("w",))
    overlap = word_overlap(MinimalPairs("toy", (a, b)))
    assert overlap[0, 1] == overlap[1, 0] == pytest.approx(2 / 6)  # "the", "cat" of six
    assert np.diag(overlap).tolist() == [1, 1]


def test_the_hypothesis_space_ranks_paradigm_phenomenon_field():
    pairs = MinimalPairs("toy", (
        paradigm("a"), paradigm("b"), paradigm("c", phenomenon="npi", field="semantics"),
        paradigm("d", phenomenon="binding"),
    ))
    assert hypothesis_space(pairs)[0].tolist() == [3, 2, 0, 1]
