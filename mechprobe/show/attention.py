"""``show_attention``: where the heads of a model look on one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError
from mechprobe.gates.choose import chosen_sites
from mechprobe.models.edits import HookedModel, attention_patterns, site_grid
from mechprobe.show.tokens_read import Reading, Text, causal, read_text
from mechprobe.show.view import Panel, View
from mechprobe.sites import Site, SiteName, Stack

MOST_WEIGHTS = 400_000
"""Weights a page holds at most: about 2.5 MB."""
TITLES = {
    "": "Self-attention", "enc": "Encoder self-attention", "dec": "Decoder self-attention",
    "cross": "Cross-attention: from what the decoder reads to what the encoder read",
}
_LINKS = 3


def show_attention(
    model: HookedModel,
    text: Text,
    heads: Sequence[SiteName] | None = None,
    *,
    example: int = 0,
) -> View:
    """The attention weights of heads on one text, to look at and to point at.

    Self-attention is drawn by circuitsvis (``AttentionHeads``; causal or bidirectional as the model
    is), cross-attention between the decoder's row of tokens and the encoder's. Padding is left out.

    Args:
        text: a text; two texts for a sentence-pair model, or for an encoder-decoder (what the
            encoder reads, what the decoder has written); or a batch.
        heads: such as ``["5.1", "cross 2.0", "4.*"]`` or ``nets.core()``; None: every head.
        example: which row of a batch.

    Returns:
        A view: a notebook shows it, ``.save(path)`` writes a page that needs no network.

    Raises:
        InputError: heads that do not exist, a text the model cannot read, or more weights than a
            page holds (name fewer heads then).
    """
    reading = read_text(model, text, example)
    grid = replace(site_grid(model), mlps=False)
    if heads is not None and isinstance(heads, str):
        raise InputError(f"heads={heads!r}; give a list such as ['5.1', '4.*']")
    chosen = sorted(chosen_sites(grid, "heads" if heads is None else list(heads)))
    longest = max(len(reading.words), len(reading.decoder_words))
    if len(chosen) * longest**2 > MOST_WEIGHTS:
        raise InputError(
            f"{len(chosen)} heads on {longest} tokens are more than a page shows well; name at "
            f"most {MOST_WEIGHTS // longest**2} heads with heads=[...], or give a shorter text"
        )
    panels = [
        _panel(model, reading, stack, part)
        for stack in grid.stacks
        if (part := [site for site in chosen if site.stack == stack])
    ]
    return View(f"Attention on “{reading.text}”", tuple(panels))


def head_weights(
    model: HookedModel, reading: Reading, heads: Sequence[Site]
) -> Float[np.ndarray, "head query key"]:
    """Attention weights of heads of one stack on one example."""
    layers = sorted({site.layer for site in heads})
    found = attention_patterns(model, reading.batch, layers, stack=heads[0].stack)
    rows = [found[site.layer][0, site.index or 0] for site in heads]
    return np.stack([row.float().cpu().numpy() for row in rows])


def token_rows(reading: Reading, stack: Stack) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tokens that a stack's queries and keys stand on."""
    queries = reading.decoder_words if stack in ("dec", "cross") else reading.words
    return queries, reading.decoder_words if stack == "dec" else reading.words


def _panel(model: HookedModel, reading: Reading, stack: Stack, heads: list[Site]) -> Panel:
    weights = np.round(head_weights(model, reading, heads).astype(float), 3)
    queries, keys = token_rows(reading, stack)
    names = [f"{site.layer}.{site.index}" for site in heads]
    links = _strongest(names, weights, queries, keys)
    if stack == "cross":
        props = {
            "names": [str(site) for site in heads], "weights": weights.tolist(),
            "rows": list(queries), "columns": list(keys),
            "rowTitle": "The decoder reads", "columnTitle": "The encoder read",
        }
        note = "Point at a token, or move to it with the tab key, to see what it is linked to."
        component, height = "AttentionRows", 260 + 22 * len(queries)
    else:
        only_earlier = causal(model) or stack == "dec"
        props = {
            "attention": weights.tolist(), "tokens": list(queries), "attentionHeadNames": names,
            "maskUpperTri": only_earlier, "minValue": -1.0, "maxValue": 1.0,
            "positiveColor": "#084594",
        }
        note = (
            "A row is the token that attends, a column the one attended to"
            + (", the same or an earlier one. " if only_earlier else ". ")
            + "Point at a head, or choose it with tab and enter."
        )
        component, height = "AttentionHeads", 480 + 90 * (1 + len(heads) // 12)
    return Panel(
        TITLES[stack], component, props, note, ("head", "from", "to", "weight"), links, height
    )


def _strongest(
    names: list[str], weights: Float[np.ndarray, "head query key"],
    queries: Sequence[str], keys: Sequence[str],
) -> tuple[tuple[str, ...], ...]:
    """The strongest links of each head, for who cannot see or point."""
    rows: list[tuple[str, ...]] = []
    for name, pattern in zip(names, weights, strict=True):
        for flat in np.argsort(-pattern, axis=None, kind="stable")[:_LINKS]:
            q, k = divmod(int(flat), pattern.shape[1])
            rows.append((name, queries[q], keys[k], f"{pattern[q, k]:.3f}"))
    return tuple(rows)
