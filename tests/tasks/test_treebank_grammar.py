"""Generated trees are trees of the grammar, in the proportions of its weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.treebank import tree_depths, tree_distances
from mechprobe.tasks.treebank_grammar import generate_treebank, parse_grammar, read_grammar


def toy(**changes: Any) -> dict[str, Any]:
    card: dict[str, Any] = {
        "start": "S",
        "settings": {"min_words": 2, "max_words": 6, "min_depth": 1, "max_depth": 4},
        "features": {"n": ["sg", "pl"], "m": ["sg", "pl"]},
        "rules": {"S": ["1 N.n:nsubj V.n*", "3 N.n:nsubj V.n* N.m:obj"]},
        "words": {
            "N.sg": {"upos": "NOUN", "list": ["cat"]},
            "N.pl": {"upos": "NOUN", "list": ["cats"]},
            "V.sg": {"upos": "VERB", "list": ["sees"]},
            "V.pl": {"upos": "VERB", "list": ["see"]},
        },
    }
    return card | changes


def test_a_toy_grammar_gives_exactly_its_sentences():
    sentences = generate_treebank(6, grammar=parse_grammar(toy(), "toy"))
    assert {" ".join(s.words) for s in sentences} == {
        "cat sees", "cats see", "cat sees cat", "cat sees cats", "cats see cat", "cats see cats",
    }  # fmt: skip
    for s in sentences:
        assert s.heads == (1, -1, 1)[: len(s)]
        assert s.deprel == ("nsubj", "root", "obj")[: len(s)]
        assert s.upos == ("NOUN", "VERB", "NOUN")[: len(s)]
    with pytest.raises(InputError, match="gave 6 different sentences and in 1000 more draws"):
        generate_treebank(7, grammar=parse_grammar(toy(), "toy"))


def test_rules_are_drawn_by_weight():
    words = {"W": {"upos": "X", "list": [f"w{i}" for i in range(3000)]}}
    rules = {"S": ["1 W:dep W*", "3 W:dep W* W:dep"]}
    grammar = parse_grammar(toy(words=words, rules=rules), "weighted")
    lengths = Counter(len(s) for s in generate_treebank(4000, grammar=grammar, seed=3))
    assert lengths[3] / 4000 == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 4000))


def test_english_sentences_are_trees_within_the_limits_and_reach_every_depth():
    grammar = read_grammar("english")
    sentences = generate_treebank(2000, seed=1)
    depths = Counter(int(tree_depths(s.heads).max()) for s in sentences)
    assert set(depths) == set(range(grammar.min_depth, grammar.max_depth + 1)) == set(range(2, 9))
    assert min(depths.values()) >= 2
    assert len({s.words for s in sentences}) == 2000
    for s in sentences[:300]:
        assert grammar.min_words <= len(s) <= grammar.max_words
        assert s.heads.count(-1) == s.deprel.count("root") == 1
        assert (tree_distances(s.heads) == 1).sum() == 2 * (len(s) - 1)
        assert s.upos[s.root] == "VERB"


def test_english_trees_are_projective_and_agree():
    plural = {"doctors", "they", "we", "farmers", "students", "pilots", "cousins", "judges"}
    singular = {"doctor", "he", "she", "farmer", "student", "pilot", "cousin", "judge"}
    seen: Counter[bool] = Counter()
    for s in generate_treebank(500, seed=2):
        for i, head in enumerate(s.heads):
            low, high = sorted((i, head))
            for between in range(low + 1, high) if head >= 0 else ():
                assert low <= s.heads[between] <= high
            if s.deprel[i] == "nsubj" and s.words[i] in plural | singular:
                verb = s.words[head]
                assert verb.endswith("s") == (s.words[i] in singular), " ".join(s.words)
                seen[verb.endswith("s")] += 1
    assert min(seen[True], seen[False]) > 50


def test_the_seed_decides_and_more_begins_with_fewer():
    ten = generate_treebank(10, seed=4)
    assert generate_treebank(10, seed=4) == ten
    assert generate_treebank(30, seed=4)[:10] == ten
    assert generate_treebank(10, seed=5) != ten


def rules(*lines: str) -> dict[str, Any]:
    return {"rules": {"S": list(lines)}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (rules("x N.n:nsubj V.n*"), "rule S = 'x N.n:nsubj V.n\\*'; expected 'WEIGHT PART"),
        (rules("0 V.n*"), "expected 'WEIGHT PART"),
        (rules("1"), "expected 'WEIGHT PART"),
        (rules("1 V.n"), "expected 'WEIGHT PART"),
        (rules("1 V.n:dep N.n:dep"), "mark exactly one part as the head"),
        (rules("1 V.n* N.n*"), "mark exactly one part as the head"),
        (rules("1 VERB*"), "VERB has neither rules nor words"),
        ({"start": "T"}, "T has neither rules nor words"),
        ({"settings": {"min_words": 1}}, "settings. are min_words, max_words"),
        ({"words": {"S": {"upos": "X", "list": ["w"]}}}, "S has both rules and words"),
        ({"words": {"W": {"upos": "X", "list": ["two words"]}}}, "W needs upos and words without"),
        ({"words": {"W": {"upos": "X", "list": []}}}, "W needs upos and words without"),
    ],
)
def test_a_grammar_that_cannot_work_is_refused(changes, said):
    with pytest.raises(InputError, match=f"grammar bad: .*{said}"):
        parse_grammar(toy(**changes), "bad")


def test_endless_rules_end(tmp_path):
    endless = parse_grammar(toy(**rules("1 S*")), "endless")
    with pytest.raises(InputError, match="endless gave 0 different sentences"):
        generate_treebank(1, grammar=endless)
    with pytest.raises(InputError, match=r"no grammar 'klingon'.*english"):
        read_grammar("klingon")
    (tmp_path / "bad.toml").write_text("start = ")
    with pytest.raises(InputError, match="is not valid TOML"):
        read_grammar(tmp_path / "bad.toml")
    with pytest.raises(InputError, match="lacks start"):
        parse_grammar({"settings": {}, "rules": {}, "words": {}}, "bare")
    with pytest.raises(InputError, match="0 sentences asked for"):
        generate_treebank(0)
