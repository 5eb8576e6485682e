"""One pass gives what a plain run of each sentence gives, in memory or in a file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, build_encoder
from mechprobe.models.streams import run_with_streams, streams
from mechprobe.models.untrained import untrained_twin
from mechprobe.probes import ProbeSettings, bank_losses, fit_bank, topology_objective, word_vectors
from mechprobe.probes.structural import gold_profile
from mechprobe.tasks.batches import Batch, word_tokenizer
from mechprobe.tasks.treebank import Sentence, tree_depths
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.word_pieces import SentencesLeftOut

SENTENCES = generate_treebank(30, seed=2)


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def model(request):
    tokenizer = word_tokenizer(" ".join(s.words) for s in SENTENCES)
    build = build_encoder if request.param == "encoder" else build_decoder
    return build(
        n_layers=2, n_heads=2, d_model=8, n_ctx=32, tokenizer=tokenizer, seed=0, init_std=0.3
    )


def test_vectors_are_those_of_each_sentence_run_alone(model):
    found = word_vectors(model, SENTENCES, batch_size=7)
    assert found.streams == tuple(streams(model))
    assert found.values.shape == (7, sum(map(len, SENTENCES)), 8)
    assert found.sentences == tuple(SENTENCES)
    tokenizer = model.tokenizer
    for i, sentence in enumerate(SENTENCES):
        # "'s" is two tokens here: an apostrophe and an s
        pieces = [word.lower().replace("'s", "' s").split() for word in sentence.words]
        tokens = ["[CLS]", *(p for word in pieces for p in word), "[SEP]"]
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
        ones, zeros = torch.ones_like(ids), torch.zeros_like(ids)
        _, values = run_with_streams(
            model, Batch(ids, zeros, ones, zeros[0, :1], zeros[0, :1]), found.streams
        )
        ends = np.cumsum([1, *map(len, pieces)])
        for site, stream in enumerate(found.streams):
            own = found.values[site, found.starts[i] : found.starts[i + 1]]
            rows = [values[stream][0, a:b].mean(0) for a, b in pairwise(ends)]
            torch.testing.assert_close(own, torch.stack(rows), atol=1e-5, rtol=1e-5)


def test_a_mapped_file_holds_the_same(model, tmp_path, monkeypatch):
    mapped, plain = [], np.memmap

    def counted(file, *given, **how):
        mapped.append(file)
        return plain(file, *given, **how)

    monkeypatch.setattr(np, "memmap", counted)
    memory = word_vectors(model, SENTENCES).storage
    n_bytes = memory.numel() * 4
    word_vectors(model, SENTENCES, in_memory=n_bytes)
    assert not mapped
    nameless = word_vectors(model, SENTENCES, in_memory=n_bytes - 1)
    assert len(mapped) == 1
    named = word_vectors(model, SENTENCES, path=tmp_path / "vectors")
    assert torch.equal(nameless.storage, memory)
    assert torch.equal(named.storage, memory)
    on_disk = np.fromfile(tmp_path / "vectors", np.float32)
    np.testing.assert_array_equal(on_disk, memory.flatten().numpy())
    with pytest.raises(InputError, match="GiB of vectors do not fit"):
        word_vectors(model, SENTENCES, path=tmp_path / "absent" / "vectors")


def test_chosen_streams_and_first_pieces(model):
    every = word_vectors(model, SENTENCES)
    some = word_vectors(model, SENTENCES, wanted=["mlp_out.1", "resid.0"])
    assert torch.equal(some.storage, every.at(["mlp_out.1", "resid.0"]).storage)
    first = word_vectors(model, SENTENCES, pooling="first")
    apart = np.concatenate([["'" in word for word in s.words] for s in SENTENCES])
    same = (first.storage == every.storage).flatten(1).all(1).numpy()
    assert (same == ~apart).all()
    assert word_vectors(model, SENTENCES, wanted=["mlp_pre.0"]).values.shape[-1] == 32
    with pytest.raises(InputError, match="these streams differ in width"):
        word_vectors(model, SENTENCES, wanted=["resid.0", "mlp_pre.0"])
    with pytest.raises(InputError, match="no stream to read"):
        word_vectors(model, SENTENCES, wanted=[])


def test_sentences_that_do_not_fit_are_counted_or_refused(model):
    n = model.cfg.n_ctx
    long = Sentence(("doctor",) * n, tuple(range(-1, n - 1)), ("dep",) * n, ("NOUN",) * n)
    with pytest.warns(SentencesLeftOut, match="1 of 3 sentences are left out"):
        found = word_vectors(model, [SENTENCES[0], long, SENTENCES[1]])
    assert (found.index, found.too_long, found.vanished) == ((0, 2), (1,), ())
    assert found.sentences == tuple(SENTENCES[:2])
    with pytest.raises(InputError, match="sentence 1 has 34 tokens"):
        word_vectors(model, [SENTENCES[0], long], unfit="raise")
    bare = build_encoder(n_layers=1, n_heads=1, d_model=4, n_ctx=8, d_vocab=9)
    with pytest.raises(InputError, match="no tokenizer"):
        word_vectors(bare, SENTENCES)


def test_released_masking_makes_every_token_a_unit(model):
    found = word_vectors(model, SENTENCES, released_masking=True, batch_size=10)
    words = word_vectors(model, SENTENCES)
    assert found.storage.shape[0] == found.starts[-1] > words.storage.shape[0]
    n_padded = 0
    for i, sentence in enumerate(SENTENCES):
        of_unit = found.words[found.starts[i] : found.starts[i + 1]]
        assert set(of_unit.tolist()) == {-1, *range(len(sentence))}
        level = gold_profile(found)[i]
        depths = tree_depths(sentence.heads) + 1
        assert level.tolist() == [0 if w < 0 else depths[w] for w in of_unit]
        n_padded += (of_unit == -1).sum() > 2
        single = [w for w in range(len(sentence)) if (of_unit == w).sum() == 1]
        units = found.starts[i] + np.flatnonzero(np.isin(of_unit, single))
        torch.testing.assert_close(
            found.storage[units], words.storage[words.starts[i] + np.array(single)],
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip
    assert n_padded > 5
    start = ProbeSettings(lr=1e-12, epochs=1)
    bank = fit_bank(topology_objective("sp", rank=3), found, found, start)
    nu = torch.einsum("sud,sdr->sur", found.values, bank.params["B"]).square().sum(-1)
    gold = torch.from_numpy(np.concatenate(gold_profile(found)))
    expected = (nu - gold).square().mean(1)
    np.testing.assert_allclose(bank_losses(bank, found), expected, rtol=1e-4)


def test_an_untrained_twin_is_fresh_and_the_model_untouched(model):
    before = {name: value.clone() for name, value in model.named_parameters()}
    twin, again = untrained_twin(model, seed=1), untrained_twin(model, seed=1)
    kept = untrained_twin(model, seed=1, keep_embeddings=True)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
        new = dict(twin.named_parameters())[name]
        assert torch.equal(new, dict(again.named_parameters())[name])
        if value.std() > 0 and "W_" in name:
            assert not torch.equal(new, value)
            assert new.detach().std() == pytest.approx(0.02, rel=0.35)
            same = torch.equal(dict(kept.named_parameters())[name], value)
            assert same == name.startswith(("embed.", "pos_embed."))
    assert torch.isfinite(word_vectors(twin, SENTENCES).storage).all()
