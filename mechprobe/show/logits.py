"""``show_logits``: what a model predicts on one text, token by token or label by label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.show.bundle import inert
from mechprobe.show.tokens_read import (
    Reading,
    Text,
    causal,
    is_encoder_decoder,
    read_text,
    token_words,
)
from mechprobe.show.view import Panel, View


def show_logits(model: HookedModel, text: Text, *, top: int = 10, example: int = 0) -> View:
    """What the model gives each next token, each masked-LM token, or each label.

    A decoder's and an encoder-decoder's tokens are coloured by their log probability given what
    stands before; an encoder's by the log probability its masked-LM head gives the token that
    stands there; a classifier's labels stand in a table.

    Args:
        text: as for ``show_attention``.
        top: likeliest tokens shown a position.
        example: which row of a batch.

    Raises:
        InputError: a text the model cannot read or that leaves nothing to predict, an encoder
            without a masked-LM head, or ``top`` below 1.
    """
    if top < 1:
        raise InputError(f"top={top}; give 1 or more")
    reading = read_text(model, text, example)
    with torch.no_grad():
        logits = forward(model, reading.batch)[0].float().cpu()
    title = f"Predictions on “{reading.text}”"
    labels = getattr(model, "labels", None)
    if labels is not None:
        return View(title, (_labels(logits, labels),))
    if logits.shape[-1] < model.cfg.d_vocab:
        raise InputError("this encoder has no masked-LM head, so it predicts nothing to show")
    return View(title, (_tokens(model, reading, logits, top),))


def _labels(logits: Float[Tensor, " label"], labels: Sequence[str]) -> Panel:
    p = logits.softmax(-1).tolist()
    rows = tuple(
        (label, f"{logit:.3f}", f"{100 * share:.1f} %")
        for label, logit, share in sorted(zip(labels, logits.tolist(), p), key=lambda r: -r[2])
    )
    return Panel("Labels", "", columns=("label", "logit", "probability"), rows=rows, height=200)


def _tokens(
    model: HookedModel, reading: Reading, logits: Float[Tensor, "pos vocab"], top: int
) -> Panel:
    both = is_encoder_decoder(model)
    words = reading.decoder_words if both else reading.words
    batch: Any = reading.batch
    ids: Int[Tensor, " pos"] = (batch.decoder_tokens if both else batch.tokens)[0]
    if both or causal(model):
        if len(ids) < 2:
            raise InputError("nothing follows the first token; give a longer text"
                             + (" and what the decoder has written, in a pair" if both else ""))
        note = "The redder a token, the likelier it is after what stands before it."
        logits, targets, shown = logits[:-1], ids[1:], words
    else:
        note = (
            "The redder a token, the likelier the masked-LM head finds it where it stands, "
            "unmasked."
        )
        targets, shown = ids, ("", *words)
    found = logits.log_softmax(-1)
    k = min(top, found.shape[-1])
    best = found.topk(k, dim=-1)
    own = found.gather(-1, targets[:, None])[:, 0]
    rank = (found > own[:, None]).sum(-1)
    tokenizer = getattr(model, "tokenizer", None)
    names = [[token_words([i], tokenizer)[0] for i in row] for row in best.indices.tolist()]
    props = {
        "prompt": [inert(word) for word in shown],
        "topKLogProbs": [[round(v, 4) for v in row] for row in best.values.tolist()],
        "topKTokens": [[inert(name) for name in row] for row in names],
        "correctTokenRank": rank.tolist(),
        "correctTokenLogProb": [round(v, 4) for v in own.tolist()],
    }
    rows = tuple(
        (word, f"{value:.3f}", f"{int(place) + 1}", ", ".join(
            f"{name.strip()} {100 * p:.1f} %" for name, p in zip(line[:3], likely)
        ))
        for word, value, place, line, likely in zip(
            shown[1:], own.tolist(), rank.tolist(), names, best.values.exp().tolist()
        )
    )
    note += " Point at a token for the likeliest ones there (ranks count from 0)."
    return Panel(
        "Tokens", "TokenLogProbs", props, note,
        ("token", "log probability, nats", "rank", "likeliest"), rows, 420,
    )
