"""Fresh models: the seed decides the weights, and wrong settings are refused first."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from transformer_lens import HookedEncoder, HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models import (
    HookedClassifier,
    build_classifier,
    build_decoder,
    build_encoder,
    forward,
    load_model,
)

LABELS = ("entailment", "non-entailment")


def builders(sizes):
    return {
        "classifier": lambda seed: build_classifier(LABELS, None, **sizes, seed=seed),
        "encoder": lambda seed: build_encoder(**sizes, seed=seed),
        "decoder": lambda seed: build_decoder(**sizes, seed=seed),
    }


@pytest.mark.parametrize("kind", ["classifier", "encoder", "decoder"])
def test_the_seed_decides_every_weight(kind, sizes):
    build = builders(sizes)[kind]
    one, same, other = build(1), build(1), build(2)
    for (name, weight), again, different in zip(
        one.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, again), name
        assert torch.isfinite(weight).all(), name
        if weight.unique().numel() > 1:
            assert not torch.equal(weight, different), name
    drawn = [n for n, w in one.named_parameters() if w.unique().numel() > 1]
    assert {n.rsplit(".", 1)[-1] for n in drawn} >= {"W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"}
    if kind != "decoder":
        assert "pooler.W" in drawn  # TransformerLens would leave it as it found the memory


@pytest.mark.parametrize("kind", ["classifier", "encoder", "decoder"])
def test_building_leaves_the_random_state_of_the_process_alone(kind, sizes):
    def draw() -> list[float]:
        return [torch.rand(()).item(), np.random.rand()]  # noqa: NPY002

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    builders(sizes)[kind](0)
    assert draw() == expected


def test_construction_is_quiet_without_silencing_the_process(sizes, capsys):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for build in builders(sizes).values():
            build(0)
        assert not [w for w in caught if issubclass(w.category, DeprecationWarning)]
        warnings.warn("HookedThing is deprecated", DeprecationWarning, stacklevel=1)
        assert len(caught) == 1
    assert capsys.readouterr().out == ""


def test_a_tokenizer_gives_the_vocabulary(tokenizer, sizes):
    del sizes["d_vocab"]
    for model in (
        build_classifier(LABELS, tokenizer, **sizes),
        build_encoder(tokenizer=tokenizer, **sizes),
        build_decoder(tokenizer=tokenizer, **sizes),
    ):
        assert model.cfg.d_vocab == len(tokenizer)
        assert model.tokenizer is tokenizer


def test_load_model_builds_from_a_mapping(sizes, make_batch):
    batch = make_batch(5)
    kinds = {"decoder": HookedTransformer, "encoder": HookedEncoder}
    for kind, expected in kinds.items():
        model = load_model({"kind": kind, **sizes}, seed=3)
        assert isinstance(model, expected)
        assert torch.equal(forward(model, batch), forward(builders(sizes)[kind](3), batch))
    model = load_model({"kind": "classifier", **sizes}, labels=LABELS)
    assert isinstance(model, HookedClassifier)
    assert model.labels == LABELS


def test_dtype_and_device_stay_true_in_the_config(sizes, make_batch):
    model = build_classifier(LABELS, None, **sizes, dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    exact = forward(model, make_batch(6, 3))
    assert model.to(torch.float32) is model
    assert model.cfg.dtype == torch.float32
    torch.testing.assert_close(forward(model, make_batch(6, 3)).double(), exact, atol=1e-5, rtol=0)
    half = forward(model.to(torch.bfloat16), make_batch(6, 3))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, atol=0.1, rtol=0)


def test_a_classifier_can_be_copied_and_trained_apart(sizes, make_batch):
    model = build_classifier(LABELS, None, **sizes)
    twin = copy.deepcopy(model)
    batch = make_batch(6, 3)
    before = forward(model, batch).detach()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    forward(twin, batch).square().sum().backward()
    gradients = {n for n, p in twin.named_parameters() if p.grad is not None and p.grad.any()}
    assert gradients == {n for n, _ in twin.named_parameters() if not n.endswith("b_K")} | (
        gradients & {f"blocks.{i}.attn.b_K" for i in range(2)}
    )  # a key bias shifts all scores of a query alike: its gradient is 0 up to rounding
    optimizer.step()
    assert torch.equal(forward(model, batch), before)
    assert not torch.equal(forward(twin, batch), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 5}, "d_model 32 is not a multiple of n_heads 5"),
        ({"n_layers": 0}, "missing: n_layers"),
        ({"n_contexts": 3}, "no model setting 'n_contexts'; nearest: n_ctx"),
        ({"act_fn": "swish"}, "swish"),
        ({"d_vocab": -1}, "give d_vocab or a tokenizer"),
    ],
)
def test_settings_that_cannot_work_are_refused(sizes, settings, message):
    with pytest.raises(InputError, match=message):
        build_decoder(**(sizes | settings))


@pytest.mark.parametrize("labels", [("one",), (), ("same", "same"), "entailment"])
def test_labels_that_cannot_work_are_refused(sizes, labels):
    with pytest.raises(InputError, match="two or more different names"):
        build_classifier(labels, None, **sizes)


def test_a_sequence_longer_than_the_model_is_refused(sizes, make_batch):
    model = build_classifier(LABELS, None, **sizes)
    with pytest.raises(InputError, match="sequence of 25 tokens, but the model reads at most 24"):
        forward(model, make_batch(6, pad_to=25))


def test_unknown_kind_is_refused(sizes):
    with pytest.raises(InputError, match="kind must be one of decoder, encoder, classifier"):
        load_model({"kind": "rnn", **sizes})
