"""Label probes against plain cross-entropy, planted labels, and the law of control labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mechprobe.errors import InputError
from mechprobe.probes import (
    ProbeSettings,
    bank_losses,
    control_task,
    depth_objective,
    fit_bank,
    head_objective,
    label_accuracy,
    linear_objective,
    mlp_objective,
    selectivity,
    tag_task,
)
from mechprobe.probes.linear import word_hits
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.treebank_grammar import generate_treebank

SENTENCES = generate_treebank(260, seed=6)
TRAIN, DEV = SENTENCES[:200], SENTENCES[200:]
UPOS = tag_task(TRAIN)


@pytest.fixture(scope="module")
def data(as_vectors):
    """Site 0: part of speech beside noise; site 1: a random code a word type."""
    rng = np.random.default_rng(0)
    codes = {w: rng.normal(size=120) for s in SENTENCES for w in s.words}

    def build(part):
        tags = np.concatenate([UPOS.label_of(s) for s in part])
        clean = np.pad(np.eye(len(UPOS.labels))[tags], ((0, 0), (0, 120 - len(UPOS.labels))))
        types = np.array([codes[w] for s in part for w in s.words])
        return as_vectors(part, 3 * clean + 0.1 * rng.normal(size=clean.shape), types)

    return build(TRAIN), build(DEV)


def test_tags_are_the_sentences_own():
    assert UPOS.labels == tuple(sorted({tag for s in TRAIN for tag in s.upos}))
    for sentence in DEV[:20]:
        assert [UPOS.labels[i] for i in UPOS.label_of(sentence)] == list(sentence.upos)
    odd = Sentence(("w",), (-1,), ("root",), ("INTJ",))
    assert UPOS.label_of(odd).tolist() == [-2]
    assert "nsubj" in tag_task(TRAIN, "deprel").labels
    with pytest.raises(InputError, match="'upos' or 'deprel'"):
        tag_task(TRAIN, "lemma")
    with pytest.raises(InputError, match="1 different tags"):
        tag_task([odd])


def test_control_labels_are_of_types_and_as_frequent_as_the_tasks():
    control = control_task(UPOS, TRAIN, seed=1)
    of_type: dict[str, set[int]] = {}
    for sentence in SENTENCES:
        for word, label in zip(sentence.words, control.label_of(sentence), strict=True):
            of_type.setdefault(word, set()).add(int(label))
    assert all(len(labels) == 1 for labels in of_type.values())
    many = Sentence(tuple(f"type{i}" for i in range(4000)), (), (), ("NOUN",) * 4000)
    drawn = Counter(control.label_of(many).tolist())
    counts = Counter(int(i) for s in TRAIN for i in UPOS.label_of(s))
    share = np.array([counts[i] for i in range(len(UPOS.labels))]) / sum(counts.values())
    found = [drawn[i] for i in range(len(UPOS.labels))]
    assert chisquare(found, share * 4000).pvalue > 1e-3
    other = control_task(UPOS, TRAIN, seed=2)
    assert (other.label_of(many) != control.label_of(many)).mean() > 0.5


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_loss_is_torchs_cross_entropy(kind, data):
    _, dev = data
    objective = linear_objective(UPOS) if kind == "linear" else mlp_objective(UPOS, hidden=7)
    bank = fit_bank(objective, dev, dev, ProbeSettings(lr=1e-12, epochs=1))
    gold = torch.from_numpy(np.concatenate([UPOS.label_of(s) for s in dev.sentences]))
    for site in range(2):
        p = {name: value[site] for name, value in bank.params.items()}
        inner = dev.values[site]
        if kind == "mlp":
            inner = torch.relu(inner @ p["V"] + p["c"])
        logits = inner @ p["W"] + p["b"]
        expected = torch.nn.functional.cross_entropy(logits, gold)
        assert bank_losses(bank, dev)[site] == pytest.approx(expected.item())
        right = (logits.argmax(1) == gold).double().mean()
        assert label_accuracy(bank, dev)[site] == pytest.approx(right.item())


def test_planted_tags_are_read_and_only_word_codes_solve_the_control(data):
    train, dev = data
    settings = ProbeSettings(lr=0.02, epochs=12)
    control = control_task(UPOS, TRAIN)
    task = fit_bank(linear_objective(UPOS), train, dev, settings)
    memory = fit_bank(linear_objective(control), train, dev, settings)
    assert label_accuracy(task, dev)[0] > 0.99
    assert label_accuracy(memory, dev)[1] > 0.95
    assert label_accuracy(memory, dev)[0] < 0.75
    gap = selectivity(task, memory, dev)
    assert gap[0] > 0.25
    assert abs(gap[1]) < 0.05


def test_unseen_labels_count_as_wrong_and_cost_nothing(data):
    train, dev = data
    few = tag_task([s for s in TRAIN if "ADV" not in s.upos])
    assert "ADV" not in few.labels
    bank = fit_bank(linear_objective(few), train, dev, ProbeSettings(lr=0.02, epochs=6))
    hits = word_hits(bank, dev)[0]
    adverbs = np.concatenate([np.array(s.upos) == "ADV" for s in DEV])
    assert adverbs.any()
    assert not hits[adverbs].any()
    assert hits[~adverbs].mean() > 0.95


def test_heads_are_found_where_vectors_name_them(as_vectors):
    """h = (own place, head's place): W that pairs them is the head."""
    def build(part):
        rows = []
        for s in part:
            heads = [i if h < 0 else h for i, h in enumerate(s.heads)]
            eye = np.eye(24)
            rows.append(np.concatenate([eye[np.arange(len(s))], eye[heads]], axis=1))
        clean = np.concatenate(rows)
        return as_vectors(part, clean, np.random.default_rng(0).normal(size=clean.shape))

    train, dev = build(TRAIN), build(DEV)
    bank = fit_bank(head_objective(), train, dev, ProbeSettings(lr=0.05, epochs=10))
    accuracy = label_accuracy(bank, dev)
    assert accuracy[0] > 0.95
    assert accuracy[1] < 0.3
    hits = word_hits(bank, dev)[0]
    roots = np.concatenate([np.array(s.heads) < 0 for s in DEV])
    assert (np.isnan(hits) == roots).all()


def test_the_head_control_is_self_first_or_last_by_type(data):
    train, _ = data
    targets = head_objective(control_seed=3).targets
    assert targets is not None
    rules: dict[str, set[str]] = {}
    for sentence, found in zip(train.sentences, targets(train), strict=True):
        for i, label in enumerate(found):
            if sentence.heads[i] < 0:
                assert label == -1
                continue
            choice = {"self": i, "first": 0, "last": len(sentence) - 1}
            fits = {name for name, place in choice.items() if place == label}
            rules.setdefault(sentence.words[i], fits).intersection_update(fits)
    assert all(rules.values())
    kinds = Counter(next(iter(fits)) for fits in rules.values() if len(fits) == 1)
    assert min(kinds[k] for k in ("self", "first", "last")) > 10


def test_probes_without_labels_have_no_accuracy(data):
    train, dev = data
    bank = fit_bank(depth_objective(3), train, dev, ProbeSettings(epochs=1))
    with pytest.raises(InputError, match="depth probe gives no labels"):
        label_accuracy(bank, dev)
    with pytest.raises(InputError, match="0 hidden units"):
        mlp_objective(UPOS, hidden=0)
