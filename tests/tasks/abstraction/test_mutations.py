"""Each mutation changes what it names, leaves the rest alone, and keeps the task a function."""

from collections import Counter
from dataclasses import replace

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_abstraction
from mechprobe.tasks.abstraction import MUTATIONS
from mechprobe.tasks.abstraction.derivation import ROLES, clauses_of
from mechprobe.tasks.abstraction.grammar import function_words
from mechprobe.tasks.abstraction.mutations import mutated_forms
from mechprobe.tasks.abstraction.parse import SentenceReader

SUBJECT = "The dog on a mat in the room said that a cat saw the cup on the shelf ."
SENTENCES = {
    "postpositions": "The dog a mat the room in on said that a cat saw the cup the shelf on .",
    "permuted_words": "Was dog on the mat in was room said a the cat saw was cup on was shelf .",
    "verb_final": "The dog on a mat in the room said that a cat the cup on the shelf saw .",
    "complement_first": "That a cat saw the cup on the shelf the dog on a mat in the room said .",
    "subject_modifier_last": (
        "The dog said , on a mat in the room that a cat saw the cup on the shelf ."
    ),
}
OUTER = "SAY ( ON ( DOG , IN ( MAT , ROOM ) ) , NONE , NONE )"
INNER = "SEE ( CAT , ON ( CUP , SHELF ) , NONE )"
TARGETS = {
    "arguments_reversed": (
        "SAY ( NONE , NONE , ON ( DOG , IN ( MAT , ROOM ) ) ) CCOMP "
        "SEE ( NONE , ON ( CUP , SHELF ) , CAT )"
    ),
    "none_dropped": (
        "SAY ( ON ( DOG , IN ( MAT , ROOM ) ) ) CCOMP SEE ( CAT , ON ( CUP , SHELF ) )"
    ),
    "modifier_swapped": (
        "SAY ( ON ( IN ( ROOM , MAT ) , DOG ) , NONE , NONE ) CCOMP "
        "SEE ( CAT , ON ( SHELF , CUP ) , NONE )"
    ),
    "nested_complements": OUTER.removesuffix(")") + f"CCOMP {INNER} )",
    "chain_reversed": f"{INNER} CCOMP {OUTER}",
}
READ_AS = {
    "arguments_reversed": {"roles": ROLES[::-1]},
    "modifier_swapped": {"swapped": True},
    "nested_complements": {"nested": True},
    "chain_reversed": {"inner_first": True},
}


@pytest.fixture(scope="module")
def mutate(mini_language):
    """``mutate(name)``: the language under a mutation."""
    language, _ = mini_language
    words = function_words(language.frames)

    def make(name):
        source, target = mutated_forms(name, words)
        return replace(language, source_form=source, target_form=target)

    return make


def test_sides_and_levels_are_all_there():
    kinds = Counter((m.side, m.level) for m in MUTATIONS.values())
    assert set(kinds) == {(s, lv) for s in ("source", "target") for lv in ("low", "high")}
    assert set(SENTENCES) == {n for n, m in MUTATIONS.items() if m.side == "source"}
    assert set(TARGETS) == {n for n, m in MUTATIONS.items() if m.side == "target"}


@pytest.mark.parametrize("name", MUTATIONS)
def test_one_sentence_by_hand(mutate, mini_language, name):
    language, _ = mini_language
    reader = SentenceReader(language.frames, language.lexicon, language.spelling)
    (tree,) = reader.read(tuple(f"Form one: {SUBJECT}".split()))
    source = ("Form", "one:", *SENTENCES.get(name, SUBJECT).split())
    assert mutate(name).source(tree) == source
    assert " ".join(mutate(name).target(tree)) == TARGETS.get(name, f"{OUTER} CCOMP {INNER}")


@pytest.mark.parametrize("name", SENTENCES)
def test_a_source_mutation_moves_words_and_leaves_the_target(mutate, mini_language, name):
    language, trees = mini_language
    changed = 0
    for tree in trees:
        before, after = language.source(tree), mutate(name).source(tree)
        assert mutate(name).target(tree) == language.target(tree)
        changed += before != after
        if name == "permuted_words":
            assert _pattern(before[2:]) == _pattern(after[2:])
            continue
        words = Counter(w.lower() for w in after)
        words.subtract(w.lower() for w in before)
        assert set(+words) <= {","}
        assert not -words
        assert (before == after) != _concerned(name, tree, language.frames), before
    assert changed > 100


def _pattern(tokens):
    """Which tokens are equal to which, whatever they are."""
    seen = {}
    return [seen.setdefault(token.lower(), len(seen)) for token in tokens]


def _concerned(name, tree, frames):
    """Whether a sentence has what the mutation is about."""
    clauses = list(clauses_of(tree))
    roles = [(c, role) for c in clauses for role in ROLES if c.role(role) is not None]
    if name == "postpositions":
        return any(c.role(role).inner is not None for c, role in roles)
    if name == "subject_modifier_last":
        return any(
            role == frames[c.frame].subject and c.role(role).inner is not None for c, role in roles
        )
    if name == "complement_first":
        return tree.complement is not None
    after_verb = [frames[c.frame].source for c in clauses]
    return any(
        any(part in ROLES or part == "by" for part in source[_verb(source) + 1 :])
        for source in after_verb
    )


def _verb(source):
    return next(i for i, part in enumerate(source) if part.startswith("verb."))


@pytest.mark.parametrize("name", SENTENCES)
def test_a_mutated_sentence_still_has_one_meaning(mutate, mini_language, name):
    _, trees = mini_language
    meanings = {}
    for tree in trees:
        source, target = mutate(name).source(tree), mutate(name).target(tree)
        assert meanings.setdefault(source, target) == target


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_mutation_keeps_source_and_meaning(mutate, mini_language, read_back, name):
    language, trees = mini_language
    changed = 0
    for tree in trees:
        before, after = language.target(tree), mutate(name).target(tree)
        assert mutate(name).source(tree) == language.source(tree)
        changed += before != after
        if name == "none_dropped":
            assert "NONE" not in after
            content = [t for t in before if t not in ("NONE", ",")]
            assert [t for t in after if t != ","] == content
            continue
        assert Counter(before) == Counter(after)
        meaning = read_back.read_target(after, **READ_AS[name])
        assert meaning == read_back.meaning_of(tree)
    assert changed > 100


def test_a_mutation_changes_the_auxiliary_task_alone(small):
    plain, mutated = small("mod"), small("mod", mutation="chain_reversed")
    assert plain.target == mutated.target
    assert plain.contrast == mutated.contrast
    for split, pairs in plain.auxiliary.items():
        assert mutated.auxiliary[split].source == pairs.source
        assert mutated.auxiliary[split].group == pairs.group
    assert plain.auxiliary["train"].target != mutated.auxiliary["train"].target


def test_an_unknown_mutation_is_refused():
    with pytest.raises(InputError, match="no mutation 'upside_down'; expected one of postpos"):
        load_abstraction(mutation="upside_down")
