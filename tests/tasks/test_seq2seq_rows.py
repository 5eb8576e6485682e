"""Words as ids and rows of pairs: what is read, what is asked, in which batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.seq2seq_rows import SequenceRows, encode_rows
from mechprobe.tasks.word_ids import WordIds, word_ids

PAIRS = SimpleNamespace(
    source=(("a", "Dog", "ran"), ("a", "cat")),
    target=(("RUN", "(", "DOG", ")"), ("CAT",)),
    name="toy",
)


@pytest.fixture
def words() -> WordIds:
    return word_ids([*PAIRS.source, *PAIRS.target])


def test_words_are_numbered_behind_the_special_ones(words):
    assert words.words == ("<pad>", "</s>", "<sep>", "(", ")", "a", "cat", "dog", "ran", "run")
    assert words.encode(("Run", "(")) == [9, 3]
    assert words.decode([9, 3, words.end, 7]) == ["run", "("]
    assert len(word_ids(PAIRS.source, fold=False)) == 3 + 4
    with pytest.raises(InputError, match="token 'mouse' of 'a mouse' is not among the 10"):
        words.encode(("a", "mouse"))
    with pytest.raises(InputError, match="no tokens"):
        word_ids([])
    with pytest.raises(InputError, match="special token <sep>"):
        word_ids([("a", "<sep>")])


def test_an_encoder_decoder_reads_the_source_and_what_it_has_written(words):
    rows = encode_rows(PAIRS, words, decoder_only=False)
    batch = rows.batch([1, 0])
    assert batch.tokens.tolist() == [[5, 6, 1, 0], [5, 7, 8, 1]]
    assert batch.decoder_tokens.tolist() == [[0, 6, 0, 0, 0], [0, 9, 3, 7, 4]]
    assert batch.index.tolist() == [1, 0]
    assert rows.answers([1, 0]).tolist() == [[6, 1, -100, -100, -100], [9, 3, 7, 4, 1]]


def test_a_decoder_reads_both_and_answers_behind_the_separator(words):
    rows = encode_rows(PAIRS, words, decoder_only=True)
    batch = rows.batch([0, 1])
    assert batch.tokens.tolist() == [[5, 7, 8, 2, 9, 3, 7, 4], [5, 6, 2, 6, 0, 0, 0, 0]]
    assert batch.attention_mask.sum(1).tolist() == [8, 4]
    answers = rows.answers([0, 1])
    assert answers.tolist() == [[-100] * 3 + [9, 3, 7, 4, 1], [-100] * 2 + [6, 1] + [-100] * 4]
    for row, (tokens, asked) in enumerate(zip(batch.tokens, answers, strict=True)):
        for place in np.flatnonzero(asked != -100)[:-1]:  # each answer is the next thing read
            assert asked[place] == tokens[place + 1], row


def test_batches_take_every_row_once_and_are_of_like_length(words):
    rng = np.random.default_rng(0)
    sources = tuple(tuple([5] * n) for n in rng.integers(1, 30, 103))
    rows = SequenceRows(sources, ((6,),) * 103, words, False, "made")
    plain = rows.in_batches(10)
    assert sorted(np.concatenate(plain)) == list(range(103))
    lengths = [[len(sources[i]) for i in batch] for batch in plain]
    assert [n for batch in lengths for n in batch] == sorted(map(len, sources))
    shuffled = rows.in_batches(10, shuffle_seed=1)
    assert [len(b) for b in shuffled] == [10] * 10
    assert len(set(np.concatenate(shuffled))) == 100
    assert all((a == b).all() for a, b in zip(shuffled, rows.in_batches(10, shuffle_seed=1)))
    other = rows.in_batches(10, shuffle_seed=2)
    assert any((a != b).any() for a, b in zip(shuffled, other))
    assert [len(b) for b in rows.take([3, 4]).in_batches(10, shuffle_seed=1)] == [2]
    with pytest.raises(InputError, match="batch size 0"):
        rows.in_batches(0)


def test_no_pairs_are_refused(words):
    with pytest.raises(InputError, match="toy: no pairs"):
        encode_rows(SimpleNamespace(source=(), target=(), name="toy", __len__=lambda: 0), words,
                    decoder_only=True)
