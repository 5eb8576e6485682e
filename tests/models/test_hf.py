"""Conversion to and from Hugging Face keeps the numbers, the labels and the source."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformer_lens import HookedEncoder, HookedTransformer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from mechprobe.errors import InputError
from mechprobe.models import HookedClassifier, build_classifier, forward, from_hf, to_hf

LABELS = ("entailment", "neutral", "contradiction")


def run_hf(module, batch):
    return module(batch.tokens, attention_mask=batch.attention_mask, token_type_ids=batch.segments)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def tiny(**settings) -> BertConfig:
    sizes = {
        "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 24, "initializer_range": 0.2,
    }  # fmt: skip
    return BertConfig(**(sizes | settings))


def test_there_and_back_again_is_exact(hf_classifier, make_batch):
    batch = make_batch(9, 4)
    ours = from_hf(hf_classifier)
    assert isinstance(ours, HookedClassifier)
    assert ours.labels == LABELS
    close(forward(ours, batch), run_hf(hf_classifier, batch).logits)
    back = to_hf(ours)
    assert isinstance(back, BertForSequenceClassification)
    assert not back.training
    theirs = hf_classifier.state_dict()
    assert back.state_dict().keys() == theirs.keys()
    for name, weight in back.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    assert back.config.id2label == dict(enumerate(LABELS))
    again = from_hf(back)
    assert torch.equal(forward(again, batch), forward(ours, batch))


def test_a_model_of_ours_goes_to_hugging_face(tokenizer, make_batch, sizes):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        ours = build_classifier(
            ("a", "b"), tokenizer, **sizes, d_mlp=48, act="gelu_new", dtype=dtype, init_std=0.3
        )
        module = to_hf(ours)
        batch = make_batch(9, 4)
        torch.testing.assert_close(
            run_hf(module, batch).logits, forward(ours, batch), atol=tolerance, rtol=0
        )
        assert module.config.pad_token_id == tokenizer.pad_token_id
        assert module.config.label2id == {"a": 0, "b": 1}


def test_conversion_draws_no_random_numbers_and_copies_weights(hf_classifier, make_batch):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    ours = from_hf(hf_classifier)
    module = to_hf(ours)
    from_hf(hf_classifier.bert, labels=LABELS)
    assert torch.equal(torch.rand(2), expected)
    batch = make_batch(5)
    before = forward(ours, batch).detach()
    with torch.no_grad():
        for weights in (hf_classifier, module):
            for parameter in weights.parameters():
                parameter.zero_()
    assert torch.equal(forward(ours, batch), before)


@pytest.mark.parametrize(
    "activation", ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu"]
)
def test_activations_are_hugging_faces_own(activation, make_batch):
    torch.manual_seed(0)
    batch = make_batch(9, 4)
    module = BertForSequenceClassification(tiny(hidden_act=activation)).eval().double()
    ours = forward(from_hf(module), batch)
    torch.testing.assert_close(ours, run_hf(module, batch).logits, atol=1e-10, rtol=0)
    config = GPT2Config(
        vocab_size=40, n_positions=24, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2,
        activation_function=activation,
    )  # fmt: skip
    decoder = GPT2LMHeadModel(config).eval().double()
    torch.testing.assert_close(
        forward(from_hf(decoder), batch)[0], decoder(batch.tokens).logits[0], atol=1e-10, rtol=0
    )


def test_gelu_variants_are_told_apart(make_batch):
    torch.manual_seed(0)
    module = BertForSequenceClassification(tiny()).eval().double()
    exact = forward(from_hf(module), make_batch(9))
    module.config.hidden_act = "gelu_new"
    assert (forward(from_hf(module), make_batch(9)) - exact).abs().max() > 1e-6


def test_gpt2_variants_keep_their_numbers(make_batch):
    torch.manual_seed(0)
    batch = make_batch(9)
    config = GPT2Config(
        vocab_size=40, n_positions=24, n_embd=32, n_layer=3, n_head=4, initializer_range=0.3,
        scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False,
    )  # fmt: skip
    module = GPT2LMHeadModel(config).eval()
    ours = from_hf(module)
    assert isinstance(ours, HookedTransformer)
    close(forward(ours, batch), module(batch.tokens).logits)


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining])
def test_masked_lm_heads_are_kept(kind, make_batch):
    torch.manual_seed(0)
    batch = make_batch(9, 4)
    module = kind(tiny()).eval()
    ours = from_hf(module)
    assert isinstance(ours, HookedEncoder)
    theirs = run_hf(module, batch)
    logits = theirs.logits if kind is BertForMaskedLM else theirs.prediction_logits
    close(forward(ours, batch), logits)
    if kind is BertForPreTraining:
        resid = ours.encoder_output(batch.tokens, batch.segments, batch.attention_mask)
        close(ours.nsp_head(ours.pooler(resid)), theirs.seq_relationship_logits)


def test_a_bert_without_heads_gives_hidden_states(hf_bert, make_batch):
    batch = make_batch(9, 4)
    close(forward(from_hf(hf_bert), batch)[0], run_hf(hf_bert, batch).last_hidden_state[0])


def test_a_bert_and_labels_give_a_fresh_seeded_classifier(hf_bert, make_batch):
    batch = make_batch(9, 4)
    one, same, other = (from_hf(hf_bert, labels=LABELS, seed=seed) for seed in (1, 1, 2))
    assert isinstance(one, HookedClassifier)
    assert torch.equal(forward(one, batch), forward(same, batch))
    assert not torch.equal(forward(one, batch), forward(other, batch))
    caught = []
    one.hook_pooled.register_forward_hook(lambda m, i, out: caught.append(out))
    forward(one, batch)
    close(caught[0], run_hf(hf_bert, batch).pooler_output)  # the trained pooler is kept


def test_a_bert_without_pooler_gets_a_fresh_one(make_batch):
    torch.manual_seed(0)
    module = BertModel(tiny(), add_pooling_layer=False).eval()
    one, other = (from_hf(module, labels=LABELS, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.pooler.W, other.pooler.W)
    assert torch.isfinite(forward(one, make_batch(5))).all()
    close(forward(from_hf(module), make_batch(5)), run_hf(module, make_batch(5)).last_hidden_state)


def test_labels_must_fit_a_trained_head(hf_classifier):
    renamed = from_hf(hf_classifier, labels=("e", "n", "c"))
    assert renamed.labels == ("e", "n", "c")
    with pytest.raises(InputError, match=r"2 labels \('e', 'n'\) for a model with 3 outputs"):
        from_hf(hf_classifier, labels=("e", "n"))
    with pytest.raises(InputError, match="two or more"):
        from_hf(BertForSequenceClassification(tiny(num_labels=1)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=9)),  # noqa: E501
         "DistilBertModel cannot be converted; supported are BertForSequenceClassification"),
        (nn.Linear(2, 2), "a Linear cannot be converted"),
        (BertModel(tiny(hidden_act="mish")), "activation 'mish' is not supported; known: "),
        (BertModel(tiny(is_decoder=True)), "BERT used as a decoder"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused(module, message):
    with pytest.raises(InputError, match=message):
        from_hf(module)


def test_weights_of_two_dtypes_are_refused(hf_bert):
    hf_bert.embeddings.half()
    with pytest.raises(InputError, match=r"more than one dtype.*module\.float\(\)"):
        from_hf(hf_bert)
