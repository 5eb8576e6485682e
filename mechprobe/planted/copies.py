"""Inert copies: heads that attend and carry values as true ones, and write where nothing reads."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.planted.disguised import (
    HEAD,
    Disguised,
    residual_axes,
    undisguised,
    unnormalised,
)
from mechprobe.sites import Site

_RANK = 1e-9


def unread_directions(model: HookedModel | Disguised) -> Float[np.ndarray, "d_model free"]:
    """Orthonormal directions of the residual stream that no head, MLP or unembedding reads.

    Raises:
        InputError: a model with normalisation, which reads them all.
    """
    given = undisguised(model)
    unnormalised(given, "writing where nothing reads")
    readers = [
        np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        for name, array in given.arrays.items()
        for axis, reads in residual_axes(name).items() if reads
    ]
    left, sizes, _ = np.linalg.svd(np.concatenate(readers, axis=1))
    used = int((sizes > _RANK * sizes[0]).sum())
    return left[:, used:]


def add_copies(
    model: HookedModel | Disguised, *, seed: int, times: int = 1, spread: bool = True
) -> Disguised:
    """Copy every head that writes into free slots: same attention, same values, no effect.

    A slot is free where a head's output weights are zero. A copy stands in the layer of its head
    or, when that has no free slot and ``spread``, in a later one, where it reads the same
    directions of a later residual stream. Heads for which there is no slot are not copied.

    Args:
        times: copies of each head.

    Raises:
        InputError: a model with normalisation; or no direction that nothing reads (see
            ``mechprobe.planted.disguise.add_dimensions``).
    """
    given, rng = undisguised(model), np.random.default_rng([seed, 26])
    free = unread_directions(given)
    if not free.shape[1]:
        raise InputError("every direction is read; widen the residual stream first")
    arrays = {name: array.copy() for name, array in given.arrays.items()}
    writes = [
        np.abs(arrays[f"blocks.{layer}.attn.W_O"]).sum((1, 2)) > 0
        for layer in range(given.n_layers)
    ]
    slots = [set(np.flatnonzero(~row).tolist()) for row in writes]
    heads = [
        (layer, int(head)) for layer, row in enumerate(writes) for head in np.flatnonzero(row)
        if Site("head", layer, int(head)) in set(given.sites.values())
    ]
    copies = {}
    for layer, head in heads * times:
        places = range(layer, given.n_layers if spread else layer + 1)
        at = next((place for place in places if slots[place]), None)
        if at is None:
            continue
        slot = int(rng.choice(sorted(slots[at])))
        slots[at].remove(slot)
        for name in HEAD:
            arrays[f"blocks.{at}.attn.{name}"][slot] = arrays[f"blocks.{layer}.attn.{name}"][head]
        own = arrays[f"blocks.{layer}.attn.W_O"][head]
        arrays[f"blocks.{at}.attn.W_O"][slot] = _elsewhere(own, free, rng)
        copies[Site("head", at, slot)] = Site("head", layer, head)
    return given.moved(arrays, copies=copies)


def _elsewhere(
    own: Float[np.ndarray, "d_head d_model"], free: Float[np.ndarray, "d_model free"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "d_head d_model"]:
    """Output weights with the same singular values, as many as fit, into the free directions."""
    left, sizes, _ = np.linalg.svd(own, full_matrices=False)
    fits = min(free.shape[1], len(sizes))
    chosen = free @ np.linalg.qr(rng.normal(size=(free.shape[1], fits)))[0]
    return (left[:, :fits] * sizes[:fits]) @ chosen.T
