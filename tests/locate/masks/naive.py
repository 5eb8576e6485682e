"""A naive mask trainer: one member, one hook a site, its own formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import MaskTrainer, batch_at
from mechprobe.models import forward


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
            assert log_alpha.grad is not None
            assert multipliers.grad is not None
            first_gradient += [log_alpha.grad.clone(), multipliers.grad.clone()]
        down.step()
        up.step()
    return log_alpha.detach(), multipliers.detach()
