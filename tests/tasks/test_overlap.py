import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import PairExamples, load_task
from mechprobe.tasks.generate import equal_parts
from mechprobe.tasks.templates import overlaps

_SPEC = importlib.util.spec_from_file_location("meaning", Path(__file__).with_name("meaning.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
meaning = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(meaning)

SMALL = {"n_train": 1_500, "n_dev": 300, "n_ood": 60}


def pairs(examples: PairExamples) -> list[tuple[str, str]]:
    return list(zip(examples.first, examples.second, strict=True))


def overlap_gives_the_label(examples: PairExamples) -> np.ndarray:
    suggested = np.array([not overlaps(p, h) for p, h in pairs(examples)], dtype=int)
    return suggested == examples.label


@pytest.fixture(scope="module")
def task():
    return load_task("nli/overlap", **SMALL)


def test_every_label_follows_from_what_the_sentences_assert(task):
    checked = Counter()
    for split in ("train", "dev", "ood"):
        examples = task.split(split)
        for (premise, hypothesis), label, group in zip(
            pairs(examples), examples.label, examples.group, strict=True
        ):
            entailed = meaning.entails(premise, hypothesis)
            assert entailed == (examples.labels[label] == "entailment"), (premise, hypothesis)
            checked[group] += 1
    groups = {group["name"] for group in task.card["group"]} | {"new_word"}
    assert set(checked) == groups
    assert min(checked.values()) >= 5


@pytest.mark.parametrize("share", [0.9, 0.955, 0.98, 1.0])
def test_overlap_gives_exactly_the_share_asked_for(share):
    task = load_task("nli/overlap", **SMALL, overlap_predicts=share)
    for split, n in (("train", 1_500), ("dev", 300)):
        right = overlap_gives_the_label(task.split(split))
        assert len(right) == n
        assert right.sum() == round(share * n)


def test_labels_are_balanced_in_domain(task):
    for split in ("train", "dev"):
        assert np.bincount(task.split(split).label).tolist() == [len(task.split(split)) // 2] * 2


def test_out_of_domain_groups_are_whole_and_of_one_label(task):
    ood = task.split("ood")
    for name in ood.groups():
        group = ood.where_group(name)
        assert len(group) == 60
        assert {ood.labels[i] for i in group.label} == {
            "entailment" if name.startswith("ent_") else "non-entailment"
        }
        overlap = [overlaps(p, h) for p, h in pairs(group)]
        assert all(overlap) if name != "ent_synonym" else not any(overlap)
    assert set(task.card["ood_score_groups"]) <= set(ood.groups())
    assert sum(name.startswith("not_") for name in ood.groups()) >= 8


def test_no_pair_comes_twice_anywhere(task):
    every = [pair for split in ("train", "dev", "ood") for pair in pairs(task.split(split))]
    assert len(every) == len(set(every)) == 1_500 + 300 + 60 * len(task.split("ood").groups())
    assert task.split("mask") is task.split("train")


def test_the_seed_reproduces_and_decides(task):
    again = load_task("nli/overlap", **SMALL)
    other = load_task("nli/overlap", **SMALL, seed=1)
    for split in ("train", "dev", "ood"):
        assert pairs(again.split(split)) == pairs(task.split(split))
        shared = set(pairs(other.split(split))) & set(pairs(task.split(split)))
        assert len(shared) < 0.1 * len(task.split(split))


def test_held_out_pairs_do_not_depend_on_the_size_of_training(task):
    more = load_task("nli/overlap", **SMALL | {"n_train": 1_700})
    assert pairs(more.split("dev")) == pairs(task.split("dev"))
    assert pairs(more.split("ood")) == pairs(task.split("ood"))


def test_counterexamples_come_from_the_groups_asked_for_in_equal_parts():
    chosen = ("not_swap", "ent_synonym", "not_under_if")
    train = load_task(
        "nli/overlap", **SMALL, counterexample_groups=chosen, overlap_predicts=0.94
    ).split("train")
    wrong = train.take(~overlap_gives_the_label(train))
    assert Counter(wrong.group) == dict.fromkeys(chosen, 30)


def test_only_the_out_of_domain_groups_asked_for_are_made():
    task = load_task("nli/overlap", **SMALL, ood_groups=["not_passive", "ent_passive"])
    assert task.split("ood").groups() == ["not_passive", "ent_passive"]


def test_premises_alone_do_not_give_the_label_of_ordinary_pairs(task):
    train = task.split("train")
    ordinary = train.take(overlap_gives_the_label(train))
    first_word = Counter()
    for premise, label in zip(ordinary.first, ordinary.label, strict=True):
        first_word[premise.split()[0], int(label)] += 1
    for word in {w for w, _ in first_word}:
        both = np.array([first_word[word, 0], first_word[word, 1]])
        if both.sum() >= 40:
            assert abs(both[0] / both.sum() - 0.5) < 3 * 0.5 / np.sqrt(both.sum()), (word, both)


def test_sentences_are_short_and_the_vocabulary_small(task):
    sentences = [s for split in task.splits.values() for s in split.first + split.second]
    assert max(len(s.split()) for s in sentences) <= 15
    assert 150 <= len({word for s in sentences for word in s.split()}) <= 400


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap_predicts": 0.3}, "overlap_predicts=0.3 is not possible; expected 0.5 to 1"),
        ({"counterexample_groups": ["swap"]}, "counterexample_groups names 'swap'; expected some"),
        ({"counterexample_groups": ["ent_passive"]}, "names 'ent_passive'"),
        ({"counterexample_groups": "not_swap"}, "expected a list"),
        ({"ood_groups": ["ent_same"]}, "ood_groups names 'ent_same'"),
        ({"new_words": [0, 0]}, "expected how often 1, 2, 3"),
        ({"new_words": [-1, 2]}, "expected how often 1, 2, 3"),
        ({"n_train": 2.5}, "n_train=2.5; expected a whole number"),
        ({"n_dev": -1}, "n_dev=-1; expected a whole number"),
        ({"n_trian": 5}, "no setting 'n_trian'; it has n_train"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as refused:
        load_task("nli/overlap", **SMALL | settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "not_swap"', 'name = "not_swap"\noverlap = false', "says overlap = false, but"),
        (
            'name = "ent_passive"\nlabel = "entailment"',
            'name = "ent_passive"\nlabel = "entailment"\ncounterexample = true',
            "'ent_passive' is marked as a counterexample, but overlap gives its label",
        ),
        ("counterexample = true", "counterexample = false", "0 counterexample groups"),
    ],
)
def test_a_card_whose_marks_contradict_its_templates_is_refused(tmp_path, repo, old, new, message):
    text = (repo / "tasks" / "nli" / "overlap.toml").read_text()
    changed = tmp_path / "changed.toml"
    changed.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_task(changed, **SMALL)


def test_equal_parts_add_up_and_are_in_proportion():
    assert equal_parts(10, [1.0, 1.0, 1.0]) == [4, 3, 3]
    assert equal_parts(7, [2.0, 1.0, 1.0]) == [3, 2, 2]
    assert equal_parts(0, [1.0, 2.0]) == [0, 0]
    for n in range(50):
        parts = equal_parts(n, [3.0, 1.0, 2.5])
        assert sum(parts) == n
        assert all(abs(p - n * w / 6.5) < 1 for p, w in zip(parts, [3.0, 1.0, 2.5], strict=True))
