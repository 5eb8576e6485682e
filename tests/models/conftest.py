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
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)
from transformers.pytorch_utils import Conv1D

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
            scale = name.endswith("weight") and ("norm" in name.lower() or ".ln_" in name)
            parameter.copy_(float(scale) + 0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def tiny_bert_config(**settings: Any) -> BertConfig:
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


def tiny_gpt2_config(**settings: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=VOCAB, n_positions=N_CTX, n_embd=32, n_layer=2, n_head=4, n_inner=48,
        attn_implementation="eager", **settings,
    )  # fmt: skip


@pytest.fixture
def hf_gpt2() -> GPT2LMHeadModel:
    return with_visible_weights(GPT2LMHeadModel(tiny_gpt2_config()))


C = TypeVar("C", RobertaConfig, LlamaConfig, MistralConfig, GPTNeoXConfig)


def tiny_config(kind: type[C], **settings: Any) -> C:
    """A config of the kind in the sizes of ``tiny_bert_config``; a decoder's keys are grouped."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": N_CTX, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "attn_implementation": "eager",
    }  # fmt: skip
    if kind in (LlamaConfig, MistralConfig):
        sizes |= {"num_key_value_heads": 2}
    return kind(**(sizes | settings))


@pytest.fixture
def tiny_hf() -> Callable[..., Any]:
    """Builds a module of a Hugging Face class from ``tiny_config`` and the settings given."""

    def build(kind: Any, **settings: Any) -> Any:
        return with_visible_weights(kind(tiny_config(kind.config_class, **settings)))

    return build


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


@dataclass(frozen=True)
class Layout:
    """Where a kind of module keeps its blocks, and in a block what reads z and MLP activations."""

    blocks: str
    w_o: str
    mlp_out: str
    segments: bool = False


BERT = Layout("encoder.layer", "attention.output.dense", "output.dense", segments=True)
GPT2 = Layout("h", "attn.c_proj", "mlp.c_proj")
LLAMA = Layout("layers", "self_attn.o_proj", "mlp.down_proj")
NEOX = Layout("layers", "attention.dense", "mlp.dense_4h_to_h")


@dataclass
class Reference:
    """A Hugging Face module, our hooked copy of it, and where the module keeps each site."""

    module: Any
    ours: HookedModel
    layout: Layout

    def run(self, batch: Batch) -> Tensor:
        """What the module itself computes: logits, or last hidden states of a bare encoder."""
        return self._outputs(batch)[0]

    def hidden_states(self, batch: Batch) -> tuple[Tensor, ...]:
        return self._outputs(batch).hidden_states

    def _outputs(self, batch: Batch) -> Any:
        segments = {"token_type_ids": batch.segments} if self.layout.segments else {}
        return self.module(
            batch.tokens, attention_mask=batch.attention_mask, output_hidden_states=True,
            output_attentions=True, **segments,
        )  # fmt: skip

    def attentions(self, batch: Batch) -> tuple[Tensor, ...]:
        return self._outputs(batch).attentions

    @property
    def is_decoder(self) -> bool:
        return not self.layout.segments

    def block(self, layer: int) -> nn.Module:
        return self.module.base_model.get_submodule(f"{self.layout.blocks}.{layer}")

    def w_o(self, layer: int) -> Any:
        return self.block(layer).get_submodule(self.layout.w_o)

    def mlp_out(self, layer: int) -> Any:
        return self.block(layer).get_submodule(self.layout.mlp_out)

    def close(self, site: Site) -> None:
        """Close a site in the module by its weights: zero what reads or writes its value."""
        width = self.ours.cfg.d_head
        out = self.w_o(site.layer) if site.kind == "head" else self.mlp_out(site.layer)
        reads = out.weight if isinstance(out, Conv1D) else out.weight.T  # [value, d_model]
        with torch.no_grad():
            match site.kind, site.index:
                case "head", None:
                    reads.zero_()
                case "head", int(head):
                    reads[head * width : (head + 1) * width].zero_()
                case "mlp", _:
                    reads.zero_()
                    if out.bias is not None:
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

        for layer in range(self.ours.cfg.n_layers):
            handles.append(self.w_o(layer).register_forward_pre_hook(read_z(layer)))
            handles.append(self.mlp_out(layer).register_forward_hook(read_mlp(layer)))
        self.run(batch)
        for handle in handles:
            handle.remove()
        return found


THREE = {"id2label": {0: "entailment", 1: "neutral", 2: "contradiction"}}
# what a contract is tested on: a module's layout, its class and its config
CASES: dict[str, tuple[Layout, Any, Callable[[], Any]]] = {
    "classifier": (BERT, BertForSequenceClassification, lambda: tiny_bert_config(**THREE)),
    "encoder": (BERT, BertModel, tiny_bert_config),
    "decoder": (GPT2, GPT2LMHeadModel, tiny_gpt2_config),
    "roberta-classifier": (
        BERT, RobertaForSequenceClassification,
        lambda: tiny_config(RobertaConfig, type_vocab_size=2, layer_norm_eps=1e-5, **THREE),
    ),
    "roberta": (BERT, RobertaModel, lambda: tiny_config(RobertaConfig, type_vocab_size=2)),
    "llama": (LLAMA, LlamaForCausalLM, lambda: tiny_config(LlamaConfig)),
    "llama-biases": (
        LLAMA, LlamaForCausalLM,
        lambda: tiny_config(LlamaConfig, attention_bias=True, head_dim=6, rms_norm_eps=1e-5),
    ),
    "mistral": (LLAMA, MistralForCausalLM, lambda: tiny_config(MistralConfig, sliding_window=4)),
    "neox": (NEOX, GPTNeoXForCausalLM, lambda: tiny_config(GPTNeoXConfig)),
    "neox-serial": (
        NEOX, GPTNeoXForCausalLM,
        lambda: tiny_config(GPTNeoXConfig, use_parallel_residual=False, attention_bias=False),
    ),
    "gpt2-classifier": (
        GPT2, GPT2ForSequenceClassification, lambda: tiny_gpt2_config(pad_token_id=0, **THREE)
    ),
    "llama-classifier": (
        LLAMA, LlamaForSequenceClassification, lambda: tiny_config(LlamaConfig, **THREE)
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def reference(request: pytest.FixtureRequest) -> Reference:
    layout, kind, config = CASES[request.param]
    with torch.random.fork_rng(devices=[]):
        module = with_visible_weights(kind(config()))
    return Reference(module, from_hf(module), layout)
