"""The engine on every Hugging Face architecture that can be opened, weights drawn anew.

Open gates against Hugging Face's own logits; closed, half-open and open ones against hooks and
autograd. Batches are padded.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers as hf

from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.gates.reference import gated_logits
from mechprobe.models import from_hf, site_grid
from mechprobe.tasks.batches import Seq2SeqBatch

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}
BERT = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 24, "max_position_embeddings": 12}  # fmt: skip
LLAMA = BERT | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 12}
T5 = {"vocab_size": 20, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6,
      "pad_token_id": 0, "decoder_start_token_id": 0}  # fmt: skip
T5_1_1 = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
NO_PAD = {"pad_token_id": 0}
MODULES = {
    "bert, classifier": (hf.BertForSequenceClassification, hf.BertConfig, BERT),
    "bert, masked lm": (hf.BertForMaskedLM, hf.BertConfig, BERT),
    "roberta, classifier": (
        hf.RobertaForSequenceClassification, hf.RobertaConfig,
        BERT | {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 14},
    ),
    "roberta, masked lm": (
        hf.RobertaForMaskedLM, hf.RobertaConfig,
        BERT | {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 14},
    ),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config, GPT2),
    "gpt2, classifier": (hf.GPT2ForSequenceClassification, hf.GPT2Config, GPT2 | NO_PAD),
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, LLAMA),
    "llama, classifier": (hf.LlamaForSequenceClassification, hf.LlamaConfig, LLAMA | NO_PAD),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, LLAMA | {"sliding_window": None}),
    "neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, BERT | {"rotary_pct": 0.5}),
    "neox, classifier": (
        hf.GPTNeoXForSequenceClassification, hf.GPTNeoXConfig,
        BERT | NO_PAD | {"rotary_pct": 0.5},
    ),
    "t5 1.0": (hf.T5ForConditionalGeneration, hf.T5Config, T5),
    "t5 1.1": (hf.T5ForConditionalGeneration, hf.T5Config, T5_1_1),
}  # fmt: skip


@pytest.fixture
def opened(random_batch):
    """A Hugging Face module with weights and biases that all show, and a padded batch for it."""

    def make(name, dtype):
        kind, config, settings = MODULES[name]
        module = kind(config(**settings, attn_implementation="eager")).to(dtype).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for key, weight in module.named_parameters():
                draw = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                norm = weight.dim() == 1 and key.endswith("weight")
                # T5 does not scale its scores: smaller weights keep its softmax off the corners
                weight.copy_((0.2 if name.startswith("t5") else 0.3) * draw + norm)
        batch = random_batch(7, 4, 6)
        tokens = batch.tokens.clamp(min=2).where(batch.attention_mask.bool(), torch.tensor(1))
        if "classifier" in name and "bert" not in name:
            tokens = tokens.where(batch.attention_mask.bool(), torch.tensor(0))
        batch = replace(batch, tokens=tokens)
        if name.startswith("t5"):
            other = random_batch(5, 3, 4, seed=1)
            batch = Seq2SeqBatch(
                batch.tokens, batch.segments, batch.attention_mask, batch.labels, batch.index,
                other.tokens, other.attention_mask,
            )
        return module, batch

    return make


@torch.no_grad()
def theirs(module, batch):
    """Hugging Face's logits, and which of them are of real positions."""
    if isinstance(batch, Seq2SeqBatch):
        logits = module(
            input_ids=batch.tokens, attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_tokens,
        ).logits
        return logits, batch.decoder_mask.bool()
    more = {"token_type_ids": batch.segments} if isinstance(
        module, hf.BertPreTrainedModel
    ) else {}  # fmt: skip
    logits = module(input_ids=batch.tokens, attention_mask=batch.attention_mask, **more).logits
    real = batch.attention_mask.bool()
    return logits, real if logits.dim() == 3 else torch.ones(len(logits), dtype=torch.bool)


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize("name", list(MODULES))
def test_open_gates_are_the_model_and_others_equal_hooks(name, dtype, opened):
    module, batch = opened(name, dtype)
    model = from_hf(module).requires_grad_(False)
    assert next(model.parameters()).dtype == dtype
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    engine = Engine(model, grid, baseline)
    logits, real = theirs(module, batch)
    generator = torch.Generator().manual_seed(1)
    gates = (2 * torch.rand(3, len(grid), generator=generator) - 0.5).clamp(0, 1).to(dtype)
    gates[0] = 1
    assert (gates[1:] == 0).any()
    got = engine.logits(batch, gates)
    torch.testing.assert_close(got[0][real], logits[real], rtol=1e-4, atol=3e-5)

    def loss(row, _):
        return (row.softmax(-1) * torch.arange(row.shape[-1]).to(row)).sum()

    leaf = gates.clone().requires_grad_()
    expected = gated_logits(model, batch, leaf, grid, baseline)
    losses = torch.stack([loss(row, batch) for row in expected])
    (slopes,) = torch.autograd.grad(losses.sum(), leaf)
    values, found = engine.gradients(batch, gates, loss)
    for own, want in ((got, expected), (values, losses), (found, slopes)):
        assert (own - want).abs().max() <= CLOSE[dtype] * want.abs().max()
