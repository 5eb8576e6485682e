import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from mechprobe.errors import InputError
from mechprobe.tasks import PairExamples, encode_pairs, word_tokenizer

WORDS = ["the", "doctor", "judge", "helped", "thanked", "near", "slept", ",", "who"]


def random_pairs(n: int, longest: int = 9, seed: int = 0) -> PairExamples:
    rng = np.random.default_rng(seed)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(1, longest + 1)))

    return PairExamples(
        first=tuple(sentence() for _ in range(n)),
        second=tuple(sentence() for _ in range(n)),
        label=rng.integers(0, 2, size=n),
        labels=("yes", "no"),
        group=("",) * n,
        name="toy",
    )


TOKENIZER = word_tokenizer([" ".join(WORDS)])


@pytest.mark.parametrize("shuffle_seed", [None, 4])
def test_every_row_comes_once_padded_only_to_its_batch(shuffle_seed):
    pairs = random_pairs(107)
    batches = encode_pairs(pairs, TOKENIZER, 40).batches(8, shuffle_seed=shuffle_seed)
    assert sorted(i for b in batches for i in b.index.tolist()) == list(range(107))
    for batch in batches:
        assert batch.tokens.shape[1] == batch.attention_mask.sum(dim=1).max()
        for row in range(len(batch)):
            i = int(batch.index[row])
            expected = TOKENIZER(pairs.first[i], pairs.second[i])
            real = batch.attention_mask[row].bool()
            assert batch.tokens[row][real].tolist() == expected["input_ids"]
            assert batch.segments[row][real].tolist() == expected["token_type_ids"]
            assert (batch.tokens[row][~real] == TOKENIZER.pad_token_id).all()
            assert int(batch.labels[row]) == pairs.label[i]


def test_buckets_waste_less_than_batches_in_random_order():
    encoded = encode_pairs(random_pairs(400), TOKENIZER, 40)
    lengths = np.random.default_rng(0).permutation(encoded.lengths)
    random_order = sum(8 * lengths[i : i + 8].max() for i in range(0, 400, 8))
    bucketed = sum(b.tokens.numel() for b in encoded.batches(8, shuffle_seed=0))
    assert bucketed < 0.85 * random_order
    assert bucketed >= encoded.lengths.sum()


def test_the_shuffle_seed_reproduces_and_decides():
    encoded = encode_pairs(random_pairs(60), TOKENIZER, 40)

    def order(seed: int) -> list[int]:
        return [i for b in encoded.batches(7, shuffle_seed=seed) for i in b.index.tolist()]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_drop_last_leaves_only_full_batches_and_not_always_out_of_the_same_rows():
    encoded = encode_pairs(random_pairs(30), TOKENIZER, 40)
    left_out = set()
    for seed in range(6):
        batches = encoded.batches(8, shuffle_seed=seed, drop_last=True)
        assert [len(b) for b in batches] == [8, 8, 8]
        seen = {i for b in batches for i in b.index.tolist()}
        assert len(seen) == 24
        left_out |= set(range(30)) - seen
    assert len(left_out) > 6


def test_long_pairs_are_cut_counted_dropped_or_refused():
    pairs = random_pairs(50)
    full = encode_pairs(pairs, TOKENIZER, 100)
    long = int((full.lengths > 12).sum())
    assert full.n_truncated == 0
    assert 0 < long < 50
    cut = encode_pairs(pairs, TOKENIZER, 12)
    assert (cut.n_truncated, len(cut), cut.lengths.max()) == (long, 50, 12)
    dropped = encode_pairs(pairs, TOKENIZER, 12, too_long="drop")
    assert (dropped.n_dropped, len(dropped)) == (long, 50 - long)
    assert (dropped.labels == pairs.label[dropped.index]).all()
    with pytest.raises(InputError, match=rf"{long} rows are longer than max_length=12"):
        encode_pairs(pairs, TOKENIZER, 12, too_long="raise")


def test_mistakes_are_named():
    pairs = random_pairs(3)
    with pytest.raises(InputError, match="batch size 0"):
        encode_pairs(pairs, TOKENIZER, 40).batches(0)
    bare = word_tokenizer(["a"])
    bare.pad_token = None
    with pytest.raises(InputError, match=r"set tokenizer\.pad_token"):
        encode_pairs(pairs, bare, 40)
    with pytest.raises(InputError, match="no words"):
        word_tokenizer([])


def test_a_batch_moves_whole():
    batch = encode_pairs(random_pairs(4), TOKENIZER, 40).batches(4)[0].to("meta")
    assert {t.device.type for t in vars(batch).values()} == {"meta"}
    assert len(batch) == 4


def test_no_examples_give_no_batches():
    assert encode_pairs(random_pairs(5).take([]), TOKENIZER, 40).batches(4) == []


def test_word_tokenizer_equals_berts_own_on_the_same_vocabulary(tmp_path):
    texts = ["The doctor, who slept, helped.", "the judge THANKED the doctor!"]
    tokenizer = word_tokenizer(texts)
    vocabulary = tmp_path / "vocab.txt"
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    vocabulary.write_text("\n".join(word for word, _ in by_id))
    bert = BertTokenizer(str(vocabulary), do_lower_case=True)
    for first, second in [tuple(texts), ("the unseen doctor", "slept")]:
        ours, theirs = tokenizer(first, second), bert(first, second)
        assert ours["input_ids"] == theirs["input_ids"]
        assert ours["token_type_ids"] == theirs["token_type_ids"]


def test_word_tokenizer_does_not_depend_on_the_order_of_the_texts():
    texts = ["b a", "c a d", "e"]
    assert word_tokenizer(texts).get_vocab() == word_tokenizer(texts[::-1]).get_vocab()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [word_tokenizer(texts).get_vocab()[t] for t in special] == [0, 1, 2, 3, 4]
    assert torch.equal(
        torch.tensor(word_tokenizer(texts)("a b")["input_ids"]), torch.tensor([2, 5, 6, 3])
    )
