"""Perplexity of a decoder on held-out text, and the rows of token ids that it is measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.token_logprobs import token_logprobs
from mechprobe.tasks.pair_tokens import begin_token, token_ids


def text_rows(
    sentences: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int
) -> Int[Tensor, "row pos"]:
    """Sentences end to end, the begin token before each, cut into rows of ``length`` tokens.

    What fills no row at the end is left out.

    Raises:
        InputError: less text than a row, a length below 2, or a tokenizer without begin token.
    """
    bos = begin_token(tokenizer)
    ids = [token for row in token_ids(sentences, tokenizer) for token in (bos, *row)]
    n = len(ids) // max(1, length)
    if n < 1 or length < 2:
        raise InputError(f"{len(ids)} tokens of text make no row of {length}; give more text, and "
                         "rows of 2 tokens or more")
    return torch.tensor(ids[: n * length]).view(n, length)


def perplexity(
    model: HookedModel, rows: Int[Tensor, "batch pos"], *, batch_tokens: int = 8_192
) -> float:
    """exp of the mean negative log-probability of each row's tokens from its second one on.

    Raises:
        InputError: not a decoder.
    """
    device = next(model.parameters()).device
    scored = torch.ones_like(rows, dtype=torch.bool)
    scored[:, 0] = False
    n = max(1, batch_tokens // rows.shape[1])
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), n):
            part, where = rows[start : start + n].to(device), scored[start : start + n].to(device)
            total -= float(token_logprobs(model, part, where).double().sum())
    mean = total / int(scored.sum())
    return math.exp(mean) if mean < 700 else math.inf
