"""Beam search: greedy with one beam, the best of all texts with all beams, allowed words only."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models import build_decoder
from mechprobe.models.edits import forward
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.models.generate import generate
from mechprobe.models.generate_beams import beam_exact_matches, beam_search
from mechprobe.tasks.seen_words import SeenWords, last_word, split_words
from mechprobe.tasks.seq2seq_rows import SequenceRows, encode_rows
from mechprobe.tasks.word_ids import PieceIds, word_ids

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = word_ids([("a", "b")])  # ids 3 and 4; 1 ends


def rows(decoder_only: bool, targets=((), (), ())):
    pairs = SimpleNamespace(source=(("a",), ("b", "a"), ("b",)), target=targets, name="toy")
    return encode_rows(pairs, WORDS, decoder_only=decoder_only)


@pytest.fixture(params=[True, False], ids=["decoder", "encoder-decoder"])
def case(request):
    shape = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_vocab": 5, "seed": 3}
    if request.param:
        model = build_decoder(n_ctx=16, init_std=0.8, **shape)
    else:
        model = build_encoder_decoder(**shape)
    return model, rows(request.param)


def score(model, data, row, text):
    """Log probability of a text by one teacher-forced pass."""
    whole = SequenceRows(
        (data.sources[row],), (tuple(text),), data.words, data.decoder_only, "one"
    )
    with torch.no_grad():
        logits = forward(model, whole.batch([0]))[0].double().log_softmax(-1)
    start = len(data.sources[row]) if data.decoder_only else 0
    return sum(float(logits[start + i, token]) for i, token in enumerate(text))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_with_enough_beams_it_finds_the_best_of_all_texts(case, penalty):
    model, data = case
    got = beam_search(
        model, data.batch(range(3)), 3, 125, end=1, pad=0, length_penalty=penalty
    ).tolist()
    for row in range(3):
        texts = [t for n in (1, 2, 3) for t in product(range(5), repeat=n)
                 if 1 not in t[:-1] and (t[-1] == 1 or n == 3)]
        best = max(texts, key=lambda t: score(model, data, row, t) / len(t) ** penalty)
        assert got[row] == [*best, *[0] * (len(got[row]) - len(best))]


def test_one_beam_is_greedy(case):
    model, data = case
    batch = data.batch(range(3))
    got, greedy = beam_search(model, batch, 5, 1, end=1, pad=0), generate(model, batch, 5, eos=1,
                                                                         pad=0)
    width = max(got.shape[1], greedy.shape[1])
    pad = [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (got, greedy)]
    assert pad[0].tolist() == pad[1].tolist()


def test_more_beams_find_nothing_less_probable(case):
    model, data = case
    found = []
    for beams in (1, 4, 60):
        text = beam_search(model, data.batch([1]), 4, beams, end=1, length_penalty=0.0)[0].tolist()
        text = text[: text.index(1) + 1] if 1 in text else text
        found.append(score(model, data, 1, text))
    assert found[0] <= found[2] + 1e-9 >= found[1] - 1e-9


def test_only_allowed_tokens_are_written(case):
    model, data = case
    written = beam_search(
        model, data.batch(range(3)), 4, 3, end=1, allowed=lambda text: {4} if len(text) < 2 else {1}
    )
    assert written.tolist() == [[4, 4, 1]] * 3


def test_exact_matches_compare_whole_targets(case):
    model, data = case
    written = beam_search(model, data.batch(range(3)), 7, 2, end=1, pad=0).tolist()
    ended = [text[: text.index(1)] if 1 in text else text for text in written]
    targets = (tuple(ended[0]), (*ended[1], 3), tuple(ended[2]))
    got = beam_exact_matches(model, SequenceRows(data.sources, targets, WORDS, data.decoder_only,
                                                 "toy"), 2)
    longest = max(map(len, targets)) + 3
    again = beam_search(model, data.batch(range(3)), longest, 2, end=1, pad=0).tolist()
    want = [t[: len(g) + 1] == [*g, 1] for t, g in zip(again, targets, strict=True)]
    assert got.tolist() == want
    assert not got[1]


def test_pieces_join_into_seen_words_only():
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("\u2581", -9.0), ("\u2581do", -1.0),
                  ("\u2581cat", -1.0), ("g", -2.0), ("gs", -2.5), ("s", -3.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    ids = PieceIds(PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>"
    ))
    do, cat, g, gs, s, end = 3, 4, 5, 6, 7, 1
    targets = SimpleNamespace(
        source=(("cat",),) * 2, target=(("dog", "cat"), ("dogs",)), name="toy"
    )
    rows = encode_rows(targets, ids, decoder_only=False)
    assert rows.targets == ((do, g, cat), (do, gs))
    assert ids.decode([do, g, cat, end, s]) == ["dog", "cat"]
    assert list(split_words((do, g, cat, cat), ids)) == [(do, g), (cat,), (cat,)]
    for text in product((do, cat, g, s), repeat=4):
        assert last_word(text, ids) == list(split_words(text, ids))[-1]
    seen = SeenWords.of_targets(rows)
    assert seen.allowed([]) == {do, cat}
    assert seen.allowed([do]) == {g, gs}
    assert seen.allowed([cat, do, g]) == {do, cat, end}
    assert seen.allowed([do, g, s]) == set()
    with pytest.raises(InputError, match="need its tokenizer, with an end token"):
        PieceIds(None)


def test_with_one_token_a_word_unseen_words_are_shut_out():
    seen = SeenWords.of_targets(rows(True, (("a",), ("a", "a"), ("a",))))
    assert seen.allowed([]) == {3}
    assert seen.allowed([3]) == {3, 1}


def test_what_cannot_work_is_refused(case):
    model, data = case
    with pytest.raises(InputError, match="0 beams of 3 new tokens"):
        beam_search(model, data.batch([0]), 3, 0, end=1)
    assert np.isfinite(score(model, data, 0, [3]))
