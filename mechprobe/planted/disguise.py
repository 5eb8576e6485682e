"""Disguises: other weights, the same function. A localiser should not be fooled by them.

Each takes a decoder (or one disguised already) and a seed, and says where its sites went.
"""

from __future__ import annotations

import numpy as np

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.planted.copies import add_copies, unread_directions
from mechprobe.planted.disguised import (
    HEAD,
    Disguised,
    residual_axes,
    undisguised,
    unnormalised,
)
from mechprobe.sites import Site


def permute_heads(model: HookedModel | Disguised, *, seed: int) -> Disguised:
    """The heads of every layer in another order."""
    given, rng = undisguised(model), np.random.default_rng([seed, 21])
    arrays, places = dict(given.arrays), {}
    for layer in range(given.n_layers):
        order = rng.permutation(given.n_heads)  # the new i-th head is the old order[i]
        for name in HEAD:
            key = f"blocks.{layer}.attn.{name}"
            arrays[key] = arrays[key][order]
        places |= {
            Site("head", layer, int(old)): Site("head", layer, new)
            for new, old in enumerate(order)
        }
    return given.moved(arrays, places)


def rotate_heads(model: HookedModel | Disguised, *, seed: int) -> Disguised:
    """Every head's query-key space and value-output space turned, attention and output unchanged.

    Raises:
        InputError: rotary positions, which fix the query-key space.
    """
    given, rng = undisguised(model), np.random.default_rng([seed, 22])
    if given.config["positional_embedding_type"] == "rotary":
        raise InputError("the query-key space of rotary heads cannot be turned; give other heads")
    arrays = dict(given.arrays)
    for layer in range(given.n_layers):
        at = f"blocks.{layer}.attn."
        shape = given.n_heads, given.config["d_head"]
        turn_qk, turn_vo = _rotations(rng, *shape), _rotations(rng, *shape)
        for part, turn in (("Q", turn_qk), ("K", turn_qk), ("V", turn_vo)):
            arrays[f"{at}W_{part}"] = np.einsum("hdk,hkn->hdn", arrays[f"{at}W_{part}"], turn)
            arrays[f"{at}b_{part}"] = np.einsum("hk,hkn->hn", arrays[f"{at}b_{part}"], turn)
        arrays[f"{at}W_O"] = np.einsum("hkn,hkd->hnd", turn_vo, arrays[f"{at}W_O"])
    return given.moved(arrays)


def rotate_residual(model: HookedModel | Disguised, *, seed: int) -> Disguised:
    """The residual stream turned: embeddings, readers and writers together.

    Raises:
        InputError: a model with normalisation.
    """
    given, rng = undisguised(model), np.random.default_rng([seed, 23])
    unnormalised(given, "turning the residual stream")
    turn = _rotations(rng, 1, given.config["d_model"])[0]
    arrays = dict(given.arrays)
    for name, array in arrays.items():
        for axis in residual_axes(name):
            arrays[name] = np.moveaxis(np.moveaxis(array, axis, -1) @ turn, -1, axis)
    return given.moved(arrays)


def add_dimensions(model: HookedModel | Disguised, n: int) -> Disguised:
    """The residual stream n dimensions wider; nothing reads or writes there.

    Raises:
        InputError: a model with normalisation.
    """
    given = undisguised(model)
    unnormalised(given, "widening the residual stream")
    arrays = dict(given.arrays)
    for name, array in arrays.items():
        for axis in residual_axes(name):
            width = [(0, 0)] * array.ndim
            width[axis] = (0, n)
            arrays[name] = np.pad(array, width)
    return given.moved(arrays, d_model=given.config["d_model"] + n)


def add_heads(model: HookedModel | Disguised, n: int) -> Disguised:
    """n more heads a layer, all zero: free slots behind the old ones."""
    given = undisguised(model)
    arrays = dict(given.arrays)
    for layer in range(given.n_layers):
        for name in HEAD:
            key = f"blocks.{layer}.attn.{name}"
            arrays[key] = np.pad(arrays[key], [(0, n)] + [(0, 0)] * (arrays[key].ndim - 1))
    return given.moved(arrays, n_heads=given.n_heads + n)


def add_layers(
    model: HookedModel | Disguised, n: int, *, seed: int, harmless: bool = False
) -> Disguised:
    """n more layers at random places that write nothing.

    Args:
        harmless: their heads attend somewhere and carry values, at random, and write them where
            nothing reads (as far as there are such directions); else they are all zero.
    """
    given, rng = undisguised(model), np.random.default_rng([seed, 24])
    total = given.n_layers + n
    kept = np.sort(rng.permutation(total)[: given.n_layers]).tolist()
    free = unread_directions(given) if harmless else None
    arrays = {name: a for name, a in given.arrays.items() if not name.startswith("blocks.")}
    first = {name: a for name, a in given.arrays.items() if name.startswith("blocks.0.")}
    for layer in range(total):
        if layer in kept:
            old = kept.index(layer)
            part = {
                name.replace(f"blocks.{old}.", f"blocks.{layer}.", 1): array
                for name, array in given.arrays.items() if name.startswith(f"blocks.{old}.")
            }
        else:
            part = {
                name.replace("blocks.0.", f"blocks.{layer}.", 1): _new(name, array, free, rng)
                for name, array in first.items()
            }
        arrays |= part
    places = {
        site: Site(site.kind, kept[site.layer], site.index)
        for site in [*given.sites.values(), *given.copies]
    }
    return given.moved(arrays, places, n_layers=total)


def _new(
    name: str, like: np.ndarray, free: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """A weight of a layer that writes nothing that is read; normalisation as it was."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("w", "b"):
        return like
    if free is not None and leaf in ("W_Q", "W_K", "W_V"):
        drawn = rng.normal(size=like.shape) / np.sqrt(like.shape[1])
        return drawn - np.einsum("df,ef,hek->hdk", free, free, drawn)  # reads no free direction
    if free is not None and leaf == "W_O" and free.shape[1]:
        return rng.normal(size=(*like.shape[:2], free.shape[1])) @ free.T
    return np.zeros_like(like)


def disguise(
    model: HookedModel | Disguised,
    *,
    seed: int,
    n_layers: int | None = None,
    n_heads: int | None = None,
    copies: int = 1,
) -> Disguised:
    """All disguises at once: layers, free slots, inert copies, permuted heads, turned spaces.

    Args:
        n_layers: how many layers it then has; None adds 0 to 2 at random.
        n_heads: how many heads a layer; None adds 1 or 2.
        copies: inert copies of every head that writes, as far as there are free slots.

    Raises:
        InputError: fewer layers or heads than there are; a model with normalisation.
    """
    given, rng = undisguised(model), np.random.default_rng([seed, 25])
    more_layers = int(rng.integers(3)) if n_layers is None else n_layers - given.n_layers
    more_heads = int(rng.integers(1, 3)) if n_heads is None else n_heads - given.n_heads
    if more_layers < 0 or more_heads < 0:
        raise InputError(
            f"the model has {given.n_layers} layers x {given.n_heads} heads; a disguise adds to "
            "them, give as many or more"
        )
    given = add_dimensions(given, int(rng.integers(1, 4)))
    given = add_layers(given, more_layers, seed=seed, harmless=bool(rng.integers(2)))
    given = add_heads(given, more_heads)
    given = add_copies(given, seed=seed, times=copies)
    return rotate_residual(rotate_heads(permute_heads(given, seed=seed), seed=seed), seed=seed)


def _rotations(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """n random rotations [n, size, size], uniform (QR of a normal matrix, signs mended)."""
    q, r = np.linalg.qr(rng.normal(size=(n, size, size)))
    return q * np.sign(np.einsum("nii->ni", r))[:, None, :]
