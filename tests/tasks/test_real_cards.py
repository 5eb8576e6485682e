"""The file-based cards on the real files; no sentence of them is quoted here."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mechprobe.tasks import Task, list_tasks, load_task
from mechprobe.tasks.cards import read_card

FILE_CARDS = [name for name in list_tasks() if read_card(name)["kind"] == "files"]


@cache
def loaded(name: str, data_dir: Path) -> Task:
    mixed = {"hans_train_share": 0.05} if "hans_train" in read_card(name)["sources"] else {}
    return load_task(name, data_dir=data_dir, n_dev=500, n_ood=50, **mixed)


def unordered(task: Task, split: str) -> set[frozenset[str]]:
    examples = task.split(split)
    return {frozenset(pair) for pair in zip(examples.first, examples.second, strict=True)}


@pytest.mark.parametrize("name", FILE_CARDS)
def test_every_card_loads_and_keeps_its_splits_apart(data_dir, name):
    task = loaded(name, data_dir)
    ood = task.split("ood")
    assert set(task.card["ood_score_groups"]) <= set(ood.groups())
    assert set(Counter(ood.group).values()) == {50}
    assert len(task.split("dev")) == 500
    assert not unordered(task, "train") & (unordered(task, "dev") | unordered(task, "ood"))
    assert set(np.unique(task.split("train").label)) == set(range(len(task.labels)))
    assert set(task.accept(task.split("dev")).sum(axis=1)) == {1}


def test_mnli_hans_reads_every_row(data_dir):
    task = loaded("nli/mnli-hans", data_dir)
    assert task.card["counts"]["read"] == {
        "mnli_train": 20_000,
        "hans_train": 30_000,
        "mnli_dev": 9_815,
        "hans_eval": 30_000,
    }
    ood, train = task.split("ood"), task.split("train")
    assert len(ood.groups()) == 30
    assert Counter(train.group) == {"": 20_000} | dict.fromkeys(ood.groups(), 50)
    for name in ood.groups():
        entailed = name[1] == "e"  # le_, se_, ce_ against ln_, sn_, cn_
        label = ood.where_group(name).label
        assert {ood.labels[i] for i in label} == {"entailment" if entailed else "non-entailment"}
        trained = {train.labels[i] for i in train.where_group(name).label}
        assert trained == {"entailment" if entailed else "neutral"}


def test_training_text_is_written_like_the_development_text(data_dir):
    task = loaded("nli/mnli-hans", data_dir)
    for split in ("train", "dev"):
        text = " ".join(task.split(split).first)
        assert text.count(" n't") + text.count("``") < 5
        assert text.count("n't") > 0.02 * len(task.split(split))


def test_qqp_trains_on_what_is_not_held_out(data_dir):
    small = load_task("paraphrase/qqp-paws", data_dir=data_dir, n_dev=500, n_train=4_000)
    large = loaded("paraphrase/qqp-paws", data_dir)
    assert len(small.split("train")) == 4_000
    assert 9_000 < len(large.split("train")) <= 9_100
    assert small.split("dev").first == large.split("dev").first
    assert set(small.split("train").first) <= set(large.split("train").first)
