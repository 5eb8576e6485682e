"""``show_tokens``: a text whose tokens are coloured by a number each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.show.bundle import inert
from mechprobe.show.tokens_read import Text, read_text
from mechprobe.show.view import Panel, View

NEGATIVE, POSITIVE = "#f0a35e", "#74a9d8"
"""Orange and blue that people with any colour vision tell apart, and on which black reads."""
SIGNS = {
    "ColoredTokens": "blue is above zero, orange below",
    "ColoredTokensMulti": "violet is above zero, light red below",
}
"""How circuitsvis' components colour signs: the first as told, the second as it always does."""


def show_tokens(
    model: HookedModel,
    text: Text,
    values: Sequence[float] | Shaped[np.ndarray, "*shape"] | Shaped[Tensor, "*shape"],
    labels: Sequence[str] | None = None,
    *,
    example: int = 0,
) -> View:
    """The tokens of a text coloured by values: blue above zero, orange below.

    Args:
        text: as for ``show_attention``; of an encoder-decoder the tokens of both sides, the
            encoder's first.
        values: one number a token [token], or several [token, value] to choose from (violet above
            zero, light red below). The tokens are the model's own, special ones included.
        labels: names of the several values.
        example: which row of a batch.

    Raises:
        InputError: another number of values than tokens or of labels than values, values that are
            not finite, or a text the model cannot read.
    """
    reading = read_text(model, text, example)
    words = (*reading.words, *reading.decoder_words)
    numbers = np.asarray(
        values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values, dtype=float
    )
    if numbers.ndim not in (1, 2) or len(numbers) != len(words):
        raise InputError(
            f"values of shape {list(numbers.shape)} for the {len(words)} tokens "
            f"{' '.join(map(repr, words[:6]))} ...; give [{len(words)}] or [{len(words)}, value]"
        )
    if not np.isfinite(numbers).all():
        bad = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise InputError(f"the value of token {bad} ({words[bad]!r}) is not finite; mend it")
    several = numbers if numbers.ndim == 2 else numbers[:, None]
    names = tuple(labels) if labels is not None else (
        ("value",) if numbers.ndim == 1 else tuple(f"value {i}" for i in range(several.shape[1]))
    )
    if len(names) != several.shape[1]:
        raise InputError(
            f"{len(names)} labels for {several.shape[1]} values a token; give one each"
        )
    rows = tuple(
        (word, *(f"{number:.4g}" for number in line))
        for word, line in zip(words, several, strict=True)
    )
    component, props = _component(words, numbers, names)
    panel = Panel(
        "Tokens", component, props,
        note=f"Point at a token to see its value; {SIGNS[component]}.",
        columns=("token", *names), rows=rows, height=160 + 24 * (len(words) // 12),
    )
    return View(f"Values on “{reading.text}”", (panel,))


def _component(
    words: Sequence[str], numbers: np.ndarray, names: Sequence[str]
) -> tuple[str, dict[str, object]]:
    shown = [inert(word) for word in words]
    if numbers.ndim == 2:
        bound = (2 * np.abs(numbers).max(0)).clip(1e-7)  # twice: half the colour
        return "ColoredTokensMulti", {
            "tokens": shown, "values": numbers.tolist(), "labels": [inert(name) for name in names],
            "positiveBounds": bound.tolist(), "negativeBounds": (-bound).tolist(),
        }
    bound = float(np.abs(numbers).max()) or 1.0
    return "ColoredTokens", {
        "tokens": shown, "values": numbers.tolist(), "minValue": -bound, "maxValue": bound,
        "negativeColor": NEGATIVE, "positiveColor": POSITIVE,
    }
