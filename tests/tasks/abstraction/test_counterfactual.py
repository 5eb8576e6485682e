"""Counterfactual sources: two nouns exchanged, everything else in place."""

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import SequencePairs
from mechprobe.tasks.abstraction.counterfactual import (
    swapped_nouns,
    target_nouns,
    with_two_nouns,
)


def pairs(*rows):
    sources, targets = zip(*rows, strict=True)
    return SequencePairs(
        tuple(tuple(s.split()) for s in sources), tuple(tuple(t.split()) for t in targets),
        ("",) * len(rows), "toy",
    )


def test_the_first_two_different_nouns_trade_places():
    found = swapped_nouns(pairs(
        ("The dog on a table ran .", "RUN ( ON ( DOG , TABLE ) , NONE , NONE )"),
        ("A dog beside a dog saw Emma .", "SEE ( BESIDE ( DOG , DOG ) , EMMA , NONE )"),
    ))
    assert found.source[0] == ("The", "table", "on", "a", "dog", "ran", ".")
    assert found.source[1] == ("A", "Emma", "beside", "a", "dog", "saw", "dog", ".")
    assert found.target[0][:5] == ("RUN", "(", "ON", "(", "DOG")


def test_nouns_of_a_target_take_no_brackets():
    target = ("RUN", "(", "ON", "(", "DOG", ",", "TABLE", ")", ",", "NONE", ",", "NONE", ")")
    assert target_nouns(target) == ["DOG", "TABLE"]


@pytest.mark.parametrize("probe", ["mod", "com"])
def test_it_works_on_every_generalisation_item(small, probe):
    ood = small(probe).target["ood"]
    found = swapped_nouns(ood)
    for before, after in zip(ood.source, found.source, strict=True):
        changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(changed) == 2
        assert sorted(before) == sorted(after)
        i, j = changed
        assert (before[i], before[j]) == (after[j], after[i])
        assert before[i - 1].lower() in ("a", "the", "one:", "that", "to", "by") or before[
            i
        ][0].isupper()
    assert found.target == ood.target


def test_one_noun_alone_is_refused():
    with pytest.raises(InputError, match=r"'A dog ran \.' has no two different nouns"):
        swapped_nouns(pairs(("A dog ran .", "RUN ( DOG , NONE , NONE )")))


def test_pairs_that_cannot_be_swapped_can_be_left_out():
    both = pairs(
        ("A dog beside a dog ran .", "RUN ( BESIDE ( DOG , DOG ) , NONE , NONE )"),
        ("The dog on a table ran .", "RUN ( ON ( DOG , TABLE ) , NONE , NONE )"),
        ("A dog ran .", "RUN ( DOG , NONE , NONE )"),
    )
    left = with_two_nouns(both)
    assert left.source == both.source[1:2]
    assert len(swapped_nouns(left)) == 1
    assert not len(with_two_nouns(both.take([2])))
