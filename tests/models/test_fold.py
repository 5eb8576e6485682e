"""Constants folded into weights, and GPT-2-shaped decoders as Hugging Face modules and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, build_encoder, forward, from_hf, run_with_edits
from mechprobe.models.fold import fold_closed, fold_to_hf
from mechprobe.models.to_gpt2 import gpt2_to_hf
from mechprobe.sites import Site

pytestmark = pytest.mark.usefixtures("one_thread")


def decoder(seed: int = 0, **settings: Any):
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 6, "n_ctx": 12, "d_vocab": 20,
             "dtype": torch.float64}  # fmt: skip
    model = build_decoder(**(sizes | settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "unembed.b_U":
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.4 * draw + name.endswith(".w"))
    return model


@pytest.mark.parametrize("kind", ["decoder", "classifier"])
@torch.no_grad()
def test_a_folded_model_is_the_edited_one(kind, tiny_classifier, random_batch):
    model = decoder() if kind == "decoder" else tiny_classifier(dtype=torch.float64)
    batch = random_batch(7, 4, 6)
    generator = torch.Generator().manual_seed(1)
    sizes = {Site("head", 1, 0): 4, Site("mlp", 0): 8, Site("head", 0, 1): 4}
    stand_ins = {
        site: torch.randn(n, generator=generator, dtype=torch.float64) for site, n in sizes.items()
    }
    stand_ins[Site("neuron", 1, 3)] = torch.tensor(0.7, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_closed(model, stand_ins)
    edits = {
        site: (lambda own, value=value: value.expand_as(own)) for site, value in stand_ins.items()
    }
    expected = run_with_edits(model, batch, edits)
    torch.testing.assert_close(forward(folded, batch), expected, rtol=0, atol=1e-12)
    assert (expected - forward(model, batch)).abs().max() > 1e-3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "settings", [{}, {"act_fn": "relu", "scale_attn_by_inverse_layer_idx": True, "eps": 1e-4}]
)
@torch.no_grad()
def test_a_decoder_is_the_same_in_hugging_face_and_back(settings):
    model = decoder(**settings)
    module = gpt2_to_hf(model)
    tokens = torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(2))
    logits = module(tokens).logits
    torch.testing.assert_close(logits, model(tokens), rtol=0, atol=1e-10)
    assert not module.training
    assert not torch.equal(module.lm_head.weight, module.transformer.wte.weight)
    again = from_hf(module)
    torch.testing.assert_close(again(tokens), logits, rtol=0, atol=1e-10)
    model.unembed.W_U.copy_(model.embed.W_E.T)
    tied = gpt2_to_hf(model)
    assert tied.lm_head.weight is tied.transformer.wte.weight
    torch.testing.assert_close(tied(tokens).logits, model(tokens), rtol=0, atol=1e-10)


def test_other_shapes_are_refused():
    cases: list[tuple[dict[str, Any], str]] = [
        ({"normalization_type": "RMS"}, "normalization_type='RMS' is not GPT-2-shaped"),
        ({"positional_embedding_type": "rotary", "rotary_dim": 4}, "positional_embedding_type='ro"),
        ({"attn_only": True, "d_mlp": None}, "attn_only=True is not GPT-2-shaped"),
        ({"d_head": 6}, "this decoder has d_model 8, 2 heads of 6"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            gpt2_to_hf(decoder(**settings))
    biased = decoder()
    with torch.no_grad():
        biased.unembed.b_U += 1
    with pytest.raises(InputError, match="GPT-2 has no unembedding bias"):
        gpt2_to_hf(biased)
    encoder = build_encoder(n_layers=1, n_heads=1, d_model=4, n_ctx=4, d_vocab=5)
    with pytest.raises(InputError, match="a HookedEncoder cannot be made a Hugging Face module"):
        fold_to_hf(encoder, {})
    with pytest.raises(InputError, match=r"no site '5\.0' here"):
        fold_closed(biased, {Site("head", 5, 0): torch.zeros(4)})
