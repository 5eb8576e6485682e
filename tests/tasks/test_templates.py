import random
from collections import Counter

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.templates import (
    expand,
    expand_group,
    overlaps,
    read_groups,
    read_words,
    words_of,
)


def card(**changes) -> dict:
    made = {
        "name": "toy",
        "labels": ["yes", "no"],
        "content": ["noun", "verb"],
        "words": {
            "noun": {
                "forms": ["word", "was", "synonym"],
                "list": ["cat/was/feline", "feline/was/cat", "dog/was", "birds/were"],
            },
            "verb": {"list": ["saw", "fed", "heard"]},
        },
        "group": [
            {
                "name": "swap",
                "label": "no",
                "ood": True,
                "pairs": [["the {noun1} {verb1} the {noun2}", "the {noun2} {verb1} the {noun1}"]],
            }
        ],
    }
    return made | changes


def group_of(premise: str, hypothesis: str):
    group = {"name": "g", "label": "yes", "pairs": [[premise, hypothesis]]}
    return read_groups(card(group=[group]))[0]


def pairs_of(premise: str, hypothesis: str, n: int = 200, n_new: int = 0) -> list[tuple[str, str]]:
    template, rng = group_of(premise, hypothesis).templates[0], random.Random(0)
    made = [expand(template, rng, n_new) for _ in range(n)]
    return [pair for pair in made if pair is not None]


def test_the_same_slot_is_the_same_word_and_forms_agree():
    for premise, hypothesis in pairs_of("{noun1} {noun1.was} {verb1}", "{verb1} {noun1}"):
        noun, was, verb = premise.split()
        assert hypothesis == f"{verb} {noun}"
        assert was == ("were" if noun == "birds" else "was")


def test_different_slots_are_neither_the_same_word_nor_synonyms():
    seen = set()
    for premise, _ in pairs_of("{noun1} {noun2}", "{noun1}"):
        assert set(premise.split()) not in ({"cat", "feline"}, {"cat"}, {"dog"}, {"birds"})
        seen.add(premise)
    assert len(seen) == 4 * 3 - 2


def test_a_form_that_a_word_lacks_keeps_the_word_away():
    found = set(pairs_of("{noun1}", "{noun1.synonym}"))
    assert found == {("cat", "feline"), ("feline", "cat")}


@pytest.mark.parametrize("n_new", [1, 2, 3])
def test_new_words_are_new_and_as_many_as_asked_for(n_new):
    for premise, hypothesis in pairs_of("{noun1} {verb1}", "{noun1} {verb1}", n_new=n_new):
        new = set(hypothesis.split()) - set(premise.split())
        assert len(new) == min(n_new, 2)
        assert {*premise.split()[:1], *hypothesis.split()[:1]} != {"cat", "feline"}


def test_each_template_gets_its_share_and_no_pair_comes_twice():
    group = {"name": "g", "label": "yes", "pairs": [["a {noun1}", "x"], ["b {verb1}", "x"]]}
    seen = {("a cat", "x")}
    pairs = expand_group(read_groups(card(group=[group]))[0], 5, random.Random(0), seen)
    assert Counter(p.split()[0] for p, _ in pairs) == {"a": 3, "b": 2}
    assert len(set(pairs)) == 5
    assert ("a cat", "x") not in pairs
    assert set(pairs) < seen


def test_a_used_up_group_says_so():
    group = read_groups(card())[0]
    with pytest.raises(InputError, match=r"group 'swap' has no 999 different pairs left"):
        expand_group(group, 999, random.Random(0), set())


def test_overlap_is_about_words_not_their_order_case_or_marks():
    assert overlaps("The doctor , who slept , ran .", "the doctor ran.")
    assert not overlaps("the doctor ran", "the doctors ran")
    assert words_of("It's A half-open, door!") == ["it's", "a", "half-open", "door"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"noun": {"list": ["a/b"]}}}, r"word 'a/b' of list 'noun' has 2 forms"),
        ({"words": {"noun": {"list": []}}}, r"\[words\.noun\] has no list"),
        ({"labels": ["si", "no "]}, r"group 'swap' has label 'no'; expected one of si, no "),
        ({"group": [{"name": "g"}]}, r"group 'g' needs a name and pairs|group 'g' has label None"),
        (
            {"group": [{"name": "g", "label": "no", "pairs": [["{noon1}", "x"]]}]},
            r"group 'g' uses the word list 'noon'; the card has noun, verb",
        ),
        (
            {"group": [{"name": "g", "label": "no", "pairs": [["{verb1.past}", "x"]]}]},
            r"no word of list 'verb' has the forms past, word",
        ),
        ({"group": [{"name": "g", "label": "no", "pairs": [["only one"]]}]}, "needs a name and"),
    ],
)
def test_a_card_that_cannot_work_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as refused:
        read_groups(card(**changes))
    assert "\n" not in str(refused.value)


def test_words_are_read_with_their_forms():
    assert read_words(card())["noun"][2] == {"word": "dog", "was": "was"}
