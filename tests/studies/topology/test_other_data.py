"""A run on a user's own files with the paper's masking, and nothing beyond probes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mechprobe.runs.tables import read_table
from mechprobe.studies.topology.study import run
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.word_pieces import SentencesLeftOut
from tests.studies.topology.conftest import MICRO
from tests.studies.topology.test_data import as_conllu


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    sentences = generate_treebank(70, seed=4)
    long = sentences[0]
    n = 80  # words, more than the encoder trained here reads
    endless = replace(
        long, words=("the",) * n, heads=(-1, *range(n - 1)), deprel=("root",) * n,
        upos=("DET",) * n,
    )  # fmt: skip
    (place / "mine.conllu").write_text(as_conllu(sentences), encoding="utf-8")
    second = [endless, *generate_treebank(9, seed=5)]
    (place / "second.conllu").write_text(as_conllu(second), encoding="utf-8")
    settings = replace(
        MICRO, treebank=str(place / "mine.conllu"), second=str(place / "second.conllu"),
        released_masking=True, n_heads_tested=-1, finetune="none", n_untrained=1,
    )  # fmt: skip
    with pytest.warns(SentencesLeftOut, match="1 of 10 sentences"):
        run(settings, place / "run")
    return place / "run"


def test_sentences_that_do_not_fit_are_counted(folder):
    table = read_table(folder / "tables" / "sentences.csv").set_index("sentences")
    assert table.to_dict("index")["second"] == {"too_long": 1, "vanished": 0, "kept": 9}
    assert not table["vanished"].to_numpy().any()
    notes = json.loads((folder / "report.json").read_text())["notes"]
    assert any(
        note.endswith("nothing): 1 too long and 0 with vanished words of 10 in second.")
        for note in notes
    )


def test_the_papers_masking_counts_all_tokens(folder):
    report = json.loads((folder / "report.json").read_text())
    assert any("as in the released code" in note for note in report["notes"])
    scores = read_table(folder / "tables" / "scores.csv")
    assert "x_sp" in set(scores["metric"])
    assert "sp_nspr" not in set(scores["metric"])  # words have no vector of their own there
    assert set(scores["sentences"]) == {"test", "second"}


def test_what_was_not_asked_for_is_not_testable(folder):
    claims = json.loads((folder / "report.json").read_text())["claims"]
    untested = [c["claim"] for c in claims if c["verdict"] == "not testable here"]
    assert any("heads carry" in claim for claim in untested)
    assert any("Regularising" in claim for claim in untested)
    assert not (folder / "tables" / "finetuned.csv").exists()
    assert "/" not in json.loads((folder / "config.json").read_text())["settings"]["treebank"][4:]
