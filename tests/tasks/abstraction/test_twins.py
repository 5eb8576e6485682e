"""Twins are those of the dictionary, inflected forms among them, and classed by their use."""

from __future__ import annotations

from typing import Any

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction import load_abstraction
from mechprobe.tasks.abstraction.twins import twin_classes, twin_words

SIZES: dict[str, Any] = {"n_train": 400, "n_test": 20, "n_dev": 20, "n_ood": 20, "n_words": 48}


@pytest.fixture(scope="module")
def tasks():
    return load_abstraction("abstraction/mini", **SIZES)


def test_every_word_of_the_dictionary_has_its_twin(tasks):
    twins = twin_words(tasks)
    known = {word: twin for word, twin in tasks.dictionary.items() if word in twins}
    assert len(known) > 0.9 * len(tasks.dictionary)
    assert all(twins[word] == twin.lower() for word, twin in known.items())
    assert twins["helped"] == twins["help"] == tasks.dictionary["help"]
    assert twins["given"] == twins["gave"] == tasks.dictionary["give"]
    assert not set(twins) & {token.lower() for token in tasks.kept}


def test_a_sentence_of_the_test_is_its_auxiliary_line_by_twins(tasks):
    twins = twin_words(tasks)
    first = len(tasks.target["train"])  # then ten lines an item, the first its translation
    for i in range(len(tasks.target["ood"])):
        said = [twins.get(t.lower(), t.lower()) for t in tasks.target["ood"].source[i]]
        line = tasks.auxiliary["train"].source[first + 10 * i]
        assert said == [token.lower() for token in line]


def test_classes_are_the_grammar_s(tasks):
    classes = twin_classes(tasks)
    for word, kind in {
        "one:": "prefix", "girl": "noun", "ann": "noun", "cup": "noun", "shelf": "noun",
        "on": "preposition", "beside": "preposition", "help": "verb", "helped": "verb",
        "gave": "verb", "wanted": "verb",
    }.items():
        assert classes[word] == kind, word
    assert set(classes) <= set(twin_words(tasks))


@pytest.mark.parametrize("mutation", ["postpositions", "none_dropped"])
def test_a_changed_concept_has_no_twins(mutation):
    with pytest.raises(InputError, match="give tasks without a mutation"):
        twin_words(load_abstraction("abstraction/mini", mutation=mutation, **SIZES))
