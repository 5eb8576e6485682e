"""Learned masks against a naive trainer written here, and against what they must never do."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import mean_baseline, zero_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import (
    MaskSettings,
    MaskTrainer,
    Member,
    batch_at,
    check_sparsity,
    frozen,
    full_model_logits,
    mask_loss,
    published_settings,
    scaled,
    sparsity_penalty,
    target_at,
    train_masks,
)
from mechprobe.models import build_decoder, forward, site_grid
from mechprobe.runs import Run
from mechprobe.sites import SiteGrid
from mechprobe.tasks.metrics import kl

pytestmark = pytest.mark.usefixtures("one_thread")

MEMBERS = [Member(3, 0.5), Member(0, 0.7), Member(11, 0.3)]
SHORT = MaskSettings(steps=6, lr_warmup_steps=2, init=0.5, accumulation=2)


@pytest.fixture(scope="module")
def model(tiny_classifier):
    return tiny_classifier(dtype=torch.float64)


@pytest.fixture(scope="module")
def batches(random_batch):
    return [random_batch(7, 4, 6), random_batch(5, 3, seed=1), random_batch(4, 4, seed=2)]


@pytest.fixture(scope="module")
def grid(model):
    return site_grid(model)


@pytest.fixture(scope="module")
def baseline(model, batches, grid):
    return mean_baseline(model, batches, grid)


def trained(model, batches, grid, baseline, settings=SHORT, members=MEMBERS, **more):
    return train_masks(model, batches, members, grid, baseline, settings, **more)


# the naive trainer: one member, one hook a site, its own formulas


def naive_gates(log_alpha, u):
    s = 1 / (1 + torch.exp(-(torch.log(u / (1 - u)) + log_alpha) * 1.5))
    return torch.clamp(s * 1.2 - 0.1, 0, 1)


def naive_logits(model, batch, gates, grid, means):
    handles = []
    for gate, site in zip(gates, grid.sites, strict=True):
        where = "attn.hook_z" if site.kind == "head" else "hook_mlp_out"

        def hook(module, inputs, value, gate=gate, site=site):
            if site.kind == "mlp":
                mean = means[site]
                return (value - mean) * gate + mean
            mean = means[replace(site, index=None)][:, :, site.index]
            parts = list(value.unbind(2))
            parts[site.index] = (parts[site.index] - mean) * gate + mean
            return torch.stack(parts, 2)

        point = model.hook_dict[f"blocks.{site.layer}.{where}"]
        handles.append(point.register_forward_hook(hook))
    try:
        return model(batch.tokens, batch.segments, batch.attention_mask)
    finally:
        for handle in handles:
            handle.remove()


def naive_training(model, batches, member, grid, means, settings, first_gradient=None):
    start = MaskTrainer([member], len(grid), settings).log_alpha.detach()[0]
    log_alpha = start.clone().requires_grad_(True)
    multipliers = torch.zeros(2, requires_grad=True)
    decay = {"weight_decay": settings.weight_decay}
    down = torch.optim.AdamW([log_alpha], lr=settings.lr, **decay)
    up = torch.optim.AdamW([multipliers], lr=settings.lambda_lr, maximize=True, **decay)
    for step in range(settings.steps):
        warm, total = settings.lr_warmup_steps, settings.steps
        factor = min((step + 1) / warm, (total - step) / (total - warm), 1)
        down.param_groups[0]["lr"] = settings.lr * factor
        up.param_groups[0]["lr"] = settings.lambda_lr * factor
        rise = settings.sparsity_warmup * total
        target = member.sparsity * min(1, (step + 1) / rise)
        loss = torch.zeros(())
        for micro in range(settings.accumulation):
            draw = step * settings.accumulation + micro
            batch = batches[batch_at(draw, len(batches), 0)]
            u = hard_concrete.uniform_noise(member.seed, draw, len(grid))
            gates = naive_gates(log_alpha, u)
            logits = naive_logits(model, batch, gates, grid, means)
            if settings.objective == "kl":
                full = torch.log_softmax(forward(model, batch).detach(), -1)
                masked = torch.log_softmax(logits, -1)
                own = (full.exp() * (full - masked)).sum(-1).mean()
            else:
                own = torch.nn.functional.cross_entropy(logits, batch.labels)
            if settings.rule == "published":
                closed = 1 - gates.sum() / len(grid)
            else:
                closed = torch.sigmoid(2 / 3 * math.log(0.1 / 1.1) - log_alpha).mean()
            gap = target - closed
            loss = loss + own + multipliers[0] * gap + multipliers[1] * gap * gap
        down.zero_grad()
        up.zero_grad()
        (loss / settings.accumulation).backward()
        if step == 0 and first_gradient is not None:
            first_gradient += [log_alpha.grad.clone(), multipliers.grad.clone()]
        down.step()
        up.step()
    return log_alpha.detach(), multipliers.detach()


@pytest.mark.parametrize("objective", ["kl", "task"])
@pytest.mark.parametrize("rule", ["expected", "published"])
def test_training_equals_the_naive_one(model, batches, grid, baseline, rule, objective):
    """Six steps of three members, two micro-batches each, against one member at a time."""
    settings = replace(SHORT, rule=rule, objective=objective)
    means = baseline.values(model, batches[0], grid)
    found = trained(model, batches, grid, baseline, settings)
    assert found.dtype == torch.float32
    start = MaskTrainer(MEMBERS, len(grid), settings).log_alpha
    assert (found - start).abs().max() > 0.1
    with frozen(model):
        for row, member in zip(found, MEMBERS, strict=True):
            expected, _ = naive_training(model, batches, member, grid, means, settings)
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["expected", "published"])
def test_the_first_gradients_equal_the_naive_ones(
    tiny_classifier, batches, grid, rule, tmp_path
):
    """The float32 model: AdamW's first moment after one step is a tenth of the gradient."""
    model = tiny_classifier()
    settings = replace(SHORT, rule=rule)
    stands = mean_baseline(model, batches, grid)
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")

        def stop(step, report):
            if step == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(model, batches, grid, stands, settings, store=store, save_every=1, on_step=stop)
        state = store.load()
    assert state is not None
    assert state["step"] == 1
    means = stands.values(model, batches[0], grid)
    with frozen(model):
        for k, member in enumerate(MEMBERS):
            gradient = []
            naive_training(model, batches, member, grid, means, settings, gradient)
            moment = state["descent"]["state"][0]["exp_avg"][k] / 0.1
            assert gradient[0].abs().max() > 1e-4
            torch.testing.assert_close(moment, gradient[0], rtol=0, atol=1e-5)
            climbing = state["ascent"]["state"][0]["exp_avg"][k].abs() / 0.1
            torch.testing.assert_close(climbing, gradient[1].abs(), rtol=0, atol=1e-5)


def test_the_gradient_of_log_alpha_passes_gradcheck(model, batches, grid, baseline):
    full = forward(model, batches[0]).detach()
    u = torch.stack([
        hard_concrete.uniform_noise(m.seed, 0, len(grid), torch.float64) for m in MEMBERS
    ])
    target = torch.tensor([0.5, 0.7, 0.3], dtype=torch.float64)

    def loss(log_alpha, multipliers):
        gates = hard_concrete.sample(log_alpha, u)
        logits = gated_logits(model, batches[0], gates, grid, baseline)
        penalty = sparsity_penalty(1 - gates.mean(-1), target, multipliers)
        expected = hard_concrete.probability_closed(log_alpha).mean(-1)
        both = penalty + sparsity_penalty(expected, target, multipliers)
        return torch.stack([kl(full, row).mean() for row in logits]) + both

    generator = torch.Generator().manual_seed(0)
    log_alpha = torch.rand(3, len(grid), generator=generator, dtype=torch.float64) - 0.5
    multipliers = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    inputs = (log_alpha.requires_grad_(True), multipliers.requires_grad_(True))
    assert torch.autograd.gradcheck(loss, inputs)


def test_members_are_their_own_single_runs_for_any_chunk(model, batches, grid, baseline):
    together = trained(model, batches, grid, baseline)
    for chunk in (1, 2):
        chunked = trained(model, batches, grid, baseline, chunk=chunk)
        torch.testing.assert_close(chunked, together, rtol=0, atol=1e-6)
    for row, member in zip(together, MEMBERS, strict=True):
        alone = trained(model, batches, grid, baseline, members=[member])
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-6)


def test_training_is_deterministic_and_draws_from_no_global_state(model, batches, grid, baseline):
    torch.manual_seed(1)
    first = trained(model, batches, grid, baseline)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = trained(model, batches, grid, baseline)
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, trained(model, batches, grid, baseline, order_seed=1))
    other = [replace(m, seed=m.seed + 1) for m in MEMBERS]
    assert not torch.equal(first, trained(model, batches, grid, baseline, members=other))


def test_known_full_logits_are_used(model, batches, grid, baseline):
    known = full_model_logits(model, batches)
    first = trained(model, batches, grid, baseline, full_logits=known)
    assert torch.equal(first, trained(model, batches, grid, baseline))
    shifted = [logits.flip(-1) for logits in known]
    assert not torch.equal(first, trained(model, batches, grid, baseline, full_logits=shifted))


@pytest.mark.parametrize("killed_at", [3, 5])
def test_a_killed_search_goes_on_with_the_same_bits(
    model, batches, grid, baseline, tmp_path, killed_at
):
    whole = trained(model, batches, grid, baseline)

    def kill(step, report):
        if step == killed_at:
            raise KeyboardInterrupt

    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        with pytest.raises(KeyboardInterrupt):
            trained(model, batches, grid, baseline, store=store, save_every=2, on_step=kill)
        steps = []
        resumed = trained(
            model, batches, grid, baseline, store=run.checkpoint("masks"), save_every=2,
            on_step=lambda step, report: steps.append(step),
        )  # fmt: skip
        kept = store.load()
        assert kept is not None
        assert torch.equal(kept["log_alpha"], whole)
    assert steps == list(range(killed_at, 7))  # the step that was lost is done again
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"members": [Member(4, 0.5), *MEMBERS[1:]]}, r"seeds \[3, 0, 11\], this one \[4, 0, 11\]"),
        ({"members": [Member(3, 0.4), *MEMBERS[1:]]}, r"sparsities \[0.5, 0.7, 0.3\], this one"),
        ({"settings": replace(SHORT, lr=0.2)}, r"lr 0.1, this one 0.2"),
        ({"grid": SiteGrid(2, 2, mlps=False)}, "sites 6, this one 4"),
    ],
)
def test_the_state_of_another_search_is_refused(
    model, batches, grid, baseline, tmp_path, change, named
):
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        trained(model, batches, grid, baseline, store=store, save_every=2)
        settings = {"grid": grid, "baseline": baseline} | change
        with pytest.raises(InputError, match=named + ".*delete the saved state"):
            trained(model, batches, **settings, store=store)


def test_the_state_of_another_model_or_of_other_data_is_refused(
    model, batches, grid, baseline, tmp_path
):
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")
        trained(model, batches, grid, baseline, store=store, save_every=2)
        with pytest.raises(InputError, match="has data"):
            trained(model, batches[1:], grid, baseline, store=store)
        with pytest.raises(InputError, match="has baseline"):
            trained(model, batches, grid, zero_baseline(), store=store)
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.classifier.bias += 1
        with pytest.raises(InputError, match="has model"):
            trained(other, batches, grid, baseline, store=store)


# the parts


def test_published_settings():
    half = published_settings(0.5)
    assert (half.rule, half.steps, half.accumulation, half.init) == ("published", 9_300, 4, 10.0)
    assert (half.lr, half.lambda_lr, half.lr_warmup_steps) == (0.1, 1.0, 200)
    assert half.weight_decay == 0.01
    assert half.objective == "kl"
    assert half.sparsity_warmup * half.steps == pytest.approx(9_000)
    assert published_settings(0.7).steps == 6_500 + 50 * 70 + 6 * 70
    assert published_settings(0.05).steps == 6_500 + 50 * 5 + 6 * 5
    with pytest.raises(InputError, match="outside"):
        published_settings(1.0)


def test_log_alpha_starts_where_it_should():
    trainer = MaskTrainer([Member(0, 0.5), Member(1, 0.5)], 4_000, published_settings(0.5))
    start = trainer.log_alpha.detach()
    assert float(start.mean()) == pytest.approx(10, abs=0.001)
    assert float(start.std()) == pytest.approx(0.01, rel=0.05)
    assert not torch.equal(start[0], start[1])
    again = MaskTrainer([Member(1, 0.3)], 4_000, published_settings(0.3))
    assert torch.equal(again.log_alpha[0], start[1])
    assert (trainer.multipliers == 0).all()


@pytest.mark.parametrize("shape", ["linear", "logarithmic"])
def test_the_target_rises_and_stays(shape):
    settings = MaskSettings(steps=100, sparsity_warmup=0.6, warmup_shape=shape)
    path = [target_at(step, 0.7, settings) for step in range(100)]
    assert path[:60] == sorted(path[:60])
    assert path[59:] == [pytest.approx(0.7)] * 41
    assert path[29] == pytest.approx(0.35 if shape == "linear" else 1 - math.sqrt(0.3))
    assert path[0] == pytest.approx(0.7 / 60 if shape == "linear" else 1 - 0.3 ** (1 / 60))
    at_once = replace(settings, sparsity_warmup=0.0)
    assert target_at(0, 0.7, at_once) == pytest.approx(0.7)


def test_the_penalty_is_the_lagrangian():
    closed, target = torch.tensor([0.2, 0.6]), torch.tensor([0.5, 0.5])
    multipliers = torch.tensor([[2.0, 3.0], [-1.0, 4.0]])
    penalty = sparsity_penalty(closed, target, multipliers)
    np.testing.assert_allclose(penalty, [2 * 0.3 + 3 * 0.09, 0.1 + 4 * 0.01], atol=1e-6)


@pytest.mark.parametrize("rule", ["expected", "published"])
def test_multipliers_climb_and_log_alpha_gives_way(rule):
    """Too few closed: lambda1 rises and gates close; too many: lambda1 falls and gates open."""
    settings = MaskSettings(rule=rule, steps=40, lr_warmup_steps=1, sparsity_warmup=0.0)
    for start, direction in ((3.0, 1), (-3.0, -1)):
        trainer = MaskTrainer([Member(0, 0.5)], 50, replace(settings, init=start))
        for _ in range(20):
            gates = trainer.gates()
            closed = trainer.closed_share(gates)
            sparsity_penalty(closed, trainer.targets(), trainer.multipliers).sum().backward()
            trainer.update()
        lambda1, lambda2 = trainer.multipliers.detach()[0].tolist()
        assert lambda1 * direction > 1
        assert lambda2 > 1
        assert (float(trainer.log_alpha.detach().mean()) - start) * direction < -0.3


def test_learning_rates_rise_then_fall_to_the_end():
    trainer = MaskTrainer([Member(0, 0.5)], 3, MaskSettings(steps=10, lr_warmup_steps=4))
    rates = []
    for _ in range(10):
        trainer.log_alpha.grad = torch.ones_like(trainer.log_alpha)
        trainer.multipliers.grad = torch.ones_like(trainer.multipliers)
        trainer.update()
        rates.append(trainer.descent.param_groups[0]["lr"] / 0.1)
        assert trainer.ascent.param_groups[0]["lr"] == pytest.approx(rates[-1])
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    np.testing.assert_allclose(rates, expected)


def test_every_epoch_visits_every_batch_once():
    for seed in (0, 5):
        visits = [batch_at(draw, 7, seed) for draw in range(21)]
        for epoch in range(3):
            assert sorted(visits[7 * epoch : 7 * epoch + 7]) == list(range(7))
        assert visits[:7] != visits[7:14]
    assert [batch_at(d, 7, 0) for d in range(7)] != [batch_at(d, 7, 5) for d in range(7)]


def test_scaled_settings_keep_their_shape():
    short = scaled(published_settings(0.5), 930)
    assert (short.steps, short.lr_warmup_steps) == (930, 20)
    assert short.sparsity_warmup == published_settings(0.5).sparsity_warmup
    assert scaled(MaskSettings(), 3).lr_warmup_steps == 1


def test_a_frozen_model_is_given_back_as_it_was(tiny_classifier):
    model = tiny_classifier()
    model.embed.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]

    def fail():
        with frozen(model):
            assert not any(p.requires_grad for p in model.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.requires_grad for p in model.parameters()] == before
    assert len(set(before)) == 2


def test_training_leaves_the_model_alone(model, batches, grid, baseline):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model, batches, grid, baseline)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_each_step_reports_every_member(model, batches, grid, baseline):
    seen = []
    trained(model, batches, grid, baseline, on_step=lambda step, r: seen.append((step, r)))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    first = seen[0][1]
    start = MaskTrainer(MEMBERS, len(grid), SHORT)
    expected = start.closed_share(torch.ones(3, len(grid)))
    np.testing.assert_allclose(first["closed"], expected.detach(), atol=1e-6)
    np.testing.assert_allclose(first["target"], [m.sparsity / 3.6 for m in MEMBERS], atol=1e-6)
    assert all(len(r["loss"]) == 3 and min(r["loss"]) > 0 for _, r in seen)


# language models


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(n_layers=1, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, seed=1)


def test_a_language_model_counts_real_tokens_only(decoder, random_batch):
    batch = random_batch(7, 3)
    full, masked = forward(decoder, batch).detach(), forward(decoder, batch).detach() * 0.5
    per_token = kl(full, masked)
    by_hand = torch.cat([per_token[0, :7], per_token[1, :3]]).mean()
    torch.testing.assert_close(mask_loss(masked, batch, full), by_hand)
    masked[1, 3:] += 100 * torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask_loss(masked, batch, full), by_hand)


def test_a_language_model_is_searched(decoder, random_batch):
    batches, grid = [random_batch(7, 3)], site_grid(decoder)
    settings = MaskSettings(steps=3)
    found = train_masks(decoder, batches, MEMBERS[:1], grid, zero_baseline(), settings)
    assert found.shape == (1, 3)
    assert found.isfinite().all()
    with pytest.raises(InputError, match='"task" needs a classifier'):
        train_masks(
            decoder, batches, MEMBERS, grid, zero_baseline(), replace(settings, objective="task")
        )


# ground truth


def with_one_reader(model, head, noise=0.02):
    """Only this head writes more than a whisper, and the classifier listens closely."""
    with torch.no_grad():
        model.classifier.weight.mul_(10)
        for layer, block in enumerate(model.blocks):
            for h in range(block.attn.W_O.shape[0]):
                block.attn.W_O[h] *= 2.0 if (layer, h) == head else noise
            block.mlp.W_out.mul_(noise)
        model.classifier.weight.mul_(30)  # so that its word counts in the KL
    return model


@pytest.mark.parametrize("head", [(0, 2), (1, 0)])
def test_the_mask_finds_the_one_head_that_matters(tiny_classifier, random_batch, head):
    model = with_one_reader(tiny_classifier(seed=4, n_heads=4, d_model=16), head)
    batches = [random_batch(*[8] * 16, seed=s) for s in range(2)]
    grid = SiteGrid(2, 4, mlps=False)
    members = [Member(0, 7 / 8), Member(1, 7 / 8)]
    settings = MaskSettings(steps=100, lr_warmup_steps=5)
    reports = []
    found = train_masks(
        model, batches, members, grid, mean_baseline(model, batches, grid), settings,
        on_step=lambda step, report: reports.append(report),
    )  # fmt: skip
    for row in found:
        kept = grid.select(hard_concrete.close_lowest(row, 7 / 8).numpy())
        assert [(s.layer, s.index) for s in kept] == [head]
    for closed in reports[-1]["closed"]:
        assert closed == pytest.approx(7 / 8, abs=1 / 5)


# refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "l0"}, "unknown rule 'l0'"),
        ({"objective": "accuracy"}, "unknown objective 'accuracy'"),
        ({"warmup_shape": "cosine"}, "unknown warm-up 'cosine'"),
        ({"steps": 0}, "at least one step"),
        ({"accumulation": 0}, "one micro-batch a step"),
        ({"sparsity_warmup": 1.2}, r"share of the steps, 0 to 1; got 1\.2"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        MaskSettings(**change)


@pytest.mark.parametrize("sparsity", [0, 1, -0.1, 1.5, float("nan"), "0.5", True, None])
def test_sparsity_lies_inside_zero_and_one(sparsity):
    with pytest.raises(InputError, match=r"outside \(0, 1\); give the share of sites to close"):
        check_sparsity(sparsity)


@pytest.mark.parametrize("sparsity", [0.5, np.float64(0.5), np.float32(0.5)])
def test_any_number_can_be_a_sparsity(sparsity):
    assert check_sparsity(sparsity) == 0.5


def test_wrong_searches_are_refused(model, batches, grid, baseline):
    with pytest.raises(InputError, match="at least one batch"):
        trained(model, [], grid, baseline)
    with pytest.raises(InputError, match="at least one member"):
        trained(model, batches, grid, baseline, members=[])
    with pytest.raises(InputError, match="2 full-model logits for 3 batches"):
        trained(
            model, batches, grid, baseline, full_logits=full_model_logits(model, batches[:2])
        )
    with pytest.raises(InputError, match="seed -1 of a mask is negative"):
        Member(-1, 0.5)
    with pytest.raises(InputError, match="outside"):
        Member(0, 1.0)


def test_a_loss_that_is_not_finite_is_named(model, batches, grid, baseline):
    broken = full_model_logits(model, batches)
    third = batch_at(2, 3, 0)  # two micro-batches a step: step 1 is the first to use it
    broken[third] = broken[third] * float("nan")
    with pytest.raises(FloatingPointError, match=r"at step 1 for \[Member\(seed=3.*NaN or inf"):
        trained(model, batches, grid, baseline, full_logits=broken)


def test_the_engine_and_the_reference_path_train_the_same_masks(tiny_classifier, random_batch):
    from mechprobe.gates.engine import EngineFallback

    model = tiny_classifier(dtype=torch.float64)
    batches = [random_batch(7, 5, 6, seed=seed) for seed in (1, 2)]
    grid = site_grid(model)
    baseline = mean_baseline(model, batches, grid)
    members, settings = [Member(0, 0.3), Member(1, 0.6)], MaskSettings(steps=12)
    by_engine = train_masks(model, batches, members, grid, baseline, settings)
    handle = model.hook_pooled.register_forward_hook(lambda *_: None)  # unknown to the engine
    try:
        with pytest.warns(EngineFallback, match="hooks stand"):
            by_hooks = train_masks(model, batches, members, grid, baseline, settings)
    finally:
        handle.remove()
    torch.testing.assert_close(by_engine, by_hooks, rtol=1e-5, atol=1e-5)
    stacked = train_masks(model, batches, members, grid, baseline, settings, chunk=2)
    torch.testing.assert_close(by_engine, stacked, rtol=1e-5, atol=1e-5)
    assert not torch.equal(by_engine[0], by_engine[1])
