"""Tiny models of every supported architecture, with weights large enough that edits show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from mechprobe.models import HookedModel, from_hf
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch

VOCAB, N_CTX = 40, 24


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small run several times faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sizes() -> dict[str, int]:
    return {"n_layers": 2, "n_heads": 4, "d_model": 32, "n_ctx": N_CTX, "d_vocab": VOCAB}


M = TypeVar("M", bound=nn.Module)


def with_visible_weights(module: M, seed: int = 0) -> M:
    """Every weight and bias drawn anew, so that no bias is 0 and no effect is lost in rounding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = name.endswith("weight") and ("LayerNorm" in name or ".ln_" in name)
            parameter.copy_(float(scale) + 0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def tiny_bert_config(**settings: object) -> BertConfig:
    return BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=N_CTX,
        attn_implementation="eager",
        **settings,
    )


@pytest.fixture
def hf_classifier() -> BertForSequenceClassification:
    names = {0: "entailment", 1: "neutral", 2: "contradiction"}
    return with_visible_weights(BertForSequenceClassification(tiny_bert_config(id2label=names)))


@pytest.fixture
def hf_bert() -> BertModel:
    return with_visible_weights(BertModel(tiny_bert_config()))


@pytest.fixture
def hf_gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=N_CTX, n_embd=32, n_layer=2, n_head=4, n_inner=48,
        attn_implementation="eager",
    )  # fmt: skip
    return with_visible_weights(GPT2LMHeadModel(config))


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of rows with the given lengths, padded on the right."""

    def make(*lengths: int, seed: int = 0, pad_to: int | None = None) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        n, width = len(lengths), pad_to or max(lengths)
        real = torch.arange(width) < torch.tensor(lengths)[:, None]
        drawn = torch.randint(1, VOCAB, (n, 2 * N_CTX), generator=generator)[:, :width]
        halves = torch.arange(width) >= torch.tensor(lengths)[:, None] // 2
        return Batch(
            tokens=torch.where(real, drawn, 0),
            segments=(halves & real).long(),
            attention_mask=real.long(),
            labels=torch.zeros(n, dtype=torch.long),
            index=torch.arange(n),
        )

    return make


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", bos_token="[CLS]", eos_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


@dataclass
class Reference:
    """A Hugging Face module, our hooked copy of it, and where the module keeps each site."""

    module: Any
    ours: HookedModel
    blocks: list[Any]

    def run(self, batch: Batch) -> Tensor:
        """What the module itself computes: logits, or last hidden states of a bare encoder."""
        return self._outputs(batch)[0]

    def hidden_states(self, batch: Batch) -> tuple[Tensor, ...]:
        return self._outputs(batch).hidden_states

    def _outputs(self, batch: Batch) -> Any:
        segments = {} if self.is_gpt2 else {"token_type_ids": batch.segments}
        return self.module(
            batch.tokens, attention_mask=batch.attention_mask, output_hidden_states=True,
            output_attentions=True, **segments,
        )  # fmt: skip

    def attentions(self, batch: Batch) -> tuple[Tensor, ...]:
        return self._outputs(batch).attentions

    @property
    def is_gpt2(self) -> bool:
        return isinstance(self.module, GPT2LMHeadModel)

    def w_o(self, layer: int) -> nn.Module:
        block = self.blocks[layer]
        return block.attn.c_proj if self.is_gpt2 else block.attention.output.dense

    def mlp_out(self, layer: int) -> nn.Module:
        block = self.blocks[layer]
        return block.mlp.c_proj if self.is_gpt2 else block.output.dense

    def close(self, site: Site) -> None:
        """Close a site in the module by its weights: zero what reads or writes its value."""
        width = self.ours.cfg.d_head
        out = self.w_o(site.layer) if site.kind == "head" else self.mlp_out(site.layer)
        reads = out.weight if self.is_gpt2 else out.weight.T  # [value, d_model]
        with torch.no_grad():
            match site.kind, site.index:
                case "head", None:
                    reads.zero_()
                case "head", int(head):
                    reads[head * width : (head + 1) * width].zero_()
                case "mlp", _:
                    reads.zero_()
                    out.bias.zero_()
                case "neuron", int(neuron):
                    reads[neuron].zero_()

    def values(self, batch: Batch) -> dict[Site, Tensor]:
        """The value at every site, caught by plain torch hooks at the module's own layers."""
        found: dict[Site, Tensor] = {}
        handles = []
        n_heads = self.ours.cfg.n_heads

        def read_z(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                z = inputs[0].unflatten(-1, (n_heads, -1))
                found[Site("head", layer)] = z
                for head in range(n_heads):
                    found[Site("head", layer, head)] = z[:, :, head]

            return hook

        def read_mlp(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                found[Site("mlp", layer)] = output
                for neuron in range(inputs[0].shape[-1]):
                    found[Site("neuron", layer, neuron)] = inputs[0][..., neuron]

            return hook

        for layer in range(len(self.blocks)):
            handles.append(self.w_o(layer).register_forward_pre_hook(read_z(layer)))
            handles.append(self.mlp_out(layer).register_forward_hook(read_mlp(layer)))
        self.run(batch)
        for handle in handles:
            handle.remove()
        return found


@pytest.fixture(params=["classifier", "encoder", "decoder"])
def reference(
    request: pytest.FixtureRequest,
    hf_classifier: BertForSequenceClassification,
    hf_bert: BertModel,
    hf_gpt2: GPT2LMHeadModel,
) -> Reference:
    module, blocks = {
        "classifier": (hf_classifier, hf_classifier.bert.encoder.layer),
        "encoder": (hf_bert, hf_bert.encoder.layer),
        "decoder": (hf_gpt2, hf_gpt2.transformer.h),
    }[request.param]
    return Reference(module, from_hf(module), list(blocks))
