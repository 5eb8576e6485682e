"""The auxiliary task: other words, the same structures, and what training lacks."""

from collections import Counter

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_abstraction
from mechprobe.tasks.abstraction.auxiliary import nonce_dictionary
from mechprobe.tasks.abstraction.grammar import function_words
from mechprobe.tasks.cards import read_card

KEPT = frozenset(["a", "the", "was", "to", "by", "that", ".", "A", "The", "Form", *"(),", "NONE"])
KEPT |= {"CCOMP", "XCOMP"}


def content(pairs):
    return (pairs.source_types() | pairs.target_types()) - KEPT


def shape(tokens):
    """A line with its words replaced by x; function words and brackets stay."""
    return tuple(t if t in KEPT or t.endswith(":") else "x" for t in tokens)


def test_translation_is_word_by_word_with_one_form_a_verb(small):
    tasks = small("mod")
    language = {"see": "see saw seen", "eat": "eat ate eaten", "run": "run ran", "cup": "cup"}
    words = tasks.dictionary
    back = {text: words[lemma] for lemma, texts in language.items() for text in texts.split()}
    target, auxiliary = tasks.target["train"], tasks.auxiliary["train"]
    translated = 0
    for i in range(len(target)):
        old, new = target.source[i][2:], auxiliary.source[i][2:]
        assert shape(target.target[i]) == shape(auxiliary.target[i])
        assert len(old) == len(new)
        for before, after in zip(old, new, strict=True):
            translated += before in back
            assert after.lower() == back.get(before, after.lower())
        expected = [t if t in KEPT else words[t.lower()].upper() for t in target.target[i]]
        assert list(auxiliary.target[i]) == expected
    assert translated > 50


def test_vocabularies_share_the_kept_tokens_alone(small):
    for probe in ("mod", "com"):
        first, other = small(probe), small(probe, lexicon_set=2)
        t = set().union(*map(content, first.target.values()))
        a = set().union(*map(content, first.auxiliary.values()))
        b = set().union(*map(content, other.auxiliary.values()))
        lower = [{w.lower() for w in words} for words in (t, a, b)]
        assert not lower[0] & lower[1]
        assert not lower[0] & lower[2]
        assert lower[1] & lower[2] == {"two:", "above", "near", "under"}
        assert KEPT - {"."} <= first.kept


def test_sets_differ_in_words_alone(small):
    first, other = small("mod"), small("mod", lexicon_set=2)
    assert first.target == other.target
    a, b = first.auxiliary["train"], other.auxiliary["train"]
    swap = {first.dictionary[w]: other.dictionary[w] for w in first.dictionary}
    for i in range(len(a)):
        lower = [token.lower() for token in a.source[i]]
        assert [swap.get(t, t) for t in lower] == [t.lower() for t in b.source[i]]


def test_a_dictionary_of_a_higher_set_does_not_change_the_lower_ones(mini_language):
    language, _ = mini_language
    card = read_card("abstraction/mini")
    reserved = list(function_words(language.frames))
    sets = [nonce_dictionary(language.lexicon, card["auxiliary"], reserved, k) for k in (1, 2, 3)]
    assert sets[0] == nonce_dictionary(language.lexicon, card["auxiliary"], reserved, 1)
    invented = [set(words.values()) - {"under", "above", "near"} for words in sets]
    for words in sets:
        assert len(set(words.values())) == len(words)
    assert not invented[0] & invented[1]
    assert not invented[1] & invented[2]
    english = {text for forms in language.lexicon.forms.values() for text in forms.values()}
    assert not set().union(*invented) & {*english, *language.lexicon.all_nouns(), *reserved}


@pytest.mark.parametrize("probe", ["mod", "com"])
def test_each_test_item_has_its_translation_and_redrawn_lines_of_its_shape(small, probe):
    tasks = small(probe)
    n, per_item = len(tasks.target["train"]), 4
    blocks = tasks.auxiliary["train"].take(np.arange(n, len(tasks.auxiliary["train"])))
    ood = tasks.target["ood"]
    assert len(blocks) == per_item * len(ood)
    assert blocks.group == tuple(g for g in ood.group for _ in range(per_item))
    redrawn = 0
    for i in range(len(ood)):
        expected = [
            token if token in KEPT else tasks.dictionary[token.lower()].upper()
            for token in ood.target[i]
        ]
        assert list(blocks.target[per_item * i]) == expected
        for k in range(per_item):
            line = blocks.target[per_item * i + k]
            assert shape(line) == shape(ood.target[i])
            assert _prepositions(line) == _prepositions(expected)
            redrawn += line != tuple(expected)
    assert redrawn == len(ood) * (per_item - 1)


def _prepositions(tokens):
    return [t for t in tokens if t in ("UNDER", "ABOVE", "NEAR")]


def test_redrawn_words_are_uniform(small):
    tasks = small("com", per_item=41)
    blocks = tasks.auxiliary["train"].target[len(tasks.target["train"]) :]
    drawn = Counter(
        line[0] for i, line in enumerate(blocks) if i % 41
    )  # the main verb: one draw a line
    card = read_card("abstraction/mini")
    verbs = {v.split("/")[0] for words in card["verbs"].values() for v in words}
    expected = {tasks.dictionary[v].upper() for v in verbs}
    assert set(drawn) == expected
    mean = sum(drawn.values()) / len(expected)
    statistic = sum((n - mean) ** 2 / mean for n in drawn.values())
    degrees = len(expected) - 1
    assert statistic < degrees + 4 * (2 * degrees) ** 0.5


def test_verbs_may_be_redrawn_within_their_frame(small):
    card = read_card("abstraction/mini")
    tasks = small("com", redraw="frame")
    saying = {tasks.dictionary[v.split("/")[0]].upper() for v in card["verbs"]["saying"]}
    for split in ("train", "ood"):
        for line in tasks.auxiliary[split].target:
            starts = [0, *(i + 1 for i, token in enumerate(line) if token == "CCOMP")]
            assert {line[i] for i in starts[:-1]} <= saying
    with pytest.raises(InputError, match="redraw='all'; expected one of any, frame"):
        small("com", redraw="all")


def test_new_lines_of_the_auxiliary_task_are_new(small):
    tasks = small("mod")
    train, ood = tasks.auxiliary["train"], tasks.auxiliary["ood"]
    assert not set(train.source) & set(ood.source)
    assert set(ood.group) == {"subject"}
    assert [shape(t) for t in ood.target] == [shape(t) for t in tasks.target["ood"].target]


def test_too_few_syllables_or_a_taken_preposition_are_refused(tmp_path, repo):
    text = (repo / "tasks/abstraction/mini.toml").read_text(encoding="utf-8")
    few = text[: text.index("onsets = ")] + 'onsets = ["b"]\nvowels = ["a"]\ncodas = [""]\n'
    (tmp_path / "few.toml").write_text(few, encoding="utf-8")
    with pytest.raises(InputError, match=r"make only 3 different words, \d+ are needed"):
        load_abstraction(tmp_path / "few.toml")
    taken = text.replace('beside = "under"', 'beside = "cup"')
    (tmp_path / "taken.toml").write_text(taken, encoding="utf-8")
    with pytest.raises(InputError, match="gives 'beside' the word 'cup'; expected a word that"):
        load_abstraction(tmp_path / "taken.toml")
    twice = text.replace('beside = "under"', 'beside = "above"')
    (tmp_path / "twice.toml").write_text(twice, encoding="utf-8")
    with pytest.raises(InputError, match="gives 'on' the word 'above'; expected a word that"):
        load_abstraction(tmp_path / "twice.toml")


def test_no_word_is_invented_that_reads_as_an_empty_slot(tmp_path, repo):
    text = (repo / "tasks/abstraction/mini.toml").read_text(encoding="utf-8")
    few = 'onsets = ["n", "b"]\nvowels = ["o", "e"]\ncodas = ["", "s"]\n'
    path = tmp_path / "none.toml"
    path.write_text(text[: text.index("onsets = ")] + few, encoding="utf-8")
    sizes = {"n_train": 5, "n_words": 0, "n_dev": 0, "n_test": 0, "n_ood": 0}
    for lexicon_set in (1, 2):  # most of the words of two syllables, of which none is one
        tasks = load_abstraction(path, lexicon_set=lexicon_set, **sizes)
        assert "none" not in tasks.dictionary.values()
        assert any(len(word) == 4 for word in tasks.dictionary.values())
