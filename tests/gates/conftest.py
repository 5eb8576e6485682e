"""One small model of every architecture, with weights and biases that all show."""

from __future__ import annotations

from typing import Any

import pytest
import torch

SIZES: dict[str, Any] = {
    "n_layers": 3, "n_heads": 4, "d_model": 16, "d_mlp": 12, "n_ctx": 12, "d_vocab": 20,
}  # fmt: skip
ROTARY: dict[str, Any] = {"positional_embedding_type": "rotary"}
LLAMA: dict[str, Any] = {
    "n_key_value_heads": 2, "normalization_type": "RMS", "final_rms": True, "gated_mlp": True,
    "rotary_dim": 4, "act_fn": "silu",
}  # fmt: skip


def architectures():
    """Name -> function from a dtype to an unfilled model."""
    from mechprobe.models import (
        build_classifier,
        build_decoder,
        build_decoder_classifier,
        build_encoder,
        build_encoder_decoder,
        build_fixed_length_encoder,
    )

    labels = ("yes", "no")
    fixed: dict[str, Any] = SIZES | {"n_ctx": 7}
    no_mlp: dict[str, Any] = SIZES | {"d_mlp": None}
    return {
        "classifier": lambda d: build_classifier(labels, None, **SIZES, dtype=d),
        "encoder": lambda d: build_encoder(**SIZES, dtype=d),
        "gpt2": lambda d: build_decoder(**SIZES, dtype=d),
        "llama": lambda d: build_decoder(**SIZES, **ROTARY, **LLAMA, dtype=d),
        "neox": lambda d: build_decoder(
            **SIZES, **ROTARY, rotary_dim=2, parallel_attn_mlp=True, act_fn="gelu", dtype=d
        ),
        "gptj": lambda d: build_decoder(
            **SIZES, **ROTARY, rotary_dim=4, parallel_attn_mlp=True, rotary_adjacent_pairs=True,
            dtype=d,
        ),
        "local": lambda d: build_decoder(
            **SIZES, use_local_attn=True, window_size=3, attn_types=["local", "global", "local"],
            dtype=d,
        ),
        "attention-only": lambda d: build_decoder(
            **no_mlp, attn_only=True, normalization_type=None, dtype=d
        ),
        "decoder-classifier": lambda d: build_decoder_classifier(labels, None, **SIZES, dtype=d),
        "parallel-classifier": lambda d: build_decoder_classifier(
            labels, None, **SIZES, **ROTARY, rotary_dim=4, parallel_attn_mlp=True, dtype=d
        ),
        "flat-pre": lambda d: build_fixed_length_encoder(3, "flat", **fixed, dtype=d),
        "flat-post": lambda d: build_fixed_length_encoder(3, "flat", norm="post", **fixed, dtype=d),
        "position": lambda d: build_fixed_length_encoder(3, "position", **fixed, dtype=d),
        "t5": lambda d: build_encoder_decoder(**SIZES, dtype=d),
        "t5-gated": lambda d: build_encoder_decoder(
            **SIZES, gated_mlp=True, tie_word_embeddings=True, dtype=d
        ),
    }  # fmt: skip


ARCHITECTURES = (
    "classifier", "encoder", "gpt2", "llama", "neox", "gptj", "local", "attention-only",
    "decoder-classifier", "parallel-classifier", "flat-pre", "flat-post", "position", "t5",
    "t5-gated",
)  # fmt: skip


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture(scope="session")
def filled():
    """Builds a model by the name of its architecture, frozen."""

    def build(name, dtype=torch.float64, seed=0):
        model = architectures()[name](dtype).requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        for weight, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * draw + weight.endswith(".w"))
        return model

    return build


@pytest.fixture(scope="session")
def ragged(random_batch):
    """Builds a padded batch that a model of this architecture reads."""

    def build(name, seed=0):
        from mechprobe.tasks.batches import Seq2SeqBatch

        batch = random_batch(7, 4, 6, seed=seed)
        if not name.startswith("t5"):
            return batch
        other = random_batch(5, 3, 4, seed=seed + 1)
        return Seq2SeqBatch(
            batch.tokens, batch.segments, batch.attention_mask, batch.labels, batch.index,
            other.tokens, other.attention_mask,
        )

    return build
