"""Small random decoders with large weights and biases, and paired prompts for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechprobe.tasks.behaviour import Behaviour


@pytest.fixture(scope="session")
def small_decoder() -> Callable[..., HookedTransformer]:
    """Builds a float64 decoder whose every weight and bias shows (2 layers, 2 heads by default)."""
    import torch

    from mechprobe.models import build_decoder

    def build(seed: int = 0, scale: float = 0.5, **settings: object) -> HookedTransformer:
        settings = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 10, "n_ctx": 8,
                    "d_vocab": 11, "dtype": torch.float64} | settings  # fmt: skip
        model = build_decoder(**settings)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(scale * draw + name.endswith(".w"))
        return model

    return build


@pytest.fixture(scope="session")
def prompts() -> Callable[..., Behaviour]:
    """Builds paired token prompts of lengths 4 to 7, scored at the last token (two where asked)."""
    import numpy as np
    import torch

    from mechprobe.tasks.answers import UNSCORED, find_metric, last_position
    from mechprobe.tasks.batches import Batch
    from mechprobe.tasks.behaviour import Behaviour

    def build(
        n: int = 10, seed: int = 0, metric: str = "logit_difference", positions: int = 1,
        wrong: bool = True, vocab: int = 11,
    ) -> Behaviour:
        rng = np.random.default_rng(seed)
        length = torch.from_numpy(rng.integers(4, 8, size=(n, 1)))
        mask = (torch.arange(7) < length).long()

        def batch() -> Batch:
            tokens = torch.from_numpy(rng.integers(0, vocab, size=(n, 7))) * mask
            zero = torch.zeros_like(tokens)
            return Batch(tokens, zero, mask, zero[:, 0], torch.arange(n))

        inputs, corrupt = batch(), batch()
        right = torch.from_numpy(rng.integers(0, vocab, size=n))
        targets = {"answer": last_position(right, mask)}
        if positions == 2:
            targets["answer"][:, 1] = (right + 3) % vocab
        if wrong:
            shift = (targets["answer"] + 1 + (right % 3)[:, None]) % vocab
            targets["wrong"] = torch.where(targets["answer"] == UNSCORED, UNSCORED, shift)
        name, function = find_metric(metric)
        return Behaviour("random prompts", inputs, function, name, targets, corrupt)

    return build
