"""Contrast tasks: the auxiliary task's surface, another rule or none."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_abstraction
from mechprobe.tasks.abstraction import CONTRASTS
from mechprobe.tasks.abstraction.derivation import ROLES
from mechprobe.tasks.abstraction.lengths import matched_lines

STRUCTURE = frozenset([*"(),", "NONE", "CCOMP", "XCOMP", "UNDER", "ABOVE", "NEAR"])


def content(tokens):
    return [t for t in tokens if t not in STRUCTURE]


def skeleton(tokens):
    return tuple(t if t in STRUCTURE else "x" for t in tokens)


@pytest.mark.parametrize("probe", ["mod", "com"])
@pytest.mark.parametrize("kind", CONTRASTS[:3])
def test_inputs_lengths_and_words_are_the_auxiliary_tasks(small, probe, kind):
    tasks = small(probe, contrast=kind)
    assert tasks.auxiliary == small(probe).auxiliary
    changed = 0
    for split, pairs in tasks.auxiliary.items():
        other = tasks.contrast[split]
        assert (other.source, other.group) == (pairs.source, pairs.group)
        assert other.target_types() <= pairs.target_types()
        for before, after in zip(pairs.target, other.target, strict=True):
            assert len(before) == len(after)
            assert Counter(content(before)) == Counter(content(after))
            changed += before != after
    total = sum(map(len, tasks.auxiliary.values()))
    assert changed > 0.6 * total


def test_the_other_grammar_is_a_rule_on_the_same_meanings(small, read_back):
    tasks = small("com", contrast="other_grammar")
    for split, pairs in tasks.auxiliary.items():
        for before, after in zip(pairs.target, tasks.contrast[split].target, strict=True):
            if len(before) > 1:
                other = read_back.read_target(
                    after, roles=ROLES[::-1], swapped=True, inner_first=True
                )
                assert other == read_back.read_target(before)


def test_shuffled_words_keep_the_brackets_and_leave_no_line_in_order(small):
    tasks = small("mod", contrast="shuffle_content")
    before, after = tasks.auxiliary["train"].target, tasks.contrast["train"].target
    assert list(map(skeleton, before)) == list(map(skeleton, after))
    alike = [b for b, a in zip(before, after, strict=True) if a == b]
    assert all(len(set(content(b))) == 1 for b in alike)


def test_swapped_structures_keep_the_order_of_words_and_come_from_other_lines(small):
    tasks = small("mod", contrast="swap_structure")
    before, after = tasks.auxiliary["train"].target, tasks.contrast["train"].target
    shapes = set(map(skeleton, before))
    assert [content(b) for b in before] == [content(a) for a in after]
    assert set(map(skeleton, after)) <= shapes
    for b, a in zip(before, after, strict=True):
        alone = [
            s for s in shapes if len(s) == len(b) and s.count("x") == skeleton(b).count("x")
        ] == [skeleton(b)]
        assert (skeleton(a) == skeleton(b)) == alone


@pytest.mark.parametrize("probe", ["mod", "com"])
def test_without_generalisation_lines_are_as_long_but_ordinary(small, read_back, probe):
    tasks = small(probe, contrast="no_generalisation")
    n = len(tasks.target["train"])
    auxiliary, contrast = tasks.auxiliary["train"], tasks.contrast["train"]
    assert contrast.source[:n] == auxiliary.source[:n]
    assert contrast.target[:n] == auxiliary.target[:n]
    assert set(contrast.group[n:]) == {"matched"}
    assert [len(s) for s in contrast.source] == [len(s) for s in auxiliary.source]
    ordinary = {skeleton(t) for t in auxiliary.target[:n]}
    assert _lower(contrast.source_types()) <= _lower(auxiliary.source_types())
    assert contrast.target_types() <= auxiliary.target_types()
    gaps = []
    for i in range(n, len(contrast)):
        sentences = " ".join(contrast.source[i][2:]).split(" . ")
        targets = _split(contrast.target[i])
        assert len(targets) == len(sentences)
        assert {skeleton(t) for t in targets} <= ordinary
        gaps.append(abs(len(contrast.target[i]) - len(auxiliary.target[i])))
    assert sum(gaps) / len(gaps) < 1
    assert tasks.contrast["ood"] == _renamed(tasks.auxiliary["ood"], tasks.contrast["ood"].name)


def _lower(tokens):
    return {token.lower() for token in tokens}


def _split(tokens):
    """Targets written in a row: a new one begins where no link stands before a verb."""
    parts, depth, linked = [[]], 0, True
    for token in tokens:
        if depth == 0 and token not in ("CCOMP", "XCOMP", "("):
            if not linked:
                parts.append([])
            linked = False
        if token in ("CCOMP", "XCOMP"):
            linked = True
        depth += {"(": 1, ")": -1}.get(token, 0)
        parts[-1].append(token)
        if depth == 0 and token == ")":
            linked = False
    return parts


def _renamed(pairs, name):
    return replace(pairs, name=name)


def test_an_unknown_contrast_is_refused():
    with pytest.raises(InputError, match="no contrast task 'other'; expected one of other_gra"):
        load_abstraction(contrast="other")


@pytest.mark.parametrize("kind", CONTRASTS)
def test_held_out_lines_are_not_trained_on(small, kind):
    tasks = small("mod", contrast=kind)
    train = set(tasks.contrast["train"].source)
    for split in ("dev", "ood"):
        assert not train & set(tasks.contrast[split].source)


def test_a_line_that_is_taken_is_drawn_again(mini_language):
    language, trees = mini_language
    ready = [tree for tree in trees if tree.complement is None][:1]
    others = iter(itertools.cycle([ready[0], replace(ready[0], verb="roll")]))
    wanted = [(language.source(ready[0]), language.target(ready[0]))] * 6

    def lines(*taken):
        return matched_lines(
            wanted, ready, language, lambda tree: next(others), random.Random(0), taken
        )

    first, second = (language.source(next(others)) for _ in range(2))
    assert {source for source, _ in lines()} == {first, second}
    assert {source for source, _ in lines(first)} == {second}
    with pytest.raises(InputError, match=r"1 lines of lengths .* are all held out"):
        lines(first, second)
