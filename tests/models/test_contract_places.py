"""The contract of residual streams and attention patterns in every architecture.

One table: a model beside its Hugging Face module. What stands at a place is what Hugging Face
computes, and another run's value there changes the output as putting it there by hand does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPTNeoXForSequenceClassification, MistralForSequenceClassification

from mechprobe.models import (
    build_encoder_decoder,
    build_fixed_length_encoder,
    forward,
    from_hf,
    run_with_edits,
    site_grid,
    to_hf,
)
from mechprobe.models.places import Place, pattern_places, read_places, run_with_places
from mechprobe.sites import Site
from mechprobe.tasks import seq2seq_batch
from mechprobe.tasks.batches import Batch

THREE = {0: "a", 1: "b", 2: "c"}


def test_a_block_leaves_what_hugging_face_says_and_it_matters(reference, make_batch):
    batch, other = make_batch(8, 8), make_batch(8, 8, seed=5)
    states = reference.hidden_states(batch)
    layers = reference.ours.cfg.n_layers
    places = [Place("resid", layer, None) for layer in range(layers)]
    logits, values = read_places(reference.ours, batch, places)
    # a decoder's last hidden state is after its final norm, so only the inner ones compare there
    for layer in range(layers - 1 if reference.is_decoder else layers):
        found = next(v for name, v in values.items() if name.startswith(f"blocks.{layer}."))
        torch.testing.assert_close(found, states[layer + 1], atol=1e-5, rtol=1e-5)
    _, stranger = read_places(reference.ours, other, places)
    at = [Place("resid", layer, pos) for layer in range(layers) for pos in (0, -1, None)]
    moved = run_with_places(reference.ours, batch, at, stranger)
    for place, changed in zip(at, moved, strict=True):
        # a classifier reads one token at the end: an encoder the first, a decoder the last
        unread = -1 if reference.layout.segments else 0
        idle = logits.ndim == 2 and (place.layer, place.position) == (layers - 1, unread)
        assert ((changed - logits).abs().max() > 1e-4) != idle, str(place)
    everything = [Place("resid", layers - 1, None)]
    whole = run_with_places(reference.ours, batch, everything, stranger)[0]
    torch.testing.assert_close(whole, forward(reference.ours, other), atol=1e-5, rtol=1e-5)


def test_a_pattern_is_hugging_faces_and_it_matters(reference, make_batch):
    batch, other = make_batch(8, 8), make_batch(8, 8, seed=5)
    places = pattern_places(reference.ours)
    logits, values = read_places(reference.ours, batch, places)
    for layer, theirs in enumerate(reference.attentions(batch)):
        found = values[f"blocks.{layer}.attn.hook_pattern"]
        torch.testing.assert_close(found, theirs, atol=1e-6, rtol=1e-5)
    _, stranger = read_places(reference.ours, other, places)
    moved = run_with_places(reference.ours, batch, places, stranger)
    for place, changed in zip(places, moved, strict=True):
        assert (changed - logits).abs().max() > 1e-5, str(place)
        # by hand: the same head's z is the given weights times its own values
        name = f"blocks.{place.layer}.attn"
        seen: dict[str, torch.Tensor] = {}
        handle = reference.ours.hook_dict[f"{name}.hook_v"].register_forward_hook(
            lambda module, inputs, v, seen=seen: seen.update(v=v)
        )
        forward(reference.ours, batch)
        handle.remove()
        groups = reference.ours.cfg.n_heads // seen["v"].shape[2]
        v = seen["v"].repeat_interleave(groups, dim=2)[:, :, place.head]
        z = stranger[f"{name}.hook_pattern"][:, place.head] @ v
        by_hand = run_with_edits(
            reference.ours, batch, {Site("head", place.layer, place.head): lambda own, z=z: z}
        )
        torch.testing.assert_close(changed, by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "kind", [MistralForSequenceClassification, GPTNeoXForSequenceClassification]
)
def test_the_other_decoder_classifiers_keep_the_contract_too(kind, tiny_hf, make_batch):
    module = tiny_hf(kind, id2label=THREE)
    model, batch = from_hf(module), make_batch(8, 5)
    expected = module(batch.tokens, attention_mask=batch.attention_mask).logits
    torch.testing.assert_close(forward(model, batch), expected, atol=1e-5, rtol=1e-5)
    weights = {name: w.clone() for name, w in module.state_dict().items()}
    out = "self_attn.o_proj" if kind is MistralForSequenceClassification else "attention.dense"
    width = model.cfg.d_head
    for site in site_grid(model):
        if site.kind != "head":
            continue
        edited = run_with_edits(model, batch, {site: torch.zeros_like})
        linear = module.base_model.layers[site.layer].get_submodule(out)
        with torch.no_grad():
            linear.weight[:, site.index * width : (site.index + 1) * width] = 0
        theirs = module(batch.tokens, attention_mask=batch.attention_mask).logits
        module.load_state_dict(weights)
        torch.testing.assert_close(edited, theirs, atol=1e-5, rtol=1e-5)
        assert (edited - expected).abs().max() > 1e-4, str(site)


def _visible(model: Any) -> Any:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W") or leaf in ("w", "weight"):
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.4 * draw + (leaf == "w"))
    return model


def _t5(gated: bool) -> tuple[Any, Batch, Batch]:
    model = build_encoder_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=10, d_vocab=20, gated_mlp=gated
    )
    rng = torch.Generator().manual_seed(3)

    def rows(n: int) -> list[list[int]]:
        return torch.randint(2, 20, (2, n), generator=rng).tolist()

    return _visible(model), *(seq2seq_batch(rows(6), rows(4)) for _ in range(2))


def _fixed() -> tuple[Any, Batch, Batch]:
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 10, "n_ctx": 6, "d_vocab": 9}
    model = _visible(build_fixed_length_encoder(4, "flat", norm="pre", **sizes))
    batches = []
    for seed in (0, 1):
        tokens = torch.randint(0, 9, (2, 6), generator=torch.Generator().manual_seed(seed))
        batches.append(Batch(tokens, 0 * tokens, 0 * tokens + 1, tokens[:, 0], torch.arange(2)))
    return model, *batches


OTHERS: dict[str, Callable[[], tuple[Any, Batch, Batch]]] = {
    "t5 1.0": lambda: _t5(False), "t5 1.1": lambda: _t5(True), "fixed length": _fixed,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_stacks_and_fixed_lengths_keep_the_contract_too(name):
    model, batch, other = OTHERS[name]()
    grid = site_grid(model)
    residual = [
        Place("resid", layer, at, None, stack)
        for stack, layer, at in itertools.product(
            (s for s in grid.stacks if s != "cross"), range(grid.n_layers), (0, None)
        )
    ]
    places = [*residual, *pattern_places(model)]
    logits, own = read_places(model, batch, places)
    _, values = read_places(model, other, places)
    same = run_with_places(model, batch, places, own)
    moved = run_with_places(model, batch, places, values)
    for place, kept, changed in zip(places, same, moved, strict=True):
        torch.testing.assert_close(kept, logits, atol=1e-5, rtol=1e-5, msg=str(place))
        assert (changed - logits).abs().max() > 1e-6, str(place)
    if grid.stacks == ("",):
        return
    module = to_hf(model)
    module.set_attn_implementation("eager")  # the only one that tells its attention
    theirs = module(
        input_ids=batch.tokens, decoder_input_ids=batch.decoder_tokens, output_attentions=True,
        output_hidden_states=True, use_cache=False,
    )  # fmt: skip
    for stack, states, attentions in (
        ("encoder", theirs.encoder_hidden_states, theirs.encoder_attentions),
        ("decoder", theirs.decoder_hidden_states, theirs.decoder_attentions),
    ):
        torch.testing.assert_close(own[f"{stack}.0.hook_resid_post"], states[1], atol=1e-5, rtol=0)
        for layer in range(2):
            found = own[f"{stack}.{layer}.attn.hook_pattern"]
            torch.testing.assert_close(found, attentions[layer], atol=1e-6, rtol=1e-5)
    for layer in range(2):
        found = own[f"decoder.{layer}.cross_attn.hook_pattern"]
        torch.testing.assert_close(found, theirs.cross_attentions[layer], atol=1e-6, rtol=1e-5)
