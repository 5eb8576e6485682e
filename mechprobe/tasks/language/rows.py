"""From rows of token ids to a behaviour that is asked at each row's last token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import last_position, logit_difference
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour, Metric
from mechprobe.tasks.prompts import token_batch

Rows = Sequence[Sequence[int]]


def asked_at_the_end(
    name: str,
    clean: Rows,
    corrupt: Rows,
    answer: Int[np.ndarray, " n"],
    wrong: Int[np.ndarray, " n"],
    chance: Float[np.ndarray, " n"],
    *,
    metric: tuple[str, Metric] = ("logit_difference", logit_difference),
    pad: int = 0,
    **targets: Shaped[np.ndarray, "n _"],
) -> Behaviour:
    """A behaviour whose answers follow the last token of each row.

    Args:
        chance: how often a guess would be right, kept as the target "chance" [n, 1].
        targets: what else the metric needs.

    Raises:
        InputError: a row and its counterfactual of different length.
    """
    inputs, other = token_batch(clean, pad), token_batch(corrupt, pad)
    given = {
        "answer": _last(answer, inputs),
        "wrong": _last(wrong, inputs),
        "chance": torch.from_numpy(chance)[:, None],
        **{key: torch.from_numpy(value) for key, value in targets.items()},
    }
    return Behaviour(name, inputs, metric[1], metric[0], given, other)


def _last(ids: Int[np.ndarray, " n"], inputs: Batch) -> Int[Tensor, "n pos"]:
    return last_position(torch.as_tensor(ids, dtype=torch.long), inputs.attention_mask)


def beginning(tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """The beginning-of-sequence token, where a tokenizer has one."""
    bos = None if tokenizer is None else tokenizer.bos_token_id
    return [bos] if isinstance(bos, int) else []


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text, nothing put around them."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def word_ids(tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
    """The tokens of a word in the middle of a text, after a space.

    Raises:
        InputError: a tokenizer that does not keep the word before apart from it.
    """
    before = text_ids(tokenizer, "and")
    whole = text_ids(tokenizer, f"and {word}")
    if whole[: len(before)] != before or len(whole) == len(before):
        raise InputError(
            f"this tokenizer does not begin a new token at the space in 'and {word}'; the words of "
            "a task cannot be found in its tokens"
        )
    return whole[len(before) :]


def one_token_words(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[str], fewest: int, what: str
) -> dict[str, int]:
    """The words that are one token after a space, with that token.

    Raises:
        InputError: fewer than ``fewest`` of them; says how the first ones are cut.
    """
    cut = {word: word_ids(tokenizer, word) for word in words}
    unknown = tokenizer.unk_token_id
    whole = {w: ids[0] for w, ids in cut.items() if len(ids) == 1 and ids[0] != unknown}
    if len(whole) < fewest:
        shown = "; ".join(
            f"{word!r} is {' '.join(map(repr, map(str, tokenizer.convert_ids_to_tokens(ids))))}"
            for word, ids in list(cut.items())[:3] if word not in whole
        )
        raise InputError(
            f"{what}: {len(whole)} of {len(words)} words are one token in this model's tokenizer "
            f"({shown}), and {fewest} are needed; put words into the card that are one token"
        )
    return whole
