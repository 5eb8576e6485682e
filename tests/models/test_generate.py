"""Greedy decoding against Hugging Face's own, plain and with closed heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from mechprobe.errors import InputError
from mechprobe.models import (
    build_classifier,
    build_decoder,
    build_encoder_decoder,
    forward,
    from_hf,
    generate,
)
from mechprobe.sites import Site
from mechprobe.tasks import Seq2SeqBatch, seq2seq_batch

EOS, PAD, NEW = 1, 0, 12


@pytest.fixture(scope="module")
def t5() -> T5ForConditionalGeneration:
    module = T5ForConditionalGeneration(T5Config(
        vocab_size=12, d_model=16, d_kv=4, d_ff=20, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=PAD,
    )).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.6 * draw + float("layer_norm" in name))
    return module


@pytest.fixture(scope="module")
def sources() -> Seq2SeqBatch:
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randint(2, 12, (3 + i % 5,), generator=generator).tolist() for i in range(16)]
    return seq2seq_batch(rows, [[]] * 16)


def by_hf(module: T5ForConditionalGeneration, batch: Seq2SeqBatch) -> Tensor:
    out = module.generate(
        input_ids=batch.tokens, attention_mask=batch.attention_mask, do_sample=False, num_beams=1,
        max_new_tokens=NEW, eos_token_id=EOS, pad_token_id=PAD,
    )  # fmt: skip
    return out[:, 1:]


def test_an_encoder_decoder_writes_what_hugging_face_writes(t5, sources):
    expected = by_hf(t5, sources)
    got = generate(from_hf(t5), sources, NEW, eos=EOS)
    assert torch.equal(got, expected)
    ends = (expected == EOS).any(1)
    assert ends.any()  # some rows stop, some do not, and not all write the same
    assert not ends.all()
    assert len(expected.unique(dim=0)) > 4


def test_closed_heads_write_what_the_cut_module_writes(t5, sources):
    ours = from_hf(t5)
    weights = {name: w.clone() for name, w in t5.state_dict().items()}
    before = generate(ours, sources, NEW, eos=EOS)
    for stack, part in (
        ("enc", t5.encoder.block[1].layer[0].SelfAttention),
        ("dec", t5.decoder.block[0].layer[0].SelfAttention),
        ("cross", t5.decoder.block[1].layer[1].EncDecAttention),
    ):
        site = Site("head", 0 if stack == "dec" else 1, 2, stack)
        got = generate(ours, sources, NEW, eos=EOS, edits={site: torch.zeros_like})
        with torch.no_grad():
            part.o.weight[:, 8:12].zero_()
        expected = by_hf(t5, sources)
        t5.load_state_dict(weights)
        assert torch.equal(got, expected), stack
        assert got.shape != before.shape or not torch.equal(got, before), stack


def test_greedy_equals_the_target_exactly_where_teacher_forcing_does(t5, sources):
    ours = from_hf(t5)
    written = [
        row[: row.tolist().index(EOS) + 1].tolist() if EOS in row.tolist() else row.tolist()
        for row in generate(ours, sources, NEW, eos=EOS)
    ]
    wrong = [[*row[:-1], (row[-1] + 1) % 12] if i % 2 else row for i, row in enumerate(written)]
    rows = [row[m.bool()].tolist() for row, m in
            zip(sources.tokens, sources.attention_mask, strict=True)]
    batch = seq2seq_batch(rows, wrong)
    right = forward(ours, batch)[:, :-1].argmax(-1) == batch.decoder_tokens[:, 1:]
    exact = (right | ~batch.decoder_mask[:, 1:].bool()).all(1)
    assert exact.tolist() == [i % 2 == 0 for i in range(16)]
    # only the start token of such a batch is read
    assert torch.equal(generate(ours, batch, NEW, eos=EOS), generate(ours, sources, NEW, eos=EOS))


def test_a_decoder_writes_what_hugging_face_writes(hf_gpt2: GPT2LMHeadModel, make_batch):
    lengths = (7, 3, 5, 1)
    batch = make_batch(*lengths)
    got = generate(from_hf(hf_gpt2), batch, 9, eos=EOS)
    finished = []
    for row, length in enumerate(lengths):
        alone = batch.tokens[row : row + 1, :length]
        out = hf_gpt2.generate(
            alone, attention_mask=torch.ones_like(alone), do_sample=False, max_new_tokens=9,
            eos_token_id=EOS, pad_token_id=PAD,
        )[0, length:]  # fmt: skip
        assert got[row, : len(out)].tolist() == out.tolist()
        assert (got[row, len(out) :] == PAD).all()
        finished.append(len(out))
    assert got.shape[1] == max(finished)


def test_rows_end_at_eos_and_stay_ended(t5, sources):
    ours = from_hf(t5)
    free = generate(ours, sources, NEW)
    assert free.shape == (16, NEW)
    for eos in free.unique().tolist()[:4]:
        got = generate(ours, sources, NEW, eos=eos, pad=99)
        for row, whole in zip(got.tolist(), free.tolist(), strict=True):
            end = whole.index(eos) + 1 if eos in whole else NEW
            assert row == (whole[:end] + [99] * NEW)[: len(row)]
        needed = max(row.index(eos) + 1 if eos in row else NEW for row in free.tolist())
        assert got.shape[1] == needed


def test_the_tokenizer_says_where_rows_end(tokenizer):
    model = build_encoder_decoder(
        n_layers=1, n_heads=2, d_model=16, tokenizer=tokenizer, seed=5, d_vocab=15
    )
    batch = seq2seq_batch([[5, 6], [7]], [[], []], start=tokenizer.pad_token_id)
    with torch.no_grad():
        model.unembed.b_U[tokenizer.eos_token_id] = 50.0
    assert generate(model, batch, 4).tolist() == [[tokenizer.eos_token_id]] * 2
    assert generate(model, batch, 4, eos=-1).shape == (2, 4)


def test_a_batch_without_a_decoder_side_starts_from_the_models_start_token(t5, sources, make_batch):
    ours = from_hf(t5)
    plain = make_batch(4, 3)
    plain.tokens.remainder_(12)
    with_start = seq2seq_batch(
        [row[m.bool()].tolist() for row, m in
         zip(plain.tokens, plain.attention_mask, strict=True)], [[], []], start=PAD
    )  # fmt: skip
    assert torch.equal(generate(ours, plain, 5), generate(ours, with_start, 5))
    other = replace(sources, decoder_tokens=torch.full_like(sources.decoder_tokens, 9))
    assert not torch.equal(generate(ours, other, NEW), generate(ours, sources, NEW))


def test_edits_may_depend_on_the_batch_as_it_grows(t5, sources):
    seen = []

    def edits(batch):
        seen.append(batch.decoder_mask.sum(1).tolist())
        return {Site("head", 0, 0, "dec"): torch.zeros_like}

    got = generate(from_hf(t5), sources, 6, eos=EOS, edits=edits)
    fixed = generate(
        from_hf(t5), sources, 6, eos=EOS, edits={Site("head", 0, 0, "dec"): torch.zeros_like}
    )
    assert torch.equal(got, fixed)
    # rows that have ended grow no further
    for step, lengths in enumerate(seen):
        for row, length in zip(got.tolist(), lengths, strict=True):
            written = row[:step]
            assert length == 1 + (written.index(EOS) if EOS in written else step)


def test_what_cannot_write_is_refused(make_batch):
    batch = make_batch(5, 3)
    sizes = {"n_layers": 1, "n_heads": 2, "d_model": 16, "n_ctx": 8, "d_vocab": 40}
    decoder = build_decoder(**sizes)
    with pytest.raises(InputError, match="a HookedClassifier writes no text"):
        generate(build_classifier(("a", "b"), None, **sizes), batch, 2)
    with pytest.raises(InputError, match="0 new tokens asked for"):
        generate(decoder, batch, 0)
    with pytest.raises(InputError, match=r"more than the 8 this decoder reads; ask for at most 4"):
        generate(decoder, batch, 5)
    assert generate(decoder, batch, 4).shape == (2, 4)
    left = replace(batch, attention_mask=batch.attention_mask.flip(1))
    with pytest.raises(InputError, match="pad them on the right"):
        generate(decoder, left, 2)
