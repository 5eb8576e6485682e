"""The contract of every site in every architecture, against Hugging Face itself.

A site's value is the one Hugging Face computes, and closing it changes the output exactly as
zeroing the weights that read it does there. Anything that silently did nothing would fail here.
"""

from __future__ import annotations

import pytest
import torch

from mechprobe.models import (
    attention_patterns,
    forward,
    hook_name,
    load_model,
    run_with_cache,
    run_with_edits,
    save_model,
    site_grid,
)
from mechprobe.sites import Site

NEURONS = (0, 17, 47)


def all_sites(reference) -> list[Site]:
    layers = range(reference.ours.cfg.n_layers)
    wide = [Site("head", layer) for layer in layers]
    neurons = [Site("neuron", layer, i) for layer in layers for i in NEURONS]
    return [*site_grid(reference.ours), *wide, *neurons]


def real(value: torch.Tensor, batch) -> torch.Tensor:
    """The rows of real tokens; of padding, only finiteness can be asked."""
    return value[batch.attention_mask.bool()] if value.shape[:2] == batch.tokens.shape else value


def test_every_value_is_the_one_hugging_face_computes(reference, make_batch):
    batch = make_batch(9, 6, 9)
    sites = all_sites(reference)
    theirs = reference.values(batch)
    logits, ours = run_with_cache(reference.ours, batch, sites)
    torch.testing.assert_close(
        real(logits, batch), real(reference.run(batch), batch), atol=1e-5, rtol=1e-5
    )
    assert set(ours) == set(sites)
    for site in sites:
        torch.testing.assert_close(
            real(ours[site], batch), real(theirs[site], batch), atol=1e-5, rtol=1e-5,
            msg=lambda text, site=site: f"{site}: {text}",
        )  # fmt: skip


def test_closing_a_site_equals_zeroing_its_weights(reference, make_batch):
    batch = make_batch(8, 5)
    weights = {name: w.clone() for name, w in reference.module.state_dict().items()}
    open_logits = real(forward(reference.ours, batch), batch)
    for site in all_sites(reference):
        edited = run_with_edits(reference.ours, batch, {site: torch.zeros_like})
        reference.close(site)
        theirs = reference.run(batch)
        reference.module.load_state_dict(weights)
        torch.testing.assert_close(
            real(edited, batch), real(theirs, batch), atol=1e-5, rtol=1e-5,
            msg=lambda text, site=site: f"{site}: {text}",
        )  # fmt: skip
        changed = (real(edited, batch) - open_logits).abs().max()
        assert changed > 1e-4, f"closing {site} changed nothing"


def test_block_outputs_equal_hidden_states(reference, make_batch):
    batch = make_batch(7, 7)
    model = reference.ours
    last = model.cfg.n_layers - 1
    after = "hook_resid_post" if reference.is_decoder else "hook_normalized_resid_post"
    caught = {}
    hooks = [
        model.hook_dict[f"blocks.{layer}.{after}"].register_forward_hook(
            lambda module, inputs, output, layer=layer: caught.update({layer: output})
        )
        for layer in range(model.cfg.n_layers)
    ]
    forward(model, batch)
    for hook in hooks:
        hook.remove()
    states = reference.hidden_states(batch)
    # a decoder's last hidden state is after its final norm, so only the inner ones compare there
    for layer in range(last if reference.is_decoder else last + 1):
        torch.testing.assert_close(caught[layer], states[layer + 1], atol=1e-5, rtol=1e-5)


def test_attention_patterns_equal_hugging_face(reference, make_batch):
    batch = make_batch(9, 4, 7)
    theirs = reference.attentions(batch)
    ours = attention_patterns(reference.ours, batch)
    assert list(ours) == [0, 1]
    for layer, pattern in ours.items():
        assert not pattern.requires_grad
        for row, length in enumerate((9, 4, 7)):
            torch.testing.assert_close(
                pattern[row, :, :length], theirs[layer][row, :, :length], atol=1e-6, rtol=1e-5
            )
            assert (pattern[row, :, :length, length:] == 0).all()
    assert list(attention_patterns(reference.ours, batch, layers=[1])) == [1]


def test_padding_changes_nothing(reference, make_batch):
    lengths = (9, 4, 6)
    together = run_with_edits(
        reference.ours, make_batch(*lengths, pad_to=14), {Site("head", 0, 1): lambda z: z * 0.5}
    )
    assert torch.isfinite(together).all()
    for row, length in enumerate(lengths):
        batch = make_batch(*lengths)
        alone = type(batch)(
            tokens=batch.tokens[row : row + 1, :length],
            segments=batch.segments[row : row + 1, :length],
            attention_mask=batch.attention_mask[row : row + 1, :length],
            labels=batch.labels[:1],
            index=batch.index[:1],
        )
        expected = run_with_edits(reference.ours, alone, {Site("head", 0, 1): lambda z: z * 0.5})[0]
        got = together[row] if together.ndim == 2 else together[row, :length]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_gradients_of_gates_match_finite_differences(reference, make_batch):
    model = reference.ours.to(torch.float64)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    batch = make_batch(6, 4)
    sites = all_sites(reference)
    n_real = batch.attention_mask.sum()

    def loss(gates: torch.Tensor) -> torch.Tensor:
        edits = {s: (lambda x, g=gates[i]: x * g) for i, s in enumerate(sites)}
        logits = real(run_with_edits(model, batch, edits), batch)
        return logits.double().sin().sum() / n_real

    gates = torch.full((len(sites),), 0.9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(gates), gates)
    assert gradient.abs().min() > 1e-9, "a site got no gradient"
    step = 1e-6
    for i in range(len(sites)):
        bump = torch.zeros(len(sites), dtype=torch.float64)
        bump[i] = step
        slope = (loss(gates.detach() + bump) - loss(gates.detach() - bump)) / (2 * step)
        assert slope.item() == pytest.approx(gradient[i].item(), rel=1e-5, abs=1e-8), sites[i]


def test_read_values_carry_gradients(reference, make_batch):
    batch = make_batch(5)
    scale = torch.ones((), requires_grad=True)
    _, values = run_with_cache(
        reference.ours, batch, [Site("mlp", 1)], {Site("head", 0): lambda z: z * scale}
    )
    (gradient,) = torch.autograd.grad(values[Site("mlp", 1)].square().sum(), scale)
    assert gradient.abs() > 1e-4


def test_hook_names_are_the_ones_the_model_has(reference):
    for site in all_sites(reference):
        assert hook_name(reference.ours, site) in reference.ours.hook_dict


def test_a_saved_model_and_a_hugging_face_folder_give_the_same(reference, make_batch, tmp_path):
    batch = make_batch(9, 4)
    expected = forward(reference.ours, batch)
    again = load_model(save_model(reference.ours, tmp_path / "ours"))
    assert type(again) is type(reference.ours)
    assert torch.equal(forward(again, batch), expected)
    reference.module.save_pretrained(tmp_path / "theirs")
    assert torch.equal(forward(load_model(tmp_path / "theirs"), batch), expected)
