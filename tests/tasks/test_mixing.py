import json
import warnings
from collections import Counter
from pathlib import Path

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_task

CARD = """
kind = "files"
labels = ["entailment", "neutral", "contradiction"]
symmetric = true

[collapse]
non-entailment = ["neutral", "contradiction"]

[settings]
n_train = 1000
n_dev = 4
n_ood = 100
share = 0.0
cases = []

[[splits.train]]
source = ["plain", "more"]
take = "n_train"

[[splits.train]]
source = "cases_train"
share = "share"
groups = "cases"
relabel = { non-entailment = "neutral" }

[[splits.dev]]
source = "more"
take = "n_dev"

[[splits.ood]]
source = "cases_eval"
take_per_group = "n_ood"

[sources.plain]
first = "a"
second = "b"
label = "y"
labels = { e = "entailment", n = "neutral", c = "contradiction" }
[sources.plain.local]
files = ["plain.tsv"]
[sources.plain.hub]
path = "HUB/plain"
split = "train"

[sources.more]
first = "a"
second = "b"
label = "y"
labels = { e = "entailment", n = "neutral", c = "contradiction" }
[sources.more.local]
files = ["more.tsv"]
[[sources.more.hub]]
path = "HUB/nowhere"
split = "train"
[[sources.more.hub]]
path = "csv"
split = "train"
options = { data_files = "HUB/more.tsv", delimiter = "\\t", quoting = 3 }

[sources.cases_train]
first = "a"
second = "b"
label = "y"
group = "g"
labels = { e = "entailment", x = "non-entailment" }
[sources.cases_train.local]
files = ["cases_1.tsv", "cases_2.tsv"]

[sources.cases_eval]
first = "a"
second = "b"
label = "y"
group = "g"
labels = { e = "entailment", x = "non-entailment" }
[sources.cases_eval.local]
files = ["cases_eval.tsv"]
[sources.cases_eval.hub]
path = "HUB/cases_eval"
split = "train"
"""


PLAIN_HUB = '[sources.plain.hub]\npath = "HUB/plain"\nsplit = "train"\n'


def table(path: Path, rows: list[tuple[str, ...]]) -> None:
    header = ("y", "a", "b", "g")[: len(rows[0])]
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))


def cases(name: str, n: int, groups: str = "pq") -> list[tuple[str, ...]]:
    return [
        ("e" if g == "p" else "x", f"{name} {g} {i}", f"case {i}", g)
        for g in groups
        for i in range(n)
    ]


MORE = [("enc"[i % 3], f"more {i}", f"other {i}") for i in range(12)]


@pytest.fixture
def folder(tmp_path) -> Path:
    table(tmp_path / "plain.tsv", [("enc"[i % 3], f"plain {i}", "x") for i in range(30)])
    table(tmp_path / "more.tsv", MORE)
    table(tmp_path / "cases_1.tsv", cases("train", 20))
    table(tmp_path / "cases_2.tsv", cases("again", 20, "q"))
    # One evaluation pair stands in the training file as well, the other way round.
    table(tmp_path / "cases_eval.tsv", [*cases("eval", 10), ("x", "case 3", "train q 3", "q")])
    (tmp_path / "card.toml").write_text(CARD.replace("HUB", str(tmp_path / "hub")))
    return tmp_path


def load(folder: Path, **settings):
    return load_task(folder / "card.toml", data_dir=folder, **settings)


def test_what_is_held_out_is_never_trained_on(folder):
    task = load(folder)
    dev, train = task.split("dev"), task.split("train")
    assert len(dev) == 4
    assert len(train) == 30 + 12 - 4
    assert not set(dev.first) & set(train.first)
    assert set(dev.first) | set(train.first) == {f"plain {i}" for i in range(30)} | {
        a for _, a, _ in MORE
    }
    assert task.split("mask") is train
    assert task.card["counts"]["splits"] == {"ood": 21, "dev": 4, "train": 38}
    assert task.card["counts"]["held_out_rows_removed"] == {"train": 4}


def test_the_share_of_each_sub_case_is_mixed_in_relabelled_and_grows(folder):
    before: set[str] = set()
    for share, n_p, n_q in ((0.0, 0, 0), (0.25, 5, 10), (0.5, 10, 20), (1.0, 20, 39)):
        train = load(folder, share=share).split("train")
        assert Counter(g for g in train.group if g) == Counter(p=n_p, q=n_q) - Counter()
        mixed = train.take([i for i, g in enumerate(train.group) if g])
        assert before <= set(mixed.first)
        before = set(mixed.first)
        for label, group in zip(mixed.label, mixed.group, strict=True):
            assert train.labels[label] == ("entailment" if group == "p" else "neutral")
    # The one training pair that the evaluation holds in the other order is left out.
    assert "train q 3" not in before


def test_only_the_sub_cases_asked_for_are_mixed_in(folder):
    assert set(load(folder, share=0.5, cases=["q"]).split("train").group) == {"", "q"}
    with pytest.raises(InputError, match=r"no sub-case 'z' in cases_train; there are p, q"):
        load(folder, share=0.5, cases=["z"])


def test_a_source_that_is_not_used_need_not_be_there(folder):
    (folder / "cases_1.tsv").unlink()
    assert len(load(folder).split("train")) == 38
    with pytest.raises(InputError, match=r"no file cases_1\.tsv"):
        load(folder, share=0.1)


def test_limits_hold_and_the_seed_reproduces_and_decides(folder):
    task = load(folder, n_train=10, n_ood=3, n_dev=2)
    assert [len(task.split(s)) for s in ("train", "dev", "ood")] == [10, 2, 6]
    assert Counter(task.split("ood").group) == {"p": 3, "q": 3}
    again = load(folder, n_train=10, n_ood=3, n_dev=2)
    other = load(folder, n_train=10, n_ood=3, n_dev=2, seed=1)
    for split in ("train", "dev", "ood"):
        assert again.split(split).first == task.split(split).first
    assert other.split("train").first != task.split("train").first


def test_out_of_domain_labels_are_those_of_the_data_and_collapse(folder):
    task = load(folder)
    ood = task.split("ood")
    assert ood.labels == ("entailment", "non-entailment")
    assert task.labels == ("entailment", "neutral", "contradiction")
    for accepted, label in zip(task.accept(ood).tolist(), ood.label, strict=True):
        assert accepted == ([True, False, False] if label == 0 else [False, True, True])


def test_the_hub_route_gives_the_same_rows_and_tries_the_next_address(folder):
    hub = folder / "hub"
    for name in ("plain", "cases_eval"):
        lines = (folder / f"{name}.tsv").read_text().splitlines()
        fields = [line.split("\t") for line in lines]
        objects = [dict(zip(fields[0], row, strict=True)) for row in fields[1:]]
        (hub / name).mkdir(parents=True)
        (hub / name / "train.jsonl").write_text("\n".join(map(json.dumps, objects)))
    (hub / "more.tsv").write_text((folder / "more.tsv").read_text())
    local, remote = load(folder), load_task(folder / "card.toml")
    for split in ("train", "dev", "ood"):
        assert remote.split(split).first == local.split(split).first
        assert remote.split(split).label.tolist() == local.split(split).label.tolist()


def test_without_hub_and_files_the_message_says_what_to_do(folder):
    with pytest.raises(InputError, match=r"could not be loaded from the hub .*give data_dir") as no:
        load_task(folder / "card.toml")
    assert "\n" not in str(no.value)
    text = (folder / "card.toml").read_text()
    plain = PLAIN_HUB.replace("HUB", str(folder / "hub"))
    (folder / "card.toml").write_text(text.replace(plain, ""))
    with pytest.raises(InputError, match=r"'plain' has no public copy on the hub; give data_dir"):
        load_task(folder / "card.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('take = "n_train"', 'takes = "n_train"', r"'takes' in \[splits.train\]; nearest: take;"),
        ('source = "more"\ntake', "take", "a part of split 'dev' has no source; name one of plain"),
        ('group = "g"', 'gruop = "g"', r"'gruop' in \[sources.cases_train\]; nearest: group; mend"),
        ('files = ["more.tsv"]', 'file = ["more.tsv"]', r"\[sources.more.local\]; nearest: files;"),
        ('symmetric = true', 'symetric = true', "'symetric' at the top; nearest: symmetric; mend"),
        ("n_dev = 4", "n_dev = 4\nn_dve = 2", "'n_dve' is used by no split; nearest: n_dev; mend"),
        ("[[splits.dev]]", "[splits.dev]", r"splits.dev is .*; expected a list of tables"),
        ('source = "more"', 'source = "most"', "uses source 'most'; the card has plain, more"),
        ('take = "n_dev"', 'take = "n_deb"', "refers to a setting 'n_deb'"),
        ("[[splits.train]]", "[[splits.practice]]", r"has no \[\[splits.train\]\]"),
        ('relabel = { non-entailment = "neutral" }', "", "add a relabel to that part"),
        ('files = ["plain.tsv"]', "", "has no files under local"),
        ('first = "a"', "", "lacks first; add it to the card"),
        ("[sources.plain.local]", "[sources.plain.loco]", r"'loco' in \[sources\.plain\]"),
        ('[sources.plain.local]\nfiles = ["plain.tsv"]', "",
         r"has no local files; add \[sources\.plain\.local\] with files"),
        ('n = "neutral", ', "", r"plain\.tsv line 3: label 'n' is not in the card; it knows"),
        ('second = "b"', 'second = "bb"', r"has columns y, a, b.*; the card expects a, bb, y"),
    ],
)
def test_a_card_that_cannot_work_is_refused_in_one_line(folder, old, new, message):
    text = (folder / "card.toml").read_text()
    assert old in text
    (folder / "card.toml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message) as refused:
        load(folder, share=1.0)
    assert "\n" not in str(refused.value)


def test_a_share_outside_0_to_1_is_refused(folder):
    with pytest.raises(InputError, match=r"share=1\.5 is no share; expected 0 to 1"):
        load(folder, share=1.5)


def test_rows_that_are_also_in_dev_are_dropped_with_a_word(folder):
    text = (folder / "card.toml").read_text().replace('["plain", "more"]', '"more"')
    (folder / "card.toml").write_text(text)
    with pytest.warns(UserWarning, match=r"card card: 4 of 12 train rows are also in dev; dropped"):
        assert len(load(folder).split("train")) == 8
    with pytest.raises(InputError, match=r"'train' is empty: all of its 12 rows are held out"), (
        pytest.warns(UserWarning, match="12 of 12 train rows are also in dev; dropped")
    ):
        load(folder, n_dev=12)


def test_fewer_rows_than_asked_for_are_told_of(folder):
    with pytest.warns(UserWarning, match="card card: ") as told:
        load(folder, n_train=39, n_ood=11, n_dev=13)
    assert {str(one.message).removeprefix("card card: ") for one in told} == {
        "n_dev=13 asks for more dev rows than there are; took all 12",
        "n_ood=11 asks for more ood rows of a sub-case than there are; took all 10 of 'p'",
        "n_train=39 asks for more train rows than there are; took all 30",
        "12 of 42 train rows are also in dev; dropped",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(folder, n_train=38, n_ood=10, n_dev=4).split("train")) == 38


def test_a_split_is_empty_only_where_none_was_asked_for(folder):
    assert len(load(folder, n_train=0).split("train")) == 0
    text = (folder / "card.toml").read_text()
    text = text.replace('source = "more"\n', 'source = "more"\nshare = 0.01\n')
    (folder / "card.toml").write_text(text)
    with pytest.raises(InputError, match="split 'dev' is empty; give it a source with rows"):
        load(folder)


def test_a_missing_file_is_not_sent_to_a_hub_that_lacks_it(folder):
    (folder / "plain.tsv").unlink()
    with pytest.raises(InputError, match=r"no file plain.* no public copy on the hub\), or"):
        load(folder)
    text = (folder / "card.toml").read_text()
    hub = "[sources.cases_train.hub]\npath = 'x'\nsplit = 'train'\n"
    (folder / "card.toml").write_text(text + hub)
    with pytest.raises(InputError, match=r"or leave data_dir out to load from the hub"):
        load(folder)
