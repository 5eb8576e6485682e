"""RoBERTa read as a BERT: positions, token types and heads keep their numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformer_lens import HookedEncoder
from transformers import (
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)

from mechprobe.errors import InputError
from mechprobe.models import HookedClassifier, forward, from_hf, load_model, to_hf

LABELS = ("entailment", "non-entailment")
PAD = 1  # as in the published models, whose first token stands at row 2 of the position table


@pytest.fixture
def roberta(tiny_hf):
    def build(kind, **settings):
        return tiny_hf(kind, **({"pad_token_id": PAD, "type_vocab_size": 1} | settings))

    return build


@pytest.fixture
def padded(make_batch):
    """Ragged rows whose padding is RoBERTa's; no real token is the padding token."""
    batch = make_batch(9, 4, 7)
    tokens = torch.where(batch.tokens == PAD, 5, batch.tokens)
    return replace(batch, tokens=torch.where(batch.attention_mask.bool(), tokens, PAD))


def theirs(module, batch):
    return module(batch.tokens, attention_mask=batch.attention_mask)


def close(ours: torch.Tensor, reference: torch.Tensor) -> None:
    torch.testing.assert_close(ours, reference, atol=2e-5, rtol=1e-5)


def test_a_classifier_keeps_its_numbers_there_and_back(roberta, padded, tmp_path):
    module = roberta(RobertaForSequenceClassification, id2label=dict(enumerate(LABELS)))
    ours = from_hf(module)
    assert isinstance(ours, HookedClassifier)
    assert ours.labels == LABELS
    assert ours.cfg.n_ctx == module.config.max_position_embeddings - 2
    logits = theirs(module, padded).logits
    close(forward(ours, padded), logits)
    swapped = replace(padded, segments=1 - padded.segments)
    assert torch.equal(forward(ours, swapped), forward(ours, padded))  # it has no segments
    as_bert = to_hf(ours)  # a BERT with the same numbers
    close(as_bert(padded.tokens, attention_mask=padded.attention_mask).logits, logits)
    module.save_pretrained(tmp_path)
    assert torch.equal(forward(load_model(tmp_path), padded), forward(ours, padded))


def test_the_longest_sequence_uses_the_last_position(roberta, make_batch):
    module = roberta(RobertaModel)
    batch = make_batch(module.config.max_position_embeddings - 2)
    batch.tokens.clamp_(min=2)
    close(forward(from_hf(module), batch), theirs(module, batch).last_hidden_state)


def test_masked_lm_and_pooler_are_kept(roberta, padded):
    real = padded.attention_mask.bool()
    module = roberta(RobertaForMaskedLM)
    ours = from_hf(module)
    assert isinstance(ours, HookedEncoder)
    close(forward(ours, padded)[real], theirs(module, padded).logits[real])
    bare = roberta(RobertaModel)
    encoder = from_hf(bare)
    close(forward(encoder, padded)[real], theirs(bare, padded).last_hidden_state[real])
    resid = encoder.encoder_output(padded.tokens, one_zero_attention_mask=padded.attention_mask)
    close(encoder.pooler(resid), theirs(bare, padded).pooler_output)


def test_labels_give_a_masked_lm_a_fresh_head(roberta, tmp_path, padded):
    module = roberta(RobertaForMaskedLM)
    module.save_pretrained(tmp_path)
    one, same, other = (load_model(tmp_path, labels=LABELS, seed=seed) for seed in (1, 1, 2))
    assert isinstance(one, HookedClassifier)
    assert torch.equal(forward(one, padded), forward(same, padded))
    assert not torch.equal(one.pooler.W, other.pooler.W)
    hidden = one.encoder_output(padded.tokens, padded.segments, padded.attention_mask)
    real = padded.attention_mask.bool()
    close(hidden[real], theirs(module.roberta, padded).last_hidden_state[real])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"is_decoder": True}, "used as a decoder"),
        ({"type_vocab_size": 3}, "3 token types"),
        ({"max_position_embeddings": 2}, "2 positions has none after its padding id 1"),
        ({"pad_token_id": None}, "counts positions from its pad_token_id"),
    ],
)
def test_what_cannot_be_represented_is_refused(settings, message, roberta):
    with pytest.raises(InputError, match=message):
        from_hf(roberta(RobertaModel, **settings))


def test_padding_on_the_left_is_refused(roberta, tokenizer):
    tokenizer.padding_side = "left"
    with pytest.raises(InputError, match="tokenizer pads on the left"):
        from_hf(roberta(RobertaModel), tokenizer)
