import json
import tarfile
from collections import Counter

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.blimp import load_blimp, load_reference


def row(number=0, uid="p", **changes) -> dict:
    return {
        "sentence_good": f"The cat {number} is here.",
        "sentence_bad": f"The cat {number} are here.",
        "field": "morphology", "linguistics_term": "agreement", "UID": uid, "pairID": str(number),
    } | changes


def write(path, *rows):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def test_pairs_come_in_the_order_of_their_numbers(tmp_path):
    found = load_blimp(write(tmp_path / "p.jsonl", row(2), row(0), row(10)))
    assert found["p"].good == (
        "The cat 0 is here.", "The cat 2 is here.", "The cat 10 is here."
    )
    assert found["p"].where == ("p.jsonl line 2", "p.jsonl line 1", "p.jsonl line 3")
    assert found["p"].phenomenon == "agreement"


def test_a_folder_and_an_archive_give_the_same(tmp_path):
    write(tmp_path / "b.jsonl", row(0, "b", field="syntax/semantics"))
    write(tmp_path / "a.jsonl", row(0, "a"), row(1, "a", linguistics_term="agreement"))
    with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as archive:
        for name in ("a.jsonl", "b.jsonl"):
            archive.add(tmp_path / name, f"data/{name}")
    folder, packed = load_blimp(tmp_path), load_blimp(tmp_path / "all.tar.xz")
    assert folder.names == packed.names == ["a", "b"]
    assert folder["b"].field == "syntax_semantics"
    assert [p.good for p in folder] == [p.good for p in packed]
    assert load_blimp(tmp_path, paradigms=["b"]).names == ["b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops\n", "p.jsonl line 2 is not JSON"),
        ("[1]\n", "p.jsonl line 2 holds a list"),
        (row(1, sentence_god="x"), "line 2: unknown field 'sentence_god'; nearest: sentence_good"),
        ({k: v for k, v in row(1).items() if k != "field"}, "line 2 lacks the field 'field'"),
        (row(1, sentence_bad=None), "line 2: field 'sentence_bad' is None; expected text"),
        (row(1, sentence_bad="The cat 1 is here."), "p.jsonl line 2: both sentences are"),
        (row(1, sentence_good=" "), "p.jsonl line 2: the acceptable sentence is empty"),
        (row(0), "line 2: pairID 0 of p was at p.jsonl line 1 already"),
        (row(1, pairID="x"), "line 2: pairID is 'x'; expected a whole number"),
        (row(1, pairID=1.5), "line 2: pairID is 1.5; expected a whole number"),
        (row(1, pairID=True), "line 2: pairID is True; expected a whole number"),
        (row(1, uid=" "), "line 2: field 'UID' is empty"),
        (row(1, field="syntax"),
         "p.jsonl line 2: paradigm p is syntax/agreement here and morphology/agreement at "
         "p.jsonl line 1"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path, line, message):
    with pytest.raises(InputError, match=message) as refused:
        load_blimp(write(tmp_path / "p.jsonl", row(0), line))
    assert "\n" not in str(refused.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.jsonl file"):
        load_blimp(tmp_path)
    with pytest.raises(InputError, match=r"no file .*nowhere\.jsonl"):
        load_blimp(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match=r"no file my_pairs;"):  # and no hub is asked
        load_blimp("my_pairs")
    (tmp_path / "broken.tar.xz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"broken\.tar\.xz cannot be read"):
        load_blimp(tmp_path / "broken.tar.xz")


def test_without_network_the_hub_name_is_explained():
    with pytest.raises(InputError, match=r"could not be loaded from the hub.*local copy"):
        load_blimp("nyu-mll/blimp", paradigms=["adjunct_island"])


def test_the_published_data_are_whole(data_dir):
    pairs = load_blimp(data_dir)
    assert len(pairs) == 67
    assert pairs.n_pairs == 67_000 - 7
    assert len(set(pairs.phenomena)) == 12
    assert Counter(pairs.phenomena)["argument_structure"] == 9
    reference = load_reference(data_dir)
    assert set(reference["gpt2"]) == {*pairs.names, "overall"}
    overall = sum(reference["gpt2"][name] for name in pairs.names) / 67
    assert overall == pytest.approx(0.83, abs=0.02)


def test_a_reference_line_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="line 1 is no line of reference accuracies"):
        load_reference(write(tmp_path / "models_summary.jsonl", '{"UID": "a", "gpt2": "high"}\n'))
