"""Treebanks by name, path and rows, against the file reader; what is no tree is refused."""

from __future__ import annotations

import shutil

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.treebank import read_conllu
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.treebank_sources import find_treebank, load_treebank, sentences_from_rows


def as_conllu(sentences):
    blocks = []
    for s in sentences:
        rows = [
            f"{i + 1}\t{w}\t_\t{t}\t_\t_\t{h + 1}\t{r}\t_\t_"
            for i, (w, h, r, t) in enumerate(zip(s.words, s.heads, s.deprel, s.upos, strict=True))
        ]
        blocks.append("\n".join([f"# sent_id = {s.name}", *rows]))
    return "\n\n".join(blocks) + "\n\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "treebank").mkdir()
    text = as_conllu(generate_treebank(5, seed=1))
    (tmp_path / "treebank" / "en_ewt-ud-train.conllu").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_named_treebank_is_found_in_its_folder_or_beside(folder):
    assert load_treebank("ewt", "train", data_dir=folder) == generate_treebank(5, seed=1)
    path = find_treebank("ewt", "train", folder)
    flat = folder / "flat"
    flat.mkdir()
    shutil.copy(path, flat / path.name)
    assert find_treebank("ewt", "train", flat) == flat / path.name
    assert load_treebank(str(path)) == read_conllu(path)


def test_what_is_not_there_is_named(folder):
    with pytest.raises(InputError, match=r"no file en_ewt-ud-dev\.conllu \(or \.xz, \.gz\) in"):
        load_treebank("ewt", "dev", data_dir=folder)
    with pytest.raises(InputError, match="pud has no part 'train'; it has test"):
        load_treebank("pud", "train", data_dir=folder)
    with pytest.raises(InputError, match="unknown treebank 'ptb'; one of ewt, pud, or the path"):
        load_treebank("ptb")


def test_the_hub_that_cannot_be_reached_is_one_error(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(InputError, match=r"en_ewt could not be loaded \(ConnectionError no route"):
        load_treebank("ewt")


def test_rows_of_the_hub_become_sentences():
    """Multiword tokens have no head; parts of speech may be numbers."""
    row = {
        "idx": "a-1", "tokens": ["don't", "do", "n't", "go"], "head": ["None", "3", "3", "0"],
        "deprel": ["_", "aux", "advmod", "root"], "upos": [2, 0, 1, 0],
    }
    (sentence,) = sentences_from_rows([row], "rows", tags=["VERB", "PART", "_"])
    assert sentence.words == ("do", "n't", "go")
    assert sentence.heads == (2, 2, -1)
    assert sentence.upos == ("VERB", "PART", "VERB")
    assert sentence.name == "a-1"


def test_every_real_sentence_survives_the_way_through_rows(data_dir):
    real = load_treebank("pud", "test", data_dir=data_dir)
    rows = [
        {"idx": s.name, "tokens": s.words, "head": [str(h + 1) for h in s.heads],
         "deprel": s.deprel, "upos": s.upos}
        for s in real
    ]
    assert sentences_from_rows(rows, "rows") == real
    assert len(real) == 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"head": ["2", "1"]}, "row 0: 0 roots, or a cycle"),
        ({"head": ["0", "0"]}, "2 roots"),
        ({"head": ["0", "7"]}, r"head '7'; expected 0 \(root\) to 2"),
        ({"head": ["0", "x"]}, "head 'x'"),
        ({"head": ["0"]}, r"\[2, 1, 2, 2\] entries"),
    ],
)
def test_rows_that_are_no_tree_are_refused(change, said):
    row = {"tokens": ["a", "b"], "head": ["0", "1"], "deprel": ["root", "x"], "upos": ["X", "X"]}
    sentences_from_rows([row], "rows")
    with pytest.raises(InputError, match=said):
        sentences_from_rows([row | change], "rows")
    with pytest.raises(InputError, match="lacks 'deprel'"):
        sentences_from_rows([{k: v for k, v in row.items() if k != "deprel"}], "rows")
    with pytest.raises(InputError, match="holds no sentence"):
        sentences_from_rows([], "rows")
