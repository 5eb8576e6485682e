"""Words against their sub-words, counted by hand and by a plain loop."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.tasks.word_pieces import SentencesLeftOut, encode_words, pool_words


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Two letters are one piece, then one letter each; zero-width spaces vanish."""
    letters = "abcdefghij"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", *letters, *(f"##{x}" for x in letters)]
    inner = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Replace("\u200b", "")
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")


def test_each_token_knows_its_word(tokenizer):
    said = "2 of 4 .* number 2, from 0.: 1 longer than 8 tokens, 1 with a word of which no tok"
    with pytest.warns(SentencesLeftOut, match=said):
        encoded = encode_words([["abc", "d"], ["abcd"], ["e", "\u200b"], ["a"] * 9], tokenizer, 8)
    assert encoded.encoded.index.tolist() == [0, 1]
    assert (encoded.too_long, encoded.vanished) == ((3,), (2,))
    assert encoded.encoded.n_dropped == 2
    assert encoded.n_words.tolist() == [2, 1]
    assert encoded.words.tolist() == [-1, 0, 0, 1, -1, -1, 0, 0, 0, -1]
    (batch,) = encoded.encoded.batches(2)
    words = dict(zip(batch.index.tolist(), encoded.words_of(batch).tolist()))
    assert words == {0: [-1, 0, 0, 1, -1], 1: [-1, 0, 0, 0, -1]}


def test_words_of_a_padded_batch_with_rows_left_out(tokenizer):
    sentences = [["a"] * 9, ["ab", "c"], ["abcd", "e", "f"], ["i"]]
    with pytest.warns(SentencesLeftOut, match=r"1 of 4 .* number 0.*: 1 longer .* 0 with a word"):
        encoded = encode_words(sentences, tokenizer, 8)
    (batch,) = encoded.encoded.batches(3)
    assert batch.index.tolist() == [3, 1, 2]
    assert encoded.words_of(batch).tolist() == [
        [-1, 0, -1, -1, -1, -1, -1], [-1, 0, 1, -1, -1, -1, -1], [-1, 0, 0, 0, 1, 2, -1],
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["mean", "first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pooling_is_a_plain_loop(tokenizer, how, dtype):
    sentences = [["abc", "d", "abab"], ["ab"], ["j", "cde"]]
    encoded = encode_words(sentences, tokenizer, 20)
    (batch,) = encoded.encoded.batches(3)
    words = encoded.words_of(batch)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, *words.shape, 5, generator=generator).to(dtype)
    expected = []
    for row, sentence in enumerate(batch.index.tolist()):
        for word in range(len(sentences[sentence])):
            pieces = vectors[:, row, words[row] == word].double()
            expected.append(pieces.mean(1) if how == "mean" else pieces[:, 0])
    pooled = pool_words(vectors, words, how)
    assert pooled.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(pooled.double(), torch.stack(expected, 1), atol=1e-6, rtol=1e-6)
    assert torch.equal(pool_words(vectors[0], words, how), pooled[0])


def test_what_does_not_fit_is_refused(tokenizer):
    with pytest.raises(InputError, match="sentence 1: the tokenizer leaves nothing of word 0"):
        encode_words([["a"], ["\u200b", "b"]], tokenizer, 8, unfit="raise")
    with pytest.raises(InputError, match="sentence 1 has 11 tokens and 1 sentences are longer"):
        encode_words([["a"], ["b"] * 9], tokenizer, 8, unfit="raise")
    with pytest.raises(InputError, match="no sentence of 2 is left: 1 are longer than 4 tokens"):
        encode_words([["\u200b"], ["b"] * 9], tokenizer, 4)
    with pytest.raises(InputError, match="a sentence without words"):
        encode_words([["a"], []], tokenizer, 8)
    with pytest.raises(InputError, match="expected 'skip' or 'raise'"):
        encode_words([["a"]], tokenizer, 8, unfit="drop")
    with pytest.raises(InputError, match="pooling 'last' is unknown"):
        pool_words(torch.ones(1, 1, 1), torch.zeros(1, 1, dtype=torch.long), "last")


def test_a_tokenizer_without_padding_is_refused():
    inner = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare = PreTrainedTokenizerFast(tokenizer_object=inner)
    with pytest.raises(InputError, match="no padding token"):
        encode_words([["a"]], bare, 8)


@pytest.mark.parametrize("spaced", [True, False])
def test_a_byte_level_tokenizer_must_set_words_apart(spaced):
    merges = [("Ġ", "a"), ("Ġ", "b"), ("Ġa", "b")]
    pieces = ["a", "b", "Ġ", "Ġa", "Ġb", "Ġab", "[PAD]", "[UNK]"]
    inner = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]")
    if spaced:
        encoded = encode_words([["ab", "b", "a"]], tokenizer, 8)
        assert encoded.encoded.tokens.tolist() == [5, 4, 3]
        return
    with pytest.raises(InputError, match=r"runs words together.*add_prefix_space=True"):
        encode_words([["ab", "b", "a"]], tokenizer, 8)


def test_real_words_of_a_treebank_are_all_there(data_dir, minilm):
    from mechprobe.models import load_model
    from mechprobe.tasks.treebank import read_conllu

    path = data_dir / "treebank" / "en_ewt-ud-dev.conllu.xz"
    tokenizer = load_model(minilm).tokenizer
    assert tokenizer is not None
    sentences = read_conllu(path, limit=100)
    encoded = encode_words([s.words for s in sentences], tokenizer, 512, unfit="raise")
    (batch,) = encoded.encoded.batches(100)
    for row, words in zip(batch.index.tolist(), encoded.words_of(batch)):
        ids = batch.tokens[batch.index == row][0]
        for i, word in enumerate(sentences[row].words):
            pieces = tokenizer.decode(ids[words == i]).replace(" ", "")
            assert pieces == word.lower() or "[UNK]" in pieces or not word.isascii(), word
