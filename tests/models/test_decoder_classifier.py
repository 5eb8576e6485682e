"""A classifier on a decoder: what it reads, how it is built, and that it can be used as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from mechprobe.errors import InputError
from mechprobe.models import (
    HookedDecoderClassifier,
    build_decoder,
    build_decoder_classifier,
    forward,
    from_hf,
    load_model,
    run_with_edits,
    save_model,
    site_grid,
)
from mechprobe.sites import Site

LABELS = ("entailment", "non-entailment")


@pytest.fixture
def classifier(sizes, tokenizer) -> HookedDecoderClassifier:
    return build_decoder_classifier(LABELS, tokenizer, **sizes, seed=3, d_mlp=24, init_std=0.3)


def by_hand(decoder, model, batch) -> torch.Tensor:
    """The last real token's final residual stream of a language model, through a linear layer."""
    _, cache = decoder.run_with_cache(batch.tokens, attention_mask=batch.attention_mask)
    rows = []
    for row, length in enumerate(batch.attention_mask.sum(1).tolist()):
        resid = decoder.ln_final(cache["resid_post", -1])[row, length - 1]
        rows.append(resid @ model.classifier.weight.T + model.classifier.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("positions", ["standard", "rotary"])
def test_it_reads_the_last_real_token(positions, sizes, make_batch):
    batch = make_batch(9, 1, 6, pad_to=12)
    decoder = build_decoder(**sizes, seed=5, init_std=0.3, positional_embedding_type=positions)
    model = load_model(decoder, labels=LABELS, seed=1)
    torch.testing.assert_close(forward(model, batch), by_hand(decoder, model, batch))
    everything = replace(batch, attention_mask=torch.ones_like(batch.tokens))
    torch.testing.assert_close(model(batch.tokens), by_hand(decoder, model, everything))


def test_later_tokens_and_segments_change_nothing_earlier_ones_do(classifier, make_batch):
    batch = make_batch(7, pad_to=9)
    logits = forward(classifier, batch)
    other = batch.tokens.clone()
    other[:, 7:] = 11
    turned = replace(batch, tokens=other, segments=1 - batch.segments)
    torch.testing.assert_close(forward(classifier, turned), logits)
    other[:, 0] = (other[:, 0] + 1) % 15
    assert (forward(classifier, replace(batch, tokens=other)) - logits).abs().max() > 1e-3


def test_padding_on_the_left_is_padding_too(classifier, make_batch):
    batch = make_batch(6)
    left = replace(
        batch,
        tokens=torch.cat([torch.zeros(1, 3, dtype=torch.long), batch.tokens], 1),
        attention_mask=torch.cat([torch.zeros(1, 3, dtype=torch.long), batch.attention_mask], 1),
        segments=torch.zeros(1, 9, dtype=torch.long),
    )
    torch.testing.assert_close(forward(classifier, left), forward(classifier, batch))


def test_weights_depend_on_the_seed_and_on_nothing_else(sizes, make_batch):
    def build(seed: int) -> torch.Tensor:
        return forward(build_decoder_classifier(LABELS, **sizes, seed=seed), make_batch(5))

    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = build(1)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, build(1))
    assert not torch.equal(first, build(2))
    settings = {"kind": "decoder_classifier", "labels": LABELS, **sizes}
    assert torch.equal(forward(load_model(settings, seed=1), make_batch(5)), first)


def test_it_comes_back_whole(classifier, tmp_path, make_batch, tokenizer):
    again = load_model(save_model(classifier, tmp_path / "m"))
    assert isinstance(again, HookedDecoderClassifier)
    assert again.labels == LABELS
    assert torch.equal(forward(again, make_batch(9, 4)), forward(classifier, make_batch(9, 4)))
    assert dict(again.tokenizer("a b", "c")) == dict(tokenizer("a b", "c"))
    assert load_model(tmp_path / "m", labels=("x", "y")).labels == ("x", "y")
    with pytest.raises(InputError, match="3 labels"):
        load_model(tmp_path / "m", labels=("x", "y", "z"))


def test_dtype_moves_everything(classifier, make_batch):
    batch = make_batch(9, 4)
    expected = forward(classifier, batch).double()
    moved = load_model(classifier, dtype=torch.float64)
    assert moved.cfg.dtype == torch.float64
    assert {p.dtype for p in moved.parameters()} == {torch.float64}
    torch.testing.assert_close(forward(moved, batch), expected, atol=1e-5, rtol=1e-5)


def test_bfloat16_autocast_keeps_float32_logits(classifier, make_batch):
    with torch.autocast("cpu", torch.bfloat16):
        assert forward(classifier, make_batch(9, 4)).dtype == torch.float32


def test_every_weight_learns_and_every_site_can_be_closed(classifier, make_batch):
    batch = make_batch(9, 4)
    open_logits = forward(classifier, batch)
    open_logits.sin().sum().backward()
    still = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    # a key's bias moves all scores of a query alike
    assert [name for name in still if not name.endswith("b_K")] == []
    for site in site_grid(classifier):
        closed = run_with_edits(classifier, batch, {site: torch.zeros_like})
        assert (closed - open_logits).abs().max() > 1e-4, site
    seen = []
    classifier.hook_pooled.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    run_with_edits(classifier, batch, {Site("head", 0): torch.zeros_like})
    assert seen == [(2, 32)]


def test_a_decoder_of_hugging_face_becomes_one(tiny_hf, make_batch):
    module = tiny_hf(LlamaForCausalLM)
    batch = make_batch(9, 4)
    model = from_hf(module, labels=LABELS, seed=2)
    assert isinstance(model, HookedDecoderClassifier)
    hidden = module.model(batch.tokens, attention_mask=batch.attention_mask).last_hidden_state
    expected = hidden[torch.arange(2), torch.tensor([8, 3])] @ model.classifier.weight.T
    torch.testing.assert_close(forward(model, batch), expected, atol=2e-5, rtol=1e-5)


def test_what_cannot_work_is_refused(classifier, sizes, make_batch):
    with pytest.raises(InputError, match="25 tokens, but the model reads at most 24"):
        forward(classifier, make_batch(25))
    with pytest.raises(InputError, match="two or more different"):
        build_decoder_classifier(("a",), **sizes)
    with pytest.raises(InputError, match="alibi positions is not supported"):
        build_decoder_classifier(LABELS, **sizes, positional_embedding_type="alibi")
