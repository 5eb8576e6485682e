"""How many members and examples of a search fit in memory, estimated before the first step."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

import torch

from mechprobe.gates.engine import tokens_at_once
from mechprobe.models.edits import HookedModel
from mechprobe.tasks.batches import Batch

SHARE = 0.5  # of the free memory is planned with; the rest is for what the estimate leaves out


@dataclass(frozen=True)
class Fit:
    """What fits: members at a time, and examples at a time (None: whole batches).

    Attributes:
        recompute: what the way back needs is computed again instead of kept.
    """

    members: int
    examples: int | None
    recompute: bool = False


def member_bytes(
    model: HookedModel, examples: int, positions: int, *, recompute: bool = False
) -> int:
    """Bytes that one member's way forward and back holds at most on such a batch.

    Of every layer the stream before and after each norm (4 d_model), queries, keys, values and
    mixed values (4 heads x d_head) and the MLP before and after its activation (2 d_mlp) of every
    token, and each head's attention pattern; of the read-out the logits thrice. With ``recompute``
    of every layer only the stream before its attention and before its MLP, and of one layer all
    that, and as much again for its gradients.
    """
    cfg, stacks = model.cfg, 2 if hasattr(model, "decoder") else 1
    tokens, layers = examples * positions, stacks * cfg.n_layers
    mlp = 0 if cfg.attn_only else 2 * (cfg.d_mlp or 0)
    token = 4 * cfg.d_model + 4 * cfg.n_heads * cfg.d_head + mlp
    layer = tokens * token + examples * cfg.n_heads * positions**2
    kept = 2 * layers * tokens * cfg.d_model + 2 * layer if recompute else layers * layer
    head = getattr(model, "labels", None)
    logits = examples * len(head) if head is not None else tokens * max(cfg.d_vocab_out, 0)
    return next(model.parameters()).element_size() * (kept + 3 * logits)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now: the GPU's, else the machine's (8 GiB where it does not say)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return 2**33
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fitting(
    model: HookedModel, batches: list[Batch], k: int, free: int | None = None, *,
    recompute: bool | None = None,
) -> Fit:
    """Members, and where one is too many examples, that fit for the largest of the batches.

    Args:
        k: members of the search.
        free: bytes that can be had (None: as found now).
        recompute: whether the way back recomputes; None: where otherwise fewer tokens would run at
            a time than keep the device busy (``mechprobe.gates.engine.tokens_at_once``).
    """
    device = next(model.parameters()).device
    if free is None:
        free = free_bytes(device)
    widest = max(batches, key=lambda batch: batch.n_positions)
    examples = len(widest)
    positions = max(1, widest.n_positions // examples)

    def room(again: bool) -> int:
        """Gated examples that fit."""
        return int(SHARE * free // max(1, member_bytes(model, 1, positions, recompute=again)))

    if recompute is None:
        enough = min(k * examples * positions, tokens_at_once(device))
        recompute = room(False) * positions < enough and room(True) > room(False)
    fits = room(recompute)
    if fits >= examples:
        return Fit(min(fits // examples, k), None, recompute)
    return Fit(1, max(1, fits), recompute)


def give_back_freed() -> bool:
    """Give memory that was freed, and that malloc or CUDA's allocator kept, back to the system."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return False
    return True
