import gzip
import lzma

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.corpus import corpus_files, read_sentences, token_stream
from mechprobe.tasks.vocabulary import train_tokenizer

TEXT = 'The cat sat. "Did it sleep?" It did!\n\n  \nMr. Brown saw  the dog. 12 34\n'


def test_files_plain_and_packed_give_sentences(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(TEXT.encode()))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "d.csv").write_text("no text")
    files = corpus_files([tmp_path])
    assert [f.name for f in files] == ["a.txt", "b.txt.xz", "c.txt.gz"]
    found = [list(read_sentences([f])) for f in files]
    assert found[0] == found[1] == found[2]
    assert found[0] == ["The cat sat.", '"Did it sleep?"', "It did!", "Mr.",
                        "Brown saw the dog. 12 34"]
    assert list(read_sentences(files[:1], split=False, lower=True)) == [
        'the cat sat. "did it sleep?" it did!', "mr. brown saw the dog. 12 34"
    ]


def test_what_is_no_text_is_named(tmp_path):
    with pytest.raises(InputError, match="no text in"):
        corpus_files([tmp_path])
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=r"x\.txt cannot be read"):
        list(read_sentences([tmp_path / "x.txt"]))


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_vocabularies_keep_their_size_and_bpe_knows_every_text(kind):
    texts = [f"word{i % 50} walks {'slowly' * (i % 3)}" for i in range(200)]
    tokenizer = train_tokenizer(texts, kind, 320)
    assert len(tokenizer) <= 320
    assert tokenizer.bos_token_id is not None
    ids = tokenizer("zürich walks", add_special_tokens=False)["input_ids"]
    assert (tokenizer.unk_token_id in ids) == (kind == "word")
    if kind == "bpe":
        assert tokenizer.decode(ids).strip() == "zürich walks"
    with pytest.raises(InputError, match="is too small"):
        train_tokenizer(texts, kind, 3)
    with pytest.raises(InputError, match="unknown vocabulary"):
        train_tokenizer(texts, "letters", 300)


def test_held_out_sentences_are_not_trained_on():
    texts = [f"alpha{i % 700} beta{i % 11} gamma{i % 13}" for i in range(4_000)]
    tokenizer = train_tokenizer(texts, "word", 5_000)
    stream = token_stream(texts, tokenizer, held_out=0.1)

    def sentences(ids: np.ndarray) -> list[tuple[int, ...]]:
        ends = np.flatnonzero(ids == stream.bos).tolist()
        return [tuple(ids[a + 1 : b]) for a, b in zip(ends, [*ends[1:], len(ids)], strict=True)]

    train, rest = sentences(stream.train), sentences(stream.held_out)
    assert not set(train) & set(rest)
    assert len(train) + len(rest) == 4_000
    assert 0.05 < len(rest) / 4_000 < 0.15
    with pytest.raises(InputError, match="leave 0 to hold out"):
        token_stream(["one line"] * 50, tokenizer)


def test_batches_depend_on_seed_and_step_alone():
    texts = [f"alpha{i} beta" for i in range(500)]
    stream = token_stream(texts, train_tokenizer(texts, "word", 900), held_out=0.1)
    first = stream.batch(7, 4, 10, seed=1)
    assert first.shape == (4, 11)
    assert first.equal(stream.batch(7, 4, 10, seed=1))
    assert not first.equal(stream.batch(8, 4, 10, seed=1))
    rows = stream.held_out_rows(10, 3)
    assert rows.flatten().tolist() == stream.held_out[:30].tolist()
    with pytest.raises(InputError, match="make no row of"):
        stream.held_out_rows(10_000, 1)
