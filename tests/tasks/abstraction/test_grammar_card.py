"""A grammar is data: edits take effect, and mistakes are named."""

import re

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_abstraction, load_task

SMALL = {"n_train": 400, "n_words": 5, "n_dev": 5, "n_test": 5, "n_ood": 5, "per_item": 2}


@pytest.fixture
def edited(tmp_path, repo):
    """``edited(old, new)``: the path of abstraction/mini with one place changed."""
    text = (repo / "tasks/abstraction/mini.toml").read_text(encoding="utf-8")

    def write(old, new):
        assert text.count(old) == 1, old
        path = tmp_path / "edited.toml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return write


def test_an_edited_grammar_is_used(edited):
    path = edited('source = "agent verb.past theme"', 'source = "agent has verb.participle theme"')
    tasks = load_abstraction(path, **SMALL)
    text = [tasks.target["train"].source_text(i) for i in range(405 - 5)]
    assert any(re.search(r" has (seen|found|eaten) (a|the) ", line) for line in text)
    assert not any(re.search(r" saw (a|the) ", line) for line in text)
    assert "has" in tasks.kept
    assert "has" in tasks.auxiliary["train"].source_types()


def test_words_are_written_as_in_the_card(edited):
    tasks = load_abstraction(edited('"drum"]', '"TV"]'), **SMALL)
    assert "TV" in tasks.target["train"].source_types()
    assert "TV" in tasks.target["train"].target_types()
    assert "tv" in tasks.dictionary


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_train = 2400", "n_train = = 2400", r"not valid TOML: .*\(at line 18, column 11\)"),
        ('"drum"]', '"drum", "see"]', "'see' is both noun and verb; a word has one reading"),
        ('"drum"]', '"drum", "by"]', "'by' is both function word and noun"),
        ('"drum"]', '"drum", "Tom"]', "'tom' is both name and noun"),
        ('"drum"]', '"drum", "big drum"]', r"\[nouns\] thing has 'big drum'; expected one word"),
        ('"drum"]', '"drum", 7]', "nouns.thing has 7; expected a list of texts"),
        ('beside = "beside"', 'beside = "near"', r"beside is followed by list 'near'; \[nouns\]"),
        (
            'omissible = ["eat", ',
            'omissible = ["sing", ',
            "verb 'sing' of class 'omissible' has no",
        ),
        ('"hand/handed"', '"hand/handed/a/b"', "verb 'hand/handed/a/b' of class 'dative'; exp"),
        ('"hand/handed"', '"hand/handed", "see/seed"', "verb 'see/seed' of class 'dative'; exp"),
        ('verbs = "unergative"', 'verbs = "odd"', "'unergative' takes verbs of class 'odd'; "),
        ('"verb.base"', '"verb.base verb.past"', "needs exactly one verb; write verb.base"),
        ('"verb.base"', '"verb.ing"', "needs exactly one verb; write verb.base"),
        ('"verb.base"', '"agent verb.base"', "must begin with .* unless infinitive = true"),
        ("infinitive = true", "infinitive = false", "none is one; add a frame|must begin with"),
        ('link = "CCOMP"', "", "complement 'clause' with link None; expected 'clause' or"),
        ('to clause"', 'to"', "expected 'clause' at its end exactly where the frame has a"),
        ('name = "passive_by"', 'name = "passive"', "has two frames 'passive'; rename one"),
        ("weight = 17", "weight = -1", "frame.weight is -1; expected a number, 0 or more"),
        ("weight = 17", "", "frame 'passive_by' lacks weight; add it"),
        ("person = 3, name = 2", "people = 3", r"\[phrases.agent\] has 'people'; expected weights"),
        ("recipient = { person = 2, name = 2 }", "", r"\[phrases.recipient\] is missing"),
        ("[nouns]", "[words]", "unknown key 'words' at the top; nearest: "),
        (
            "[auxiliary.syllables]",
            "[auxiliary.sounds]",
            r"unknown key 'sounds' in \[auxiliary\]; nearest: \w+; mend",
        ),
        ("n_dev = 300", "n_devs = 300", r"unknown key 'n_devs' in \[settings\]; nearest: n_dev;"),
    ],
)
def test_a_mistake_in_a_card_is_named_in_one_line(edited, old, new, message):
    with pytest.raises(InputError, match=message) as refused:
        load_abstraction(edited(old, new))
    assert "\n" not in str(refused.value)


def test_a_grammar_without_deep_clauses_is_told(edited):
    path = edited('link = "CCOMP"\nweight = 1', 'link = "CCOMP"\nweight = 0')
    with pytest.raises(InputError, match="no frame with a weight above 0 makes a clause with"):
        load_abstraction(path, **SMALL)


def test_load_task_names_the_other_function():
    with pytest.raises(InputError, match="holds a grammar, not labelled pairs; load it with"):
        load_task("abstraction/mini")
