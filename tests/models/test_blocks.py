"""The faster block and matrix product give what TransformerLens and torch give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformer_lens.components.bert_block import BertBlock

from mechprobe.models import build_classifier, matmul
from mechprobe.models.blocks import bert_block
from mechprobe.models.build import bert_config, initialise
from mechprobe.models.matmul import linear

needs_one_dnn = pytest.mark.skipif(not matmul._works(), reason="no oneDNN product on this CPU")


@pytest.fixture(params=["torch", "oneDNN"])
def product(request, monkeypatch):
    """Runs a test with each of the two libraries, also for small matrices."""
    if request.param == "oneDNN":
        if not matmul._works():
            pytest.skip("no oneDNN product on this CPU")
        monkeypatch.setattr(matmul, "SMALL", 0)
    else:
        monkeypatch.setattr(matmul, "SMALL", 2**60)
    return request.param


def pair_of_blocks(**settings):
    cfg = bert_config(n_layers=1, n_heads=4, d_model=32, n_ctx=8, d_vocab=9, **settings)
    ours, theirs = bert_block(cfg), BertBlock(cfg)
    initialise(ours, 0.3, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(ours.parameters()):
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel()) + i).view_as(parameter))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def block_input(seed: int = 0):
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    mask = torch.zeros(3, 1, 1, 7)
    mask[1, ..., 4:] = torch.finfo(torch.float32).min
    return x, mask


def listen(block) -> dict[str, torch.Tensor]:
    caught = {}
    for name, module in block.named_modules():
        if name.rsplit(".", 1)[-1].startswith("hook_"):
            module.register_forward_hook(
                lambda m, i, out, name=name: caught.update({name: out.detach()})
            )
    return caught


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"act_fn": "gelu_new"},
        {"act_fn": "relu", "eps": 1e-3},
        {"use_split_qkv_input": True},
        {"use_attn_result": True},
        {"use_hook_mlp_in": True},
    ],
)
def test_a_block_equals_transformer_lens(product, settings):
    ours, theirs = pair_of_blocks(**settings)
    assert type(ours) is not BertBlock
    (x, mask), (y, _) = block_input(), block_input()
    a, b = ours(x, mask), theirs(y, mask)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    weights = torch.sin(torch.arange(a.numel())).view_as(a)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)
    other = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, other[name].grad, atol=2e-5, rtol=1e-4)


def test_the_same_hooks_fire_with_the_same_values(product):
    ours, theirs = pair_of_blocks()
    x, mask = block_input()
    heard, expected = listen(ours), listen(theirs)
    ours(x, mask)
    theirs(x, mask)
    assert heard.keys() == expected.keys()
    assert {"ln1.hook_scale", "ln2.hook_normalized", "attn.hook_z", "mlp.hook_post"} <= set(heard)
    for name, value in expected.items():
        torch.testing.assert_close(heard[name], value, atol=1e-5, rtol=1e-5)


def test_an_edit_at_any_hook_changes_the_output():
    ours, _ = pair_of_blocks()
    x, mask = block_input()
    plain = ours(x, mask)
    points = {n: m for n, m in ours.named_modules() if n.rsplit(".", 1)[-1].startswith("hook_")}
    unused = {"attn.hook_result", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in"}
    for name in points.keys() - unused:
        handle = points[name].register_forward_hook(
            lambda m, i, out: out + 0.5 * torch.sin(torch.arange(out.numel())).view_as(out)
        )
        assert (ours(x, mask) - plain).abs().max() > 1e-3, name
        handle.remove()
    assert torch.equal(ours(x, mask), plain)


@pytest.mark.parametrize("settings", [{"attn_scores_soft_cap": 5.0}, {"clip_qkv": 1.0}])
def test_unusual_settings_take_transformer_lens_own_block(settings):
    ours, theirs = pair_of_blocks(**settings)
    assert type(ours) is BertBlock
    x, mask = block_input()
    assert torch.equal(ours(x, mask), theirs(x, mask))


@needs_one_dnn
@pytest.mark.parametrize("shape", [(5, 7, 33), (64, 33), (33,), (0, 33)])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_is_torchs_linear(monkeypatch, shape, transposed):
    monkeypatch.setattr(matmul, "SMALL", 0)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(33, 20, generator=generator).t() if transposed else torch.randn(20, 33)
    for bias in (None, torch.randn(20, generator=generator)):
        x = torch.randn(*shape, generator=generator)
        torch.testing.assert_close(
            linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5
        )


@needs_one_dnn
def test_gradients_are_torchs_first_and_second(monkeypatch):
    monkeypatch.setattr(matmul, "SMALL", 0)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=generator) for s in ((4, 6, 12), (9, 12), (9,))]

    def derivatives(function):
        x, weight, bias = (t.clone().requires_grad_() for t in inputs)
        loss = function(x, weight, bias).sin().sum()
        first = torch.autograd.grad(loss, (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, bias))
        return [*first, *second]

    for ours, theirs in zip(derivatives(linear), derivatives(F.linear), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@needs_one_dnn
def test_frozen_weights_get_no_gradient_and_keep_no_activations(monkeypatch):
    monkeypatch.setattr(matmul, "SMALL", 0)
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        out = linear(x, weight)
    assert kept == [weight.shape]
    out.sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(4, 6))
    assert weight.grad is None


@needs_one_dnn
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_function_transforms_work(monkeypatch):
    monkeypatch.setattr(matmul, "SMALL", 0)
    x, weight = torch.randn(3, 4, 6), torch.randn(5, 6)
    torch.testing.assert_close(
        torch.func.vmap(lambda row: linear(row, weight))(x), F.linear(x, weight)
    )
    gradient = torch.func.grad(lambda w: linear(x, w).sin().sum())(weight)
    expected = torch.func.grad(lambda w: F.linear(x, w).sin().sum())(weight)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


@needs_one_dnn
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_which_library_multiplies(monkeypatch):
    used = []
    real = matmul._one_dnn
    monkeypatch.setattr(matmul, "_one_dnn", lambda *args: used.append(1) or real(*args))
    big, small, weight = torch.randn(600, 64), torch.randn(60, 64), torch.randn(64, 64)
    linear(small, weight)
    linear(big.double(), weight.double())
    linear(big.bfloat16(), weight.bfloat16())
    with torch.backends.mkldnn.flags(enabled=False):
        linear(big, weight)
    assert not used
    linear(big, weight)
    assert used


def test_a_classifier_uses_the_faster_blocks(sizes):
    model = build_classifier(("a", "b"), None, **sizes)
    assert all(type(block) is not BertBlock for block in model.blocks)
