"""Splits: what is in training, what is only in the test, and what is refused."""

from collections import Counter
from itertools import combinations

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import SequencePairs, load_abstraction
from mechprobe.tasks.abstraction.splits import check_leaks, check_vocabularies

SMALL = {"n_train": 300, "n_dev": 20, "n_test": 20, "n_ood": 20, "per_item": 2}


@pytest.mark.parametrize("probe", ["mod", "com"])
def test_no_sentence_occurs_twice_in_the_target_task(small, probe):
    splits = small(probe).target
    assert {name: len(pairs) for name, pairs in splits.items()} == {
        "train": 300,
        "dev": 40,
        "test": 40,
        "ood": 40,
    }
    for pairs in splits.values():
        assert len(set(pairs.source)) == len(pairs)
    for one, other in combinations(splits.values(), 2):
        assert not set(one.source) & set(other.source)


@pytest.mark.parametrize("probe", ["mod", "com"])
def test_held_out_sentences_use_words_of_the_training_sentences(small, probe):
    splits = small(probe).target
    for split in ("dev", "test", "ood"):
        assert splits[split].source_types() <= splits["train"].source_types()
        assert splits[split].target_types() <= splits["train"].target_types()


def test_modification_training_has_phrases_on_objects_and_the_test_on_subjects(small):
    splits = small("mod").target
    for split in ("train", "dev", "test"):
        assert set(splits[split].group) <= {"plain", "other", "word"}
        for source in splits[split].source:
            places = [i for i, t in enumerate(source) if t in ("on", "in", "beside")]
            if places:  # English has the subject before the first verb, whichever it is
                assert _behind_a_verb(source, places[0])
    assert splits["train"].group.count("word") == 20
    assert splits["train"].group.count("other") > 20
    for source in splits["ood"].source:
        assert source[4] in ("on", "in", "beside")
    assert set(splits["ood"].group) == {"subject"}


def _behind_a_verb(source, place):
    verbs = "saw seen found ate eaten drew drawn broke broken helped grew rolled gave given sent"
    verbs += " sold handed grow"
    return bool(set(source[:place]) & set(verbs.split()))


def test_composition_training_is_shallow_and_the_test_deep(small):
    splits = small("com").target
    for split, pairs in splits.items():
        depths = Counter(target.count("CCOMP") for target in pairs.target)
        if split == "ood":
            assert depths == {3: 14, 4: 13, 5: 13}
        else:
            assert set(depths) <= {0, 1, 2}
        for target, group in zip(pairs.target, pairs.group, strict=True):
            assert group in ("word", f"depth_{target.count('CCOMP')}")


def test_the_same_seed_gives_the_same_tasks_and_another_one_others():
    first, again, other = (
        load_abstraction("abstraction/mini", seed=seed, **SMALL) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.dictionary == other.dictionary
    for split in ("train", "dev", "test", "ood"):
        assert set(first.target[split].source) != set(other.target[split].source)
    assert first.card["settings"]["seed"] == 3
    assert first.card["settings"]["n_train"] == 300


def test_sentences_and_settings_follow_the_card():
    tasks = load_abstraction(
        "abstraction/mini",
        probe="com",
        prefix="say:",
        auxiliary_prefix="nonce:",
        capital=False,
        object_modifier=0,
        n_words=0,
        **SMALL,
    )
    assert all(source[0] == "say:" for source in tasks.target["train"].source)
    assert {source[1] for source in tasks.target["train"].source} >= {"a", "the", "Ann"}
    assert not {"on", "in", "beside", "touch"} & tasks.target["train"].source_types()
    assert set(tasks.target["train"].group) == {"depth_0", "depth_1", "depth_2"}
    assert "Form" not in tasks.kept
    assert set(tasks.all_pairs()[0].source) == set(tasks.target["train"].source)
    assert len(tasks.all_pairs()) == 10


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"probe": "both"}, "no probe 'both'; expected one of mod, com"),
        ({"lexicon_set": 0}, "lexicon_set=0; expected a whole number, 1 or more"),
        ({"n_trian": 5}, "has no setting 'n_trian'; it has n_train"),
        ({"n_train": 0}, "n_train=0; expected 1 or more"),
        ({"object_modifier": 1.5}, r"object_modifier=1\.5; expected a share, 0 to below 1"),
        ({"depths": ["many"]}, "depths=.*; expected how often 0, 1, 2 clauses"),
        ({"ood_depths": [2, 3]}, r"ood_depths=\[2, 3\]; expected whole numbers above 2"),
        ({"object_modifier": 0, **SMALL}, "split ood: no 20 different sentences left"),
    ],
)
def test_choices_that_cannot_be_used_are_refused_in_one_line(choices, message):
    with pytest.raises(InputError, match=message) as refused:
        load_abstraction("abstraction/mini", **choices)
    assert "\n" not in str(refused.value)


def test_only_grammar_cards_are_taken():
    with pytest.raises(InputError, match="card nli/overlap has kind 'templates'; load it with"):
        load_abstraction("nli/overlap")


def _pairs(*sources):
    split = tuple(tuple(s.split()) for s in sources)
    return SequencePairs(split, (("X",),) * len(split), ("",) * len(split), "toy")


def test_leaks_and_shared_words_are_found():
    with pytest.raises(InputError, match=r"2 items of toy are also in toy.* item 1 \('c d'\)"):
        check_leaks(_pairs("a b", "c d"), _pairs("x", "c d", "a b"))
    check_leaks(_pairs("a b"), _pairs("a c"))
    kept = frozenset(["the", "X"])
    with pytest.raises(InputError, match="share 1 words, such as dog; their vocabularies"):
        check_vocabularies([_pairs("the dog")], [_pairs("The Dog")], kept)
    check_vocabularies([_pairs("the dog")], [_pairs("The cat")], kept)
