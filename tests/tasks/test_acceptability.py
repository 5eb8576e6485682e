"""CoLA as it stands in its files, exchanged neighbours, and Matthews' correlation."""

from __future__ import annotations

import lzma

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.acceptability import encode_judged, load_cola, matthews, word_order
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.treebank_grammar import generate_treebank


def test_every_line_of_cola_is_there(data_dir):
    train, dev = load_cola("train", data_dir=data_dir), load_cola("dev", data_dir=data_dir)
    assert (len(train), len(dev)) == (8551, 527 + 516)
    with lzma.open(data_dir / "glue/cola_in_domain_train.tsv.xz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    for i in (0, 4000, 8550):
        _, label, _, text = lines[i].split("\t")
        assert (train.texts[i], train.labels[i]) == (text, int(label))
    assert dev.group.count("out of domain") == 516
    some = dev.sample(50, seed=1)
    assert len(some) == 50
    assert some.texts == dev.sample(50, seed=1).texts != dev.sample(50, seed=2).texts


def test_bad_lines_are_named(tmp_path):
    (tmp_path / "cola_in_domain_train.tsv").write_text("a\t1\t\tFine.\nb\t2\t*\tNo.\n")
    with pytest.raises(InputError, match="line 2: expected source, 0 or 1"):
        load_cola("train", data_dir=tmp_path)
    with pytest.raises(InputError, match=r"no file .*cola_in_domain_dev\.tsv\.gz"):
        load_cola("dev", data_dir=tmp_path)
    with pytest.raises(InputError, match="no part 'test'"):
        load_cola("test", data_dir=tmp_path)


def test_the_hub_that_cannot_be_reached_is_one_error(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(InputError, match=r"cola could not be loaded \(ConnectionError no route"):
        load_cola("dev")


def test_half_of_the_sentences_have_two_neighbours_exchanged():
    sentences = generate_treebank(200, seed=3)
    judged = word_order(sentences, seed=1)
    assert judged.labels.sum() == 100
    for sentence, text, label in zip(sentences, judged.texts, judged.labels, strict=True):
        words = text.split()
        moved = [i for i, (a, b) in enumerate(zip(words, sentence.words, strict=True)) if a != b]
        if label == 1:
            assert not moved
            continue
        i, j = moved
        assert j == i + 1
        assert words[i] == sentence.words[j]
        assert words[j] == sentence.words[i]
        assert sentence.upos[i] != sentence.upos[j]
        assert "PUNCT" not in (sentence.upos[i], sentence.upos[j])
    same = Sentence(("a", "b"), (1, -1), ("x", "root"), ("X", "X"))
    with pytest.raises(InputError, match="no neighbours of different parts of speech"):
        word_order([same], seed=0)


def test_sentences_are_encoded_one_a_row_and_cut_ones_counted():
    judged = word_order(generate_treebank(30, seed=3), seed=1)
    tokenizer = word_tokenizer(judged.texts)
    encoded = encode_judged(judged, tokenizer, 8)
    for row, text in enumerate(judged.texts):
        own = encoded.tokens[encoded.starts[row] : encoded.starts[row + 1]].tolist()
        assert own == tokenizer(text, truncation=True, max_length=8)["input_ids"]
    assert encoded.n_truncated == sum(len(tokenizer(t)["input_ids"]) > 8 for t in judged.texts) > 0
    assert encoded.labels.tolist() == judged.labels.tolist()


def test_matthews_is_its_formula_of_counts_and_zero_for_a_collapsed_model():
    rng = np.random.default_rng(0)
    for _ in range(30):
        gold = rng.integers(0, 2, 40)
        guess = np.where(rng.random(40) < 0.6, gold, rng.integers(0, 2, 40))
        tp, tn = int((gold & guess).sum()), int(((1 - gold) & (1 - guess)).sum())
        fp, fn = int(((1 - gold) & guess).sum()), int((gold & (1 - guess)).sum())
        below = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
        assert matthews(gold, guess) == pytest.approx((tp * tn - fp * fn) / below)
    assert matthews(gold, np.ones(40, dtype=int)) == 0
    assert matthews(gold, gold) == pytest.approx(1)
    assert matthews(gold, 1 - gold) == pytest.approx(-1)
