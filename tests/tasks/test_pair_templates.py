from collections import Counter

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.cards import load_task
from mechprobe.tasks.pair_templates import ENGLISH, generate_minimal_pairs, generate_text


@pytest.fixture(scope="module")
def pairs():
    return generate_minimal_pairs(n_pairs=60)


def test_there_are_paradigms_of_several_phenomena(pairs):
    assert len(pairs) >= 12
    phenomena = Counter(pairs.phenomena)
    assert len(phenomena) >= 5
    assert min(phenomena.values()) >= 3  # every phenomenon has within-phenomenon transfer


def test_no_sentence_is_in_a_paradigm_twice(pairs):
    for p in pairs:
        sentences = [*p.good, *p.bad]
        assert len(set(sentences)) == 120, p.name


def test_the_seed_decides_the_pairs():
    again = generate_minimal_pairs(n_pairs=60)
    assert again["npi_ever"].good == generate_minimal_pairs(n_pairs=60)["npi_ever"].good
    assert again["npi_ever"].good != generate_minimal_pairs(n_pairs=60, seed=1)["npi_ever"].good


def test_agreement_is_what_decides_agreement_pairs(pairs):
    singular = {"boy", "girl", "actor"}
    for name in ("agreement_copula", "agreement_distractor"):
        for good, bad in zip(pairs[name].good, pairs[name].bad, strict=True):
            head = good.split()[1]
            is_plural = head.endswith("s") and head not in ("actress", "waitress")
            assert ("are" in good.split()) == is_plural or head in singular
            assert set(good.split()) ^ set(bad.split()) == {"is", "are"}


def test_pairs_of_one_paradigm_never_differ_in_vocabulary_alone(pairs):
    for p in pairs:
        good = Counter(word for s in p.good for word in s.split())
        bad = Counter(word for s in p.bad for word in s.split())
        assert set(good) & set(bad), p.name


def test_text_avoids_what_is_held_out():
    text = generate_text(n=3000, seed=1)
    barred = set(text[:200])
    other = generate_text(n=3000, seed=1, avoid=barred)
    assert not barred & set(other)
    assert len(other) == 3000
    assert generate_text(n=50, seed=1) == generate_text(n=50, seed=1)


def test_text_and_pairs_share_their_vocabulary(pairs):
    words = {w.strip(".?") for s in generate_text(n=6000) for w in s.split()}
    needed = {w.strip(".?") for p in pairs for s in (*p.good, *p.bad) for w in s.split()}
    assert not needed - words


def test_what_is_asked_wrongly_is_refused():
    with pytest.raises(InputError, match="holds minimal pairs, not labelled ones"):
        load_task(ENGLISH)
    with pytest.raises(InputError, match="has kind 'templates'"):
        generate_minimal_pairs("nli/overlap")
    with pytest.raises(InputError, match=r"paradigm '.*' has no 100000 different pairs"):
        generate_minimal_pairs(n_pairs=100_000)
