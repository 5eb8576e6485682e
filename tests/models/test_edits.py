"""How edits combine, what is refused, and that a model is left as it was found."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import (
    HookDidNotFire,
    build_classifier,
    build_decoder,
    build_encoder_decoder,
    forward,
    hook_name,
    run_with_cache,
    run_with_edits,
    site_grid,
)
from mechprobe.models.given import as_batch, as_edit
from mechprobe.sites import Site, SiteGrid


@pytest.fixture
def model(sizes):
    return build_classifier(("yes", "no"), None, **sizes, seed=1, init_std=0.3)


def n_hooks(model) -> int:
    return sum(len(point._forward_hooks) for point in model.hook_dict.values())


def test_no_edits_is_the_model(model, make_batch):
    batch = make_batch(6, 3)
    assert torch.equal(run_with_edits(model, batch, {}), forward(model, batch))


def test_an_identity_edit_is_the_model(model, make_batch):
    batch = make_batch(6, 3)
    edits = {site: lambda x: x for site in (*site_grid(model), Site("head", 0))}
    assert torch.equal(run_with_edits(model, batch, edits), forward(model, batch))


def test_single_heads_together_equal_the_whole_layer(model, make_batch):
    batch = make_batch(6, 3)
    by_head = {Site("head", 1, h): lambda z, h=h: z * (h + 1) / 4 for h in range(4)}
    factors = torch.arange(1, 5)[:, None] / 4
    wide = {Site("head", 1): lambda z: z * factors}
    torch.testing.assert_close(
        run_with_edits(model, batch, by_head), run_with_edits(model, batch, wide)
    )


def test_the_whole_layer_is_edited_before_its_heads(model, make_batch):
    batch = make_batch(4)
    both = {Site("head", 0, 2): lambda z: z + 1, Site("head", 0): torch.zeros_like}
    _, values = run_with_cache(model, batch, [Site("head", 0)], both)
    z = values[Site("head", 0)]
    assert (z[:, :, 2] == 1).all()
    assert z.sum() == z[:, :, 2].sum()


def test_an_edit_gets_the_shape_it_is_promised(model, make_batch):
    batch = make_batch(6, 3)
    expected = {
        Site("head", 1, 0): (2, 6, 8),
        Site("head", 0): (2, 6, 4, 8),
        Site("mlp", 0): (2, 6, 32),
        Site("neuron", 1, 5): (2, 6),
    }
    seen = {}
    edits = {site: (lambda x, site=site: seen.setdefault(site, x) * 1) for site in expected}
    run_with_edits(model, batch, edits)
    assert {site: tuple(value.shape) for site, value in seen.items()} == expected


def test_an_edit_does_not_reach_the_value_of_another_run(model, make_batch):
    batch = make_batch(5)
    before = forward(model, batch)
    with torch.no_grad():
        run_with_edits(model, batch, {Site("head", 0, 1): lambda z: z.zero_()})
    assert torch.equal(forward(model, batch), before)


@pytest.mark.parametrize("wrong", [lambda z: z.sum(), lambda z: None, lambda z: z[:, :1]])
def test_an_edit_of_another_shape_is_refused(model, make_batch, wrong):
    with pytest.raises(InputError, match=r"edit at 0\.1 gave .* expected|edit at 0\.1 gave"):
        run_with_edits(model, make_batch(5), {Site("head", 0, 1): wrong})
    assert n_hooks(model) == 0


def test_hooks_go_away_when_an_edit_raises(model, make_batch):
    def fail(value):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with_edits(model, make_batch(5), {Site("mlp", 0): fail, Site("head", 1): fail})
    assert n_hooks(model) == 0


def test_hooks_of_the_user_stay_and_come_first(model, make_batch):
    batch = make_batch(5)
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0)
    _, values = run_with_cache(
        model, batch, [Site("head", 0)], {Site("head", 0, 3): lambda z: z + 1}
    )
    assert values[Site("head", 0)][:, :, :3].abs().max() == 0
    assert n_hooks(model) == 1
    model.reset_hooks()
    assert n_hooks(model) == 0


def test_a_hook_that_does_not_fire_raises(model, make_batch):
    model.blocks[1].mlp.forward = lambda x: x  # the block no longer passes its activation hook
    with pytest.raises(HookDidNotFire, match=r"blocks\.1\.mlp\.hook_post.*nearest.*blocks\.0\.mlp"):
        run_with_edits(model, make_batch(5), {Site("neuron", 1, 3): torch.zeros_like})
    assert n_hooks(model) == 0


@pytest.mark.parametrize(
    ("site", "nearest"),
    [
        ("2.1", "1.1"),
        ("0.4", "0.3"),
        ("mlp.9", "mlp.0"),
        ("5.*", "nearest"),
        ("mlp.5.3", "nearest"),
        ("mlp.1.128", "mlp.1.127"),
        ("enc 0.1", "0.1"),
        ("cross 1.1", "1.1"),
    ],
)
def test_a_site_outside_the_model_names_the_nearest(model, make_batch, site, nearest):
    with pytest.raises(InputError, match=r"no (site|neuron)") as caught:
        run_with_edits(model, make_batch(5), {Site.parse(site): torch.zeros_like})
    assert site in str(caught.value)
    assert nearest in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_attention_only_model_has_no_mlps(sizes):
    model = build_decoder(**sizes, attn_only=True)
    assert site_grid(model) == SiteGrid(2, 4, mlps=False)
    for site in ("mlp.0", "mlp.0.1"):
        with pytest.raises(InputError, match="no site"):
            hook_name(model, site)


def test_pooled_output_can_be_read(model, make_batch):
    batch = make_batch(6, 3)
    caught = []
    handle = model.hook_pooled.register_forward_hook(lambda m, i, out: caught.append(out))
    logits = forward(model, batch)
    handle.remove()
    assert caught[0].shape == (2, 32)
    assert torch.equal(model.classifier(caught[0]), logits)


def test_tokens_are_a_batch_without_padding(model, make_batch):
    decoder = build_decoder(n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=8, d_vocab=12)
    for read, known in ((model, model.cfg.d_vocab), (decoder, 12)):
        tokens = torch.arange(10).reshape(2, 5) % known
        batch = as_batch(read, tokens)
        assert torch.equal(run_with_edits(read, tokens, {}), forward(read, batch))
        logits, values = run_with_cache(read, tokens)
        assert torch.equal(logits, forward(read, batch))
        assert set(values) == set(site_grid(read))
        assert torch.equal(values["0.1"], values[Site("head", 0, 1)])
        assert torch.equal(values[(0, 1)], run_with_cache(read, batch, "L0H1")[1]["0.1"])
    torch.testing.assert_close(decoder(tokens), run_with_edits(decoder, tokens, {}))


def test_constants_stand_where_a_function_that_gives_them_would(model, make_batch):
    batch, row = make_batch(6, 3), torch.arange(8.0)
    given = {"0.1": 2, "1.0": row, "mlp.0": 0.5}
    functions = {
        Site("head", 0, 1): lambda z: z * 0 + 2, Site("head", 1, 0): lambda z: z * 0 + row,
        Site("mlp", 0): lambda x: x * 0 + 0.5,
    }
    assert torch.equal(run_with_edits(model, batch, given), run_with_edits(model, batch, functions))
    with pytest.raises(InputError, match=r"edit at 0.1 is a tensor of shape \[7\]"):
        run_with_edits(model, batch, {"0.1": torch.zeros(7)})


def test_what_cannot_be_run_is_refused_in_a_line(model):
    tokens = torch.zeros(2, 5, dtype=torch.long)
    seq2seq = build_encoder_decoder(n_layers=1, n_heads=1, d_model=4, d_mlp=4, d_vocab=9)
    for read, given, said in (
        (seq2seq, tokens, "give mp.seq2seq_batch"), (model, tokens.float(), "give integers"),
        (model, tokens[0], "give integers"), (model, tokens - 1, "token -1 is unknown"),
        (model, "a text", "a str cannot be run"), (None, tokens, "where the model belongs"),
        (torch.nn.Linear(2, 2), tokens, "open it with mp.load_model"),
        ("gpt2", tokens, "'gpt2' stands where the model belongs"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            as_batch(read, given)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="give a function of the site's value, a number"):
        as_edit("zero", Site("head", 0, 1))
