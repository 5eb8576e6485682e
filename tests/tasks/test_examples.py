import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import PairExamples, Task

LABELS = ("entailment", "neutral", "contradiction")


def examples(n: int = 12, labels: tuple[str, ...] = LABELS, name: str = "toy") -> PairExamples:
    return PairExamples(
        first=tuple(f"first {i}" for i in range(n)),
        second=tuple(f"second {i}" for i in range(n)),
        label=np.arange(n) % len(labels),
        labels=labels,
        group=tuple("abc"[i % 3] for i in range(n)),
        name=name,
    )


def test_take_keeps_the_rows_together_in_the_order_asked_for():
    taken = examples().take([7, 2])
    assert taken.first == ("first 7", "first 2")
    assert taken.second == ("second 7", "second 2")
    assert taken.label.tolist() == [7 % 3, 2]
    assert taken.group == ("b", "c")
    assert taken.label.dtype == np.int64


def test_a_boolean_mask_selects_the_rows_that_are_true():
    mask = np.arange(12) % 2 == 0
    assert examples().take(mask).first == examples().take(np.flatnonzero(mask)).first
    with pytest.raises(InputError, match="one True or False per example"):
        examples().take(mask[:-1])


def test_groups_and_selection_by_group():
    assert examples().groups() == ["a", "b", "c"]
    assert set(examples().where_group(["a", "c"]).group) == {"a", "c"}
    assert len(examples().where_group("b")) == 4
    with pytest.raises(InputError, match=r"no sub-case 'z'; here: a, b, c"):
        examples().where_group("z")


def test_concat_keeps_every_row_and_refuses_other_labels():
    both = PairExamples.concat([examples(5), examples(3)], name="both")
    assert both.first == examples(5).first + examples(3).first
    assert both.name == "both"
    with pytest.raises(InputError, match="relabel"):
        PairExamples.concat([examples(), examples(labels=("yes", "no"))])


def test_sample_draws_without_replacement_and_the_seed_reproduces():
    drawn = examples().sample(7, seed=3)
    assert len(set(drawn.first)) == 7
    assert set(drawn.first) <= set(examples().first)
    assert drawn.first == examples().sample(7, seed=3).first
    assert {examples().sample(7, seed=s).first for s in range(9)} != {drawn.first}
    assert examples().sample(99).first == examples().first


def test_sample_per_group_takes_that_many_of_each():
    drawn = examples().sample(2, seed=1, per_group=True)
    assert [drawn.group.count(g) for g in "abc"] == [2, 2, 2]


def test_lengths_and_label_indices_must_fit():
    with pytest.raises(InputError, match="give one of each per example"):
        PairExamples(("a",), ("b", "c"), np.zeros(1, dtype=np.int64), LABELS, ("",), "toy")
    with pytest.raises(InputError, match="expected 0 to 2"):
        PairExamples(("a",), ("b",), np.array([3]), LABELS, ("",), "toy")


def three_way_task() -> Task:
    collapse = {"non-entailment": ("neutral", "contradiction")}
    return Task("toy", LABELS, {"train": examples()}, collapse, {})


def test_accept_is_the_label_itself_where_the_label_is_trained():
    accepted = three_way_task().accept(examples())
    assert accepted.shape == (12, 3)
    assert (accepted.argmax(axis=1) == examples().label).all()
    assert (accepted.sum(axis=1) == 1).all()


def test_accept_counts_every_label_that_collapses_into_the_right_one():
    # The order of the labels in the data is not that of the model.
    hans = examples(4, labels=("non-entailment", "entailment"))
    assert (
        three_way_task().accept(hans).tolist()
        == [
            [False, True, True],
            [True, False, False],
        ]
        * 2
    )


def test_accept_refuses_a_label_without_a_place():
    with pytest.raises(InputError, match=r"'maybe' of toy is neither trained on"):
        three_way_task().accept(examples(2, labels=("maybe", "entailment")))


def test_an_unknown_split_names_the_splits_there_are():
    assert three_way_task().split("train").first == examples().first
    with pytest.raises(InputError, match="has no split 'test'; it has train"):
        three_way_task().split("test")
