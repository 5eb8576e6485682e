"""T5 against Hugging Face itself: logits, every kind of site, closing, patterns, there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformer_lens import HookedEncoderDecoder
from transformers import T5Config, T5ForConditionalGeneration

from mechprobe.errors import InputError
from mechprobe.models import (
    attention_patterns,
    forward,
    from_hf,
    hook_name,
    load_model,
    run_with_cache,
    run_with_edits,
    site_grid,
    to_hf,
)
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks import Seq2SeqBatch, seq2seq_batch

VOCAB, HEADS, WIDTH, MLP = 30, 3, 6, 20  # heads x width is not d_model
VARIANTS = {
    "1.0": ("relu", True, True),
    "1.1": ("gated-gelu", False, False),
    "1.0 untied": ("relu", True, False),
    "1.1 tied": ("gated-gelu", False, True),
}


def tiny_t5(variant: str = "1.0", **settings: Any) -> T5ForConditionalGeneration:
    """A T5 whose every weight shows, and whose distances reach the logarithmic buckets."""
    form, scaled, tied = VARIANTS[variant]
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "d_model": 24, "d_kv": WIDTH, "d_ff": MLP, "num_layers": 2,
        "num_heads": HEADS, "feed_forward_proj": form, "tie_word_embeddings": scaled,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 7,
        "decoder_start_token_id": 0, "attn_implementation": "eager",
    }  # fmt: skip
    module = T5ForConditionalGeneration(T5Config(**(sizes | settings)))
    if not tied:
        module.lm_head.weight = nn.Parameter(torch.empty_like(module.shared.weight))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.25 * draw + float("layer_norm" in name))
    return module.eval()


def ragged(seed: int = 0, sources=(9, 4, 7), targets=(3, 8, 5), first: int = 0) -> Seq2SeqBatch:
    generator = torch.Generator().manual_seed(seed)

    def rows(lengths) -> list[list[int]]:
        return [torch.randint(2, VOCAB, (n,), generator=generator).tolist() for n in lengths]

    return seq2seq_batch(rows(sources), rows(targets), first=first)


def run_hf(module: T5ForConditionalGeneration, batch: Seq2SeqBatch) -> Any:
    return module(
        input_ids=batch.tokens, attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_tokens, decoder_attention_mask=batch.decoder_mask,
        output_attentions=True, use_cache=False,
    )  # fmt: skip


def real(value: Tensor, batch: Seq2SeqBatch, stack: str = "dec") -> Tensor:
    return value[batch.real(stack).bool()]


def places(module: T5ForConditionalGeneration) -> dict[tuple[str, int], Any]:
    """Where the module keeps each stack's attention, and the MLPs of encoder and decoder."""
    found: dict[tuple[str, int], Any] = {}
    for layer in range(module.config.num_layers):
        enc, dec = module.encoder.block[layer].layer, module.decoder.block[layer].layer
        found["enc", layer] = enc[0].SelfAttention
        found["dec", layer] = dec[0].SelfAttention
        found["cross", layer] = dec[1].EncDecAttention
        found["enc mlp", layer] = enc[1].DenseReluDense
        found["dec mlp", layer] = dec[2].DenseReluDense
    return found


def all_sites(model: HookedEncoderDecoder) -> list[Site]:
    grid = site_grid(model)
    wide = [Site("neuron", site.layer, None, site.stack) for site in grid.rows("mlp")]
    some = [Site("neuron", s.layer, i, s.stack) for s in grid.rows("mlp") for i in (0, MLP - 1)]
    return [*grid, *grid.rows("head"), *wide, *some]


def hf_values(module: T5ForConditionalGeneration, batch: Seq2SeqBatch) -> dict[Site, Tensor]:
    """The value at every site, caught by plain torch hooks at the module's own layers."""
    found: dict[Site, Tensor] = {}
    handles = []
    for (where, layer), part in places(module).items():
        stack: Any = where.split()[0]

        def read_z(m: nn.Module, inputs: Any, layer: int = layer, stack: Any = stack) -> None:
            z = inputs[0].unflatten(-1, (HEADS, WIDTH))
            found[Site("head", layer, None, stack)] = z
            found.update({Site("head", layer, i, stack): z[:, :, i] for i in range(HEADS)})

        def read_mlp(
            m: nn.Module, inputs: Any, output: Tensor, layer: int = layer, stack: Any = stack
        ) -> None:
            found[Site("mlp", layer, None, stack)] = output
            found[Site("neuron", layer, None, stack)] = inputs[0]
            found.update({Site("neuron", layer, i, stack): inputs[0][..., i] for i in range(MLP)})

        if "mlp" in where:
            handles.append(part.wo.register_forward_hook(read_mlp))
        else:
            handles.append(part.o.register_forward_pre_hook(read_z))
    run_hf(module, batch)
    for handle in handles:
        handle.remove()
    return found


def close(module: T5ForConditionalGeneration, site: Site) -> None:
    """Close a site in the module by zeroing the columns that read its value."""
    where = site.stack if site.kind == "head" else f"{site.stack} mlp"
    part = places(module)[where, site.layer]
    with torch.no_grad():
        match site.kind, site.index:
            case ("head", None):
                part.o.weight.zero_()
            case ("head", int(head)):
                part.o.weight[:, head * WIDTH : (head + 1) * WIDTH].zero_()
            case ("neuron", int(neuron)):
                part.wo.weight[:, neuron].zero_()
            case _:
                part.wo.weight.zero_()


@pytest.fixture(scope="module", params=["1.0", "1.1"])
def module(request) -> T5ForConditionalGeneration:
    return tiny_t5(request.param)


@pytest.fixture(scope="module")
def model(module) -> HookedEncoderDecoder:
    return from_hf(module)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_hugging_face(variant):
    module, batch = tiny_t5(variant), ragged()
    ours = forward(from_hf(module), batch)
    theirs = run_hf(module, batch).logits
    assert ours.shape == (3, 9, VOCAB)
    assert theirs.std() > 0.1
    torch.testing.assert_close(real(ours, batch), real(theirs, batch), atol=2e-5, rtol=0)


def test_activations_and_scaling_are_told_apart():
    batch = ragged()
    for form, other in (("gated-gelu", "gated-silu"), ("relu", "gelu")):
        module = tiny_t5("1.0", feed_forward_proj=form)
        torch.testing.assert_close(
            real(forward(from_hf(module), batch), batch),
            real(run_hf(module, batch).logits, batch), atol=2e-5, rtol=0,
        )  # fmt: skip
        own = forward(from_hf(module), batch)
        module.config.dense_act_fn = other.removeprefix("gated-")
        assert (forward(from_hf(module), batch) - own).abs().max() > 1e-3
    scaled, plain = (from_hf(tiny_t5("1.0", tie_word_embeddings=tie)) for tie in (True, False))
    torch.testing.assert_close(forward(plain, batch), forward(scaled, batch) * 24**0.5)


def test_every_value_is_the_one_hugging_face_computes(module, model):
    batch = ragged()
    sites = all_sites(model)
    theirs = hf_values(module, batch)
    _, ours = run_with_cache(model, batch, sites)
    assert set(ours) == set(sites)
    for site in sites:
        torch.testing.assert_close(
            real(ours[site], batch, site.stack), real(theirs[site], batch, site.stack),
            atol=1e-5, rtol=1e-5, msg=lambda text, site=site: f"{site}: {text}",
        )  # fmt: skip


def test_closing_a_site_equals_zeroing_its_weights(module, model):
    batch = ragged()
    weights = {name: w.clone() for name, w in module.state_dict().items()}
    own = real(forward(model, batch), batch)
    for site in all_sites(model):
        edited = real(run_with_edits(model, batch, {site: torch.zeros_like}), batch)
        close(module, site)
        theirs = real(run_hf(module, batch).logits, batch)
        module.load_state_dict(weights)
        torch.testing.assert_close(
            edited, theirs, atol=5e-5, rtol=0, msg=lambda text, site=site: f"{site}: {text}"
        )
        assert (edited - own).abs().max() > 1e-4, f"closing {site} changed nothing"


def test_attention_patterns_equal_hugging_face(module, model):
    batch = ragged()
    theirs = run_hf(module, batch)
    for stack, patterns in (
        ("enc", theirs.encoder_attentions),
        ("dec", theirs.decoder_attentions),
        ("cross", theirs.cross_attentions),
    ):
        ours = attention_patterns(model, batch, stack=stack)
        assert list(ours) == [0, 1]
        for layer, pattern in ours.items():
            assert not pattern.requires_grad
            for row in range(3):
                queries = int(batch.real(stack)[row].sum())
                keys = int(batch.real("dec" if stack == "dec" else "enc")[row].sum())
                part = pattern[row, :, :queries]
                torch.testing.assert_close(
                    part[..., :keys], patterns[layer][row, :, :queries, :keys], atol=1e-6, rtol=1e-5
                )
                assert (part[..., keys:] == 0).all()
                torch.testing.assert_close(part.sum(-1), torch.ones(HEADS, queries))
    assert list(attention_patterns(model, batch, layers=[1], stack="cross")) == [1]
    with pytest.raises(InputError, match="no attention of a stack '' here; give stack='enc' or"):
        attention_patterns(model, batch)
    with pytest.raises(InputError, match="no site 'cross 2"):
        attention_patterns(model, batch, [2], stack="cross")


def test_padding_changes_nothing(model):
    batch = ragged()
    edits = {
        Site("head", 0, 1, stack): (lambda z: z * 0.5) for stack in ("enc", "dec", "cross")
    }
    together = run_with_edits(model, batch, edits)
    assert torch.isfinite(together).all()
    for row in range(len(batch)):
        source = batch.tokens[row][batch.attention_mask[row].bool()].tolist()
        target = batch.decoder_tokens[row][batch.decoder_mask[row].bool()].tolist()
        alone = run_with_edits(model, seq2seq_batch([source], [target[1:]]), edits)
        torch.testing.assert_close(together[row, : len(target)], alone[0], atol=1e-5, rtol=1e-5)


def test_gradients_of_gates_match_finite_differences(module):
    model = load_model(from_hf(module), dtype=torch.float64).requires_grad_(False)
    batch = ragged(sources=(5, 3), targets=(2, 4))
    sites = all_sites(model)

    def loss(gates: Tensor) -> Tensor:
        edits = {s: (lambda x, g=gates[i]: x * g) for i, s in enumerate(sites)}
        return real(run_with_edits(model, batch, edits), batch).sin().sum()

    gates = torch.full((len(sites),), 0.9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(gates), gates)
    silent = {str(site) for site, g in zip(sites, gradient, strict=True) if g.abs() < 1e-9}
    assert all("mlp" in name and name.count(".") == 2 for name in silent), silent  # dead neurons
    assert len(silent) < 4
    generator, step = torch.Generator().manual_seed(0), 1e-6
    for _ in range(8):
        way = torch.randn(len(sites), generator=generator, dtype=torch.float64)
        ends = [loss(gates.detach() + sign * step * way) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope.item() == pytest.approx((gradient @ way).item(), rel=1e-6, abs=1e-7)


def test_sites_are_the_ones_the_model_has(model):
    assert site_grid(model) == SiteGrid(2, HEADS, stacks=("enc", "dec", "cross"))
    names = [hook_name(model, site) for site in all_sites(model)]
    assert set(names) <= set(model.hook_dict)
    assert len(set(names)) == 2 * (3 + 2 + 2)  # heads, MLP layers and neurons of every layer
    assert hook_name(model, "cross 1.2") == "decoder.1.cross_attn.hook_z"
    for site, nearest in (
        ("0.0", "enc 0.0"), ("cross mlp.0", "enc mlp.0"), ("dec 2.0", "dec 1.0"),
        ("enc mlp.0.20", r"enc mlp\.0\.19"), ("cross mlp.0.1", "nearest"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"no (site|neuron).*{nearest}"):
            hook_name(model, site)


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back_again_is_exact(variant):
    module, batch = tiny_t5(variant), ragged()
    ours = from_hf(module)
    back = to_hf(ours)
    assert isinstance(back, T5ForConditionalGeneration)
    assert not back.training
    theirs = module.state_dict()
    assert back.state_dict().keys() == theirs.keys()
    for name, weight in back.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    torch.testing.assert_close(run_hf(back, batch).logits, run_hf(module, batch).logits)
    before = forward(ours, batch).detach()
    with torch.no_grad():
        for parameter in (*module.parameters(), *back.parameters()):
            parameter.zero_()
    assert torch.equal(forward(ours, batch), before)


def test_conversion_draws_no_random_numbers(module):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    to_hf(from_hf(module))
    assert torch.equal(torch.rand(2), expected)


def test_biases_that_t5_lacks_stay_zero(module):
    ours = from_hf(module)
    biases = {n: p for n, p in ours.named_parameters() if n.rsplit(".", 1)[-1].startswith("b_")}
    assert len(biases) == 2 * 3 * 4 + 4 * 2 + 1  # q, k, v, o of 6 attentions; 4 MLPs; unembedding
    assert not any(p.requires_grad or p.any() for p in biases.values())
    assert all(p.requires_grad for n, p in ours.named_parameters() if n not in biases)
    with torch.no_grad():
        biases["decoder.0.attn.b_O"].fill_(1.0)
    with pytest.raises(InputError, match=r"T5 has no biases, and decoder\.0\.attn\.b_O is not"):
        to_hf(ours)


def _deeper() -> T5ForConditionalGeneration:
    return tiny_t5(num_decoder_layers=3)


def _odd() -> T5ForConditionalGeneration:
    module = tiny_t5()
    module.config.dense_act_fn = "mish"
    return module


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (_deeper, "2 encoder and 3 decoder layers is not supported"),
        (_odd, "activation 'mish' is not supported"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    build: Callable[[], T5ForConditionalGeneration], message: str
):
    with pytest.raises(InputError, match=message):
        from_hf(build())


def test_labels_are_refused(module, model):
    for source in (module, model):
        with pytest.raises(InputError, match="labels are for encoders and decoders"):
            load_model(source, labels=("a", "b"))
