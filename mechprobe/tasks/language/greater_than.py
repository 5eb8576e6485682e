"""Greater than (Hanna et al. 2023): a span of years ends after it began."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.language.rows import asked_at_the_end, beginning, text_ids, word_ids
from mechprobe.tasks.language.task import LanguageTask

FEWEST = 20
NONE = -1


def later_probability(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Probability of all later years less that of all others, -1 to 1 (Hanna et al. 2023, eq. 1).

    Needs "years", the token of each two-digit year (-1: it has none) [batch, 100], "start"
    [batch, 1] and "answer", whose scored position is asked.
    """
    return (_years(logits.softmax(-1), targets) * _signs(targets)).sum(-1)


def later_preferred(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """1 where the likeliest of all years is a later one, else 0 (no gradient)."""
    scores = _years(logits, targets).masked_fill(targets["years"] == NONE, float("-inf"))
    return (scores.argmax(-1) > targets["start"][:, 0]).to(logits.dtype)


SUCCESS = ("later_preferred", later_preferred)


def _years(values: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, "batch year"]:
    """The values of the years' tokens at the scored position."""
    asked = (targets["answer"] != UNSCORED).int().argmax(1)
    at = values[torch.arange(len(asked), device=asked.device), asked]
    return at.gather(-1, targets["years"].clamp(min=0))


def _signs(targets: Mapping[str, Tensor]) -> Float[Tensor, "batch year"]:
    """1 for later years, -1 for others, 0 where a year has no token."""
    years = targets["years"]
    later = torch.arange(years.shape[1], device=years.device) > targets["start"]
    return later.float().mul(2).sub(1).masked_fill(years == NONE, 0.0)


def draw(
    task: LanguageTask, tokenizer: PreTrainedTokenizerBase, split: str, d_vocab: int | None
) -> Behaviour:
    """Spans that begin in 02 to 98; in the counterfactual they begin in 01, which every year beats.

    The answer and the wrong answer are a later year and one that is not, drawn at random, so that
    the logit difference and direct logit attribution have something to compare.

    Raises:
        InputError: a tokenizer that does not cut years into two tokens of two digits.
    """
    card, settings = task.card, task.card["settings"]
    years = _two_digits(tokenizer)
    starts = {c: _starts(tokenizer, c, years) for c in card["centuries"]}
    starts = {c: found for c, found in starts.items() if found}
    if len(set().union(*starts.values())) < FEWEST:
        raise InputError(
            f"{task.name}: this model's tokenizer cuts ' 1732' into "
            f"{' '.join(map(repr, _pieces(tokenizer, '1732')))}; the task needs years of two "
            "tokens with two digits each"
        )
    rng = np.random.default_rng(task.seeds(split))
    ends = np.array([y for y in range(100) if years[y] != NONE])
    rows: list[tuple] = []
    for _ in range(settings["n"]):
        century = int(rng.choice(list(starts)))
        start = int(rng.choice(starts[century]))
        frame = str(rng.choice(card["templates"]))
        filled = {"noun": str(rng.choice(card["nouns"])), "century": century}
        clean, other = (
            [*beginning(tokenizer), *text_ids(tokenizer, frame.format(year=f"{y:02d}", **filled))]
            for y in (start, 1)
        )
        later = ends > start
        rows.append((
            clean, other, years[rng.choice(ends[later])], years[rng.choice(ends[~later])],
            later.mean(), start,
        ))
    clean, other, answer, wrong, chance, began = zip(*rows, strict=True)
    return asked_at_the_end(
        f"{task.name}:{split}", clean, other, np.array(answer), np.array(wrong), np.array(chance),
        metric=("later_probability", later_probability),
        years=np.tile(years, (len(rows), 1)), start=np.array(began)[:, None],
    )


def _two_digits(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The token of "00" to "99", -1 where two digits are not one token."""
    found = [text_ids(tokenizer, f"{year:02d}") for year in range(100)]
    return np.array([ids[0] if len(ids) == 1 else NONE for ids in found])


def _starts(tokenizer: PreTrainedTokenizerBase, century: int, years: np.ndarray) -> list[int]:
    """Years that can be asked about: two tokens, with a later year and an earlier one.

    The century's own token must stay as it is when the prompt ends in it, and the counterfactual's
    "01" must be two tokens as well.
    """
    head = word_ids(tokenizer, str(century))
    if len(head) != 1 or word_ids(tokenizer, f"{century}01") != [*head, years[1]]:
        return []
    return [
        year for year in range(2, 99)
        if word_ids(tokenizer, f"{century}{year:02d}") == [*head, years[year]]
    ]


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return [str(piece) for piece in tokenizer.convert_ids_to_tokens(word_ids(tokenizer, text))]
