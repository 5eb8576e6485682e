"""The models and batches that are timed, and the gates: random weights, as time does not care."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from mechprobe.gates.baselines import Baseline, mean_baseline
from mechprobe.locate.hard_concrete import probability_closed, sample
from mechprobe.models import (
    HookedModel,
    build_classifier,
    forward,
    load_model,
    site_grid,
    to_hf,
)
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.metrics import kl

VOCABULARY = 1_000


@dataclass(frozen=True)
class Shape:
    """A BERT-shaped classifier, or a GPT-2-shaped language model, and the batch it reads."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    positions: int
    batch: int
    vocabulary: int = VOCABULARY
    writes: bool = False

    def deep(self, n_layers: int) -> Shape:
        """The same with another number of layers."""
        return replace(self, name=f"{self.name}, {n_layers} layers", n_layers=n_layers)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("small", 4, 256, 8, 64, 32),
        Shape("minilm", 6, 384, 12, 64, 32),
        Shape("bert-base", 12, 768, 12, 128, 32),
        Shape("gpt2", 12, 768, 12, 64, 4, vocabulary=50_257, writes=True),
        Shape("sweep", 12, 256, 8, 64, 8),
    )
}


class Case:
    """A shape made real: model, batch, mean baseline, the full model's logits."""

    def __init__(self, shape: Shape, device: str = "cpu", seed: int = 0) -> None:
        self.shape = shape
        made = _writer(shape, seed) if shape.writes else _classifier(shape, seed)
        self.model: HookedModel = made[0].to(device).requires_grad_(False)
        self.hf: PreTrainedModel = made[1].requires_grad_(False)
        nn.Module.to(self.hf, device)
        generator = torch.Generator().manual_seed(seed)
        size = (shape.batch, shape.positions)
        tokens = torch.randint(0, shape.vocabulary, size, generator=generator)
        one = torch.ones(size, dtype=torch.long)
        index = torch.arange(shape.batch)
        self.batch: Batch = Batch(tokens, 0 * one, one, 0 * index, index).to(device)
        self.grid: SiteGrid = site_grid(self.model)
        self.generator = generator
        self.baseline: Baseline = mean_baseline(self.model, [self.batch], self.grid)

    @cached_property
    def full(self) -> Tensor:
        """The full model's logits."""
        with torch.no_grad():
            return forward(self.model, self.batch)

    @property
    def loss(self) -> Callable[[Tensor, Batch], Tensor]:
        """Mean KL from the full model, whose logits are known."""
        return lambda logits, _: kl(self.full, logits).mean()

    def gates(self, k: int, closed: float) -> Float[Tensor, "k site"]:
        """Hard concrete samples with a share of heads and of MLPs closed, another set in each row.

        The others are sampled at log alpha 2 given that they are not 0: three in five are 1.
        """
        alpha = torch.full((k, len(self.grid)), 2.0)
        low = probability_closed(alpha)
        u = low + (1 - low) * torch.rand(alpha.shape, generator=self.generator)
        gates = sample(alpha, u.clamp(1e-6, 1 - 1e-6)).clamp(min=1e-3)
        return gates.masked_fill(self._closed(k, closed), 0.0).to(self.full.device)

    def _closed(self, k: int, share: float) -> Bool[Tensor, "k site"]:
        closed = torch.zeros(k, len(self.grid), dtype=torch.bool)
        heads, mlps = self.grid.n_head_sites, self.grid.n_mlp_sites
        for row in closed:
            some = torch.randperm(heads, generator=self.generator)
            row[some[: round(share * heads)]] = True
            some = torch.randperm(mlps, generator=self.generator)
            row[heads + some[: round(share * mlps)]] = True
        return closed


def _classifier(shape: Shape, seed: int) -> tuple[HookedModel, PreTrainedModel]:
    """A classifier and the same as a Hugging Face module."""
    model = build_classifier(
        ("no", "yes"), None, n_layers=shape.n_layers, n_heads=shape.n_heads,
        d_model=shape.d_model, n_ctx=shape.positions, d_vocab=shape.vocabulary, seed=seed,
    )
    return model, to_hf(model)


def _writer(shape: Shape, seed: int) -> tuple[HookedModel, PreTrainedModel]:
    """A language model and the Hugging Face module that it was made from."""
    config = GPT2Config(
        n_layer=shape.n_layers, n_head=shape.n_heads, n_embd=shape.d_model,
        n_positions=shape.positions, vocab_size=shape.vocabulary, bos_token_id=0, eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = GPT2LMHeadModel(config).eval()
    return load_model(module), module
