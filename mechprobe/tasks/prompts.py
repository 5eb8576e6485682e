"""Prompts with the answers they should get, as text or as tokens: a task for language models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import UNSCORED, find_metric, last_position, shown_name
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

# any array, any sequence: other shapes, dtypes and items are answered by an error that names them
Inputs: TypeAlias = Sequence[object] | Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
Answers: TypeAlias = Inputs


@dataclass(frozen=True)
class PromptTask:
    """Clean prompts, their counterfactuals, and the answers the model should give.

    Args:
        clean: texts, or token ids int64 [n, pos].
        corrupt: the counterfactual of each, of the same length in tokens; needed for patching and
            the paired baseline.
        answers: what should follow each prompt: one single-token text an example, or ids [n]
            (scored at the last token), or ids [n, pos] (scored wherever they are not -100). The
            metric "kl" does without and then compares the last token's distributions.
        wrong: the answers to compare with, as ``answers``; for the logit difference, which without
            them is taken to the highest other logit (and named so in tables).
        metric: a name of ``mechprobe.tasks.answers.METRICS``, or a function of logits (and targets)
            that gives one number an example.
        name: for tables and messages.
        prepend_bos: put the tokenizer's beginning-of-sequence token before each text; None: when
            the tokenizer itself does not and has one.

    Raises:
        InputError: what is wrong without asking a tokenizer: another number of counterfactuals or
            answers, tokens that are no integers [n, pos], token pairs of different length, missing
            answers, an unknown metric.
    """

    clean: Inputs
    corrupt: Inputs | None = None
    answers: Answers | None = None
    wrong: Answers | None = None
    metric: str | Callable[..., Tensor] = "logit_difference"
    name: str = "prompts"
    prepend_bos: bool | None = None

    def __post_init__(self) -> None:
        metric_name, _ = find_metric(self.metric)
        for which, prompts in (("clean", self.clean), ("corrupt", self.corrupt)):
            if prompts is not None:
                _check_prompts(prompts, f"{self.name}: {which}")
        n = len(self.clean)
        if self.corrupt is not None:
            self._check_pairs(self.corrupt)
        for what, given in (("answer", self.answers), ("wrong", self.wrong)):
            if given is None:
                continue
            _check_answers(given, f"{self.name}: {what!r}")
            if len(given) != n:
                raise InputError(
                    f"{self.name}: {len(given)} of {what!r} for {n} prompts; give one each"
                )
        if self.answers is None and isinstance(self.metric, str) and self.metric != "kl":
            raise InputError(
                f"{self.name}: metric {metric_name!r} needs answers; give them, or metric='kl' or "
                "a function of logits"
            )

    def _check_pairs(self, corrupt: Inputs) -> None:
        n, clean = len(self.clean), self.clean
        if len(corrupt) != n:
            raise InputError(
                f"{self.name}: {n} examples, {len(corrupt)} counterfactuals; give one each"
            )
        if not isinstance(clean, np.ndarray | Tensor) or not isinstance(
            corrupt, np.ndarray | Tensor
        ):
            return
        if clean.shape[1] != corrupt.shape[1]:
            raise InputError(
                f"{self.name}: example 0 has {clean.shape[1]} tokens, its counterfactual "
                f"{corrupt.shape[1]} ({n} such); give pairs of equal length"
            )

    def encode(self, tokenizer: PreTrainedTokenizerBase | None = None) -> Behaviour:
        """The behaviour of these prompts under a tokenizer (not needed for token arrays).

        Warns when clean and corrupt prompts are the same.

        Raises:
            InputError: pairs of different length, text without a tokenizer, an answer that is not
                one token, or one past the prompt's end.
        """
        metric_name, metric = find_metric(self.metric)
        inputs = self._batch(self.clean, tokenizer, "clean")
        corrupt = None if self.corrupt is None else self._batch(self.corrupt, tokenizer, "corrupt")
        targets = {
            name: self._targets(given, inputs, tokenizer, name)
            for name, given in (("answer", self.answers), ("wrong", self.wrong))
            if given is not None
        }
        if self.metric == "kl" and "answer" not in targets:
            targets["answer"] = last_position(inputs.labels, inputs.attention_mask)
        metric_name = shown_name(metric_name, targets)
        if corrupt is not None and corrupt.tokens.shape == inputs.tokens.shape:
            same = (corrupt.tokens == inputs.tokens).all(1)
            if same.any():
                warnings.warn(
                    f"{self.name}: {int(same.sum())} of {len(same)} clean prompts equal their "
                    f"counterfactual (first: {int(same.nonzero()[0])}); patching them changes "
                    "nothing",
                    stacklevel=2,
                )
        return Behaviour(self.name, inputs, metric, metric_name, targets, corrupt)

    def _batch(
        self, given: Inputs, tokenizer: PreTrainedTokenizerBase | None, which: str
    ) -> Batch:
        if isinstance(given, np.ndarray | Tensor):
            rows = [row.tolist() for row in given]
            pad = 0
        else:
            rows, pad = _tokens(given, self._needed(tokenizer), self.prepend_bos)
        if not rows or not all(rows):
            raise InputError(f"{self.name}: an empty {which} prompt; give text or tokens for each")
        return token_batch(rows, pad)

    def _targets(
        self, given: Answers, inputs: Batch,
        tokenizer: PreTrainedTokenizerBase | None, what: str,
    ) -> Int[Tensor, "n pos"]:
        ids = given
        if not isinstance(ids, np.ndarray | Tensor):
            ids = np.array([_single(text, self._needed(tokenizer), self.name) for text in ids])
        target = torch.as_tensor(ids, dtype=torch.long, device="cpu")
        if target.dim() == 1:
            return last_position(target, inputs.attention_mask)
        if target.shape != inputs.tokens.shape:
            raise InputError(
                f"{self.name}: {what!r} has shape {list(target.shape)}, the prompts "
                f"{list(inputs.tokens.shape)}; give one id a token, {UNSCORED} where none is scored"
            )
        if (bad := ((target != UNSCORED).sum(1) == 0)).any():
            raise InputError(f"{self.name}: example {int(bad.nonzero()[0])} is scored nowhere")
        padded = (target != UNSCORED) & (inputs.attention_mask == 0)
        if (bad := padded.any(1)).any():
            raise InputError(
                f"{self.name}: example {int(bad.nonzero()[0])} is scored past its last token; put "
                f"{UNSCORED} there"
            )
        return target

    def _needed(self, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
        if tokenizer is None:
            raise InputError(
                f"{self.name}: text needs a tokenizer and the model has none; give token arrays, "
                "or load the model with tokenizer=..."
            )
        return tokenizer


def _check_prompts(given: Inputs, where: str) -> None:
    """Refuse prompts that are neither texts nor integers [n, pos]; raises InputError."""
    if isinstance(given, str):
        raise InputError(f"{where} is one text; give a list of texts")
    if isinstance(given, np.ndarray | Tensor):
        if given.ndim != 2:
            raise InputError(
                f"{where} tokens have shape {list(given.shape)}; give one row a prompt, [n, pos]"
            )
        _check_integers(given, f"{where} tokens")
    elif wrong := [text for text in given if not isinstance(text, str)]:
        raise InputError(
            f"{where} prompts hold {type(wrong[0]).__name__}, not text; give texts, or tokens as "
            "one integer array [n, pos]"
        )


def _check_answers(given: Answers, where: str) -> None:
    """Refuse answers that are neither texts nor integers [n] or [n, pos]; raises InputError."""
    if isinstance(given, str):
        raise InputError(f"{where} is one text; give one a prompt, in a list")
    if isinstance(given, np.ndarray | Tensor):
        if given.ndim not in (1, 2):
            raise InputError(f"{where} has shape {list(given.shape)}; give ids [n] or [n, pos]")
        _check_integers(given, where)
    elif wrong := [text for text in given if not isinstance(text, str)]:
        raise InputError(
            f"{where} holds {type(wrong[0]).__name__}, not text; give texts, or ids as one integer "
            "array [n]"
        )


def _check_integers(given: np.ndarray | Tensor, where: str) -> None:
    if isinstance(given, Tensor):
        whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    else:
        whole = np.issubdtype(given.dtype, np.integer)
    if not whole:
        raise InputError(f"{where}: dtype {given.dtype}; give token ids as integers (int64)")


def token_batch(rows: Sequence[Sequence[int]], pad: int = 0) -> Batch:
    """Rows of token ids, none empty, as one batch padded on the right; segments and labels 0."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    length = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    zero = torch.zeros_like(tokens)
    return Batch(
        tokens=tokens, segments=zero, attention_mask=(torch.arange(width) < length).long(),
        labels=zero[:, 0], index=torch.arange(len(rows)),
    )


def _tokens(
    texts: Sequence[object], tokenizer: PreTrainedTokenizerBase, prepend_bos: bool | None
) -> tuple[list[list[int]], int]:
    rows = [list(tokenizer(str(text))["input_ids"]) for text in texts]
    bos = tokenizer.bos_token_id
    if prepend_bos and bos is None:
        raise InputError("this tokenizer has no beginning-of-sequence token; set prepend_bos=False")
    if bos is not None and prepend_bos is not False:
        rows = [row if row[:1] == [bos] else [bos, *row] for row in rows]
    pad = tokenizer.pad_token_id
    return rows, pad if isinstance(pad, int) else 0


def _single(text: object, tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    text = str(text)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 and text.startswith(" "):  # some tokenizers put a space of their own before
        before = tokenizer("and", add_special_tokens=False)["input_ids"]
        whole = tokenizer(f"and{text}", add_special_tokens=False)["input_ids"]
        ids = whole[len(before) :] if whole[: len(before)] == before else ids
    if len(ids) != 1:
        raise InputError(
            f"{name}: the answer {text!r} is {len(ids)} tokens; give answers of one token (often "
            f"with a space before, {' ' + text.strip()!r})"
        )
    return int(ids[0])
