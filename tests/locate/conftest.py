"""Small random decoders, paired prompts for them, and runs with hooks written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mechprobe.models import HookedModel, build_decoder, forward
from mechprobe.sites import Site
from mechprobe.tasks import Behaviour, PromptTask
from mechprobe.tasks.answers import UNSCORED, find_metric, last_position
from mechprobe.tasks.batches import Batch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

KIND = {"head": "attn.hook_z", "mlp": "hook_mlp_out"}


@pytest.fixture(scope="session")
def small_decoder() -> Callable[..., HookedTransformer]:
    """Builds a float64 decoder whose every weight and bias shows (2 layers, 2 heads by default)."""
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


@pytest.fixture(scope="session")
def tiny_decoder() -> HookedModel:
    """2 layers, 3 heads, MLPs, float64."""
    return build_decoder(
        n_layers=2, n_heads=3, d_model=9, d_mlp=6, n_ctx=8, d_vocab=20, init_std=0.5,
        dtype=torch.float64,
    )


@pytest.fixture(scope="session")
def token_pairs() -> PromptTask:
    """10 pairs of 6 random tokens, an answer and a wrong answer each."""
    rng = np.random.default_rng(0)
    clean, corrupt = rng.integers(0, 20, (2, 10, 6))
    answers, wrong = rng.integers(0, 20, (2, 10))
    return PromptTask(clean, corrupt, answers=answers, wrong=wrong)


@pytest.fixture(scope="session")
def label_behaviour(random_batch) -> Behaviour:
    """A classifier's logit difference on 7 ragged pairs, with counterfactuals."""
    lengths = (7, 4, 6, 5, 7, 3, 9)

    def margin(logits, targets):
        rows = torch.arange(len(logits))
        return logits[rows, targets["label"]] - logits[rows, 1 - targets["label"]]

    inputs = random_batch(*lengths)
    corrupt = random_batch(*lengths, seed=1)
    return Behaviour("labels", inputs, margin, "margin", {"label": inputs.labels}, corrupt)


@contextmanager
def by_hand(model: HookedModel, hooks: dict[str, Callable]) -> Iterator[None]:
    """``hooks[name](value) -> value`` at TransformerLens hook points, with nothing of ours."""
    handles = [
        model.hook_dict[name].register_forward_hook(lambda m, i, o, fn=fn: fn(o))
        for name, fn in hooks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activations(model: HookedModel, batch, names) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def keep(name):
        def fn(value):
            found[name] = value.clone()
            return value

        return fn

    with by_hand(model, {name: keep(name) for name in names}):
        forward(model, batch)
    return found


def hook_of(site: Site) -> str:
    return f"blocks.{site.layer}.{KIND[site.kind]}"


def stand_ins(model, behaviour: Behaviour, kind: str) -> dict[str, torch.Tensor]:
    """What stands in each hook's place, [batch, pos, ...], for all inputs padded to one width."""
    inputs = behaviour.inputs
    names = [f"blocks.{layer}.{end}" for layer in range(2) for end in KIND.values()]
    own = activations(model, inputs, names)
    if kind == "paired":
        return activations(model, behaviour.corrupt, names)
    real = inputs.attention_mask.bool()
    out = {}
    for name, value in own.items():
        stands = torch.zeros_like(value)
        if kind == "mean":
            stands = stands + value[real].mean(0)
        if kind == "mean_position":
            for at in range(value.shape[1]):
                stands[:, at] = value[:, at][real[:, at]].mean(0)
        out[name] = stands
    if kind == "resample":
        n = len(inputs)
        rng = np.random.default_rng([0, *behaviour.batches(64)[0].index.tolist()])
        order = rng.permutation(n)
        donor = {order[i]: order[i - 1] for i in range(n)}
        by_batch = behaviour.batches(64)[0].index.tolist()
        for name, value in own.items():
            for i in range(n):
                giver = by_batch[donor[i]]
                length = int(real[giver].sum())
                for at in range(value.shape[1]):
                    out[name][by_batch[i], at] = value[giver, at % length]
    return out


@torch.no_grad()
def closed_values(model, behaviour: Behaviour, sites, stands) -> np.ndarray:
    """The metric of every example with the sites replaced by ``stands``, by own hooks."""
    hooks: dict[str, Callable] = {}
    for name in {hook_of(Site.parse(site)) for site in sites}:
        here = [Site.parse(s) for s in sites if hook_of(Site.parse(s)) == name]

        def close(value, name=name, here=here):
            value = value.clone()
            for site in here:
                if site.index is None:
                    value[:] = stands[name]
                else:
                    value[:, :, site.index] = stands[name][:, :, site.index]
            return value

        hooks[name] = close
    with by_hand(model, hooks):
        logits = forward(model, behaviour.inputs)
    return behaviour.measure(logits, behaviour.inputs).numpy()


@pytest.fixture(scope="session")
def hand() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(
        by_hand=by_hand, activations=activations, stand_ins=stand_ins, closed_values=closed_values
    )


@pytest.fixture(scope="session")
def count_passes() -> Callable:
    """Counts the examples a model sees while a function runs, in passes over ``n`` examples."""

    def count(model: HookedModel, n: int, run: Callable[[], object]) -> tuple[object, float]:
        seen = []
        handle = model.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
        try:
            out = run()
        finally:
            handle.remove()
        return out, sum(seen) / n

    return count
