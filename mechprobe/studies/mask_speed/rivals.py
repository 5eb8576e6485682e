"""What a user would use instead of the engine, each giving the loss and gate gradients of a vector.

``published``: the formulation of Bhaskar et al. 2024: a Hugging Face model, masks multiplied in
front of W_O and on each MLP's output, the full model run in every step, plain autograd.
``hooks``: TransformerLens' own encoder and its hooks, the full model's logits known.
``vmap``: ``torch.func.vmap`` of a plain functional model over the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, PreTrainedModel

from mechprobe.models import HookedClassifier, build_encoder
from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.mask_speed.shapes import Case
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.metrics import kl

Result = tuple[Tensor, Tensor]


def split(grid: SiteGrid, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Gates [site] as heads [layer, head] and MLPs [layer]."""
    n = grid.n_head_sites
    return gates[..., :n].unflatten(-1, (grid.n_layers, -1)), gates[..., n:]


def means(case: Case) -> Mapping[Site, Tensor]:
    """What closed gates put in place."""
    return case.baseline.values(case.model, case.batch, case.grid)


class Published:
    """One run a subnetwork: the full model and the masked one in every step."""

    def __init__(self, hf: PreTrainedModel, grid: SiteGrid, values: Mapping[Site, Tensor]) -> None:
        self.grid, self.hf, self.gates = grid, hf, None
        for layer, (project, mlp) in enumerate(_layers(hf)):
            stands = values[Site("head", layer)], values[Site("mlp", layer)]
            project.register_forward_pre_hook(self._heads(layer, stands[0]))
            mlp.register_forward_hook(self._mlp(layer, stands[1]))

    def _heads(self, layer: int, mean: Tensor) -> Callable:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor] | None:
            if self.gates is None:
                return None
            g = split(self.grid, self.gates)[0][layer]
            z = inputs[0].unflatten(-1, (len(g), -1))
            return (((z - mean) * g[:, None] + mean).flatten(2),)

        return hook

    def _mlp(self, layer: int, mean: Tensor) -> Callable:
        def hook(module: Any, inputs: Any, out: Tensor) -> Tensor | None:
            if self.gates is None:
                return None
            return (out - mean) * split(self.grid, self.gates)[1][layer] + mean

        return hook

    def __call__(self, gates: Tensor, batch: Batch) -> Result:
        inputs = inputs_of(self.hf, batch)
        leaf = gates.clone().requires_grad_()
        self.gates = None
        with torch.no_grad():
            full = self.hf(**inputs).logits
        self.gates: Tensor | None = leaf
        loss = kl(full, self.hf(**inputs).logits).mean()
        self.gates = None
        (slope,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), slope


def inputs_of(hf: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """What the Hugging Face module reads."""
    inputs = {"input_ids": batch.tokens, "attention_mask": batch.attention_mask}
    return inputs if isinstance(hf, GPT2LMHeadModel) else inputs | {
        "token_type_ids": batch.segments
    }


def _layers(hf: PreTrainedModel) -> list[tuple[nn.Module, nn.Module]]:
    """Of each layer the module that reads all heads' z, and the one that gives the MLP's output."""
    body: Any = hf
    if isinstance(hf, GPT2LMHeadModel):
        return [(block.attn.c_proj, block.mlp) for block in body.transformer.h]
    return [(b.attention.output.dense, b.output.dense) for b in body.bert.encoder.layer]


class Hooks:
    """TransformerLens' own modules with a hook a layer and kind; the full logits are known."""

    def __init__(self, case: Case) -> None:
        self.case, self.values = case, means(case)
        self.body: Any = case.model if case.shape.writes else _encoder(case)

    def logits(self, gates: Tensor) -> Tensor:
        """Logits of one gate vector."""
        heads, mlps = split(self.case.grid, gates)
        hooks = []
        for layer in range(self.case.shape.n_layers):
            head, mlp = self.values[Site("head", layer)], self.values[Site("mlp", layer)]

            def on_z(z: Tensor, hook: Any, g: Tensor = heads[layer], m: Tensor = head) -> Tensor:
                return (z - m) * g[:, None] + m

            def on_mlp(out: Tensor, hook: Any, g: Tensor = mlps[layer], m: Tensor = mlp) -> Tensor:
                return (out - m) * g + m

            name = f"blocks.{layer}"
            hooks += [(f"{name}.attn.hook_z", on_z), (f"{name}.hook_mlp_out", on_mlp)]
        batch, model = self.case.batch, self.case.model
        with self.body.hooks(fwd_hooks=hooks):
            if self.case.shape.writes:
                return self.body(batch.tokens)
            assert isinstance(model, HookedClassifier)
            stream = self.body.encoder_output(batch.tokens, batch.segments, batch.attention_mask)
            return model.classifier(model.pooler(stream))

    def __call__(self, gates: Tensor) -> Result:
        leaf = gates.clone().requires_grad_()
        loss = self.case.loss(self.logits(leaf), self.case.batch)
        (slope,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), slope


def _encoder(case: Case) -> nn.Module:
    """TransformerLens' own encoder with the classifier's weights."""
    shape = case.shape
    encoder = build_encoder(
        n_layers=shape.n_layers, n_heads=shape.n_heads, d_model=shape.d_model,
        n_ctx=shape.positions, d_vocab=shape.vocabulary,
    ).requires_grad_(False)
    nn.Module.to(encoder, case.full.device)  # its own ``to`` prints
    kept = ("embed.", "blocks.")
    state = {k: v for k, v in case.model.state_dict().items() if k.startswith(kept)}
    encoder.load_state_dict(state, strict=False)
    return encoder


class Vmapped:
    """A plain functional encoder under ``torch.func.vmap`` over gate vectors [k, site]."""

    def __init__(self, case: Case) -> None:
        self.case, self.values = case, means(case)
        self.weights = {k: v.detach() for k, v in case.model.state_dict().items()}
        assert isinstance(case.model, HookedClassifier)
        with torch.no_grad():
            self.stream = case.model.embed(case.batch.tokens, case.batch.segments)
        self.full = case.full

    def loss(self, gates: Tensor) -> Tensor:
        """Loss of one gate vector [site]."""
        w, x = self.weights, self.stream
        heads, mlps = split(self.case.grid, gates)
        for layer in range(self.case.shape.n_layers):
            name = f"blocks.{layer}"
            q, k, v = (
                torch.einsum("bpm,imh->bpih", x, w[f"{name}.attn.W_{c}"]) + w[f"{name}.attn.b_{c}"]
                for c in "QKV"
            )
            scores = torch.einsum("bqih,bkih->biqk", q, k) / q.shape[-1] ** 0.5
            z = torch.einsum("biqk,bkih->bqih", scores.softmax(-1), v)
            mean = self.values[Site("head", layer)]
            z = (z - mean) * heads[layer][:, None] + mean
            out = torch.einsum("bpih,ihm->bpm", z, w[f"{name}.attn.W_O"]) + w[f"{name}.attn.b_O"]
            x = self._norm(x + out, f"{name}.ln1")
            hidden = F.gelu(x @ w[f"{name}.mlp.W_in"] + w[f"{name}.mlp.b_in"])
            out = hidden @ w[f"{name}.mlp.W_out"] + w[f"{name}.mlp.b_out"]
            mean = self.values[Site("mlp", layer)]
            x = self._norm(x + (out - mean) * mlps[layer] + mean, f"{name}.ln2")
        pooled = torch.tanh(x[:, 0] @ w["pooler.W"] + w["pooler.b"])
        logits = F.linear(pooled, w["classifier.weight"], w["classifier.bias"])
        return kl(self.full, logits).mean()

    def _norm(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}.w"], self.weights[f"{name}.b"]
        return F.layer_norm(x, (x.shape[-1],), w, b, 1e-12)

    def __call__(self, gates: Tensor) -> Result:
        slopes, losses = torch.func.vmap(torch.func.grad_and_value(self.loss))(gates)
        return losses, slopes
