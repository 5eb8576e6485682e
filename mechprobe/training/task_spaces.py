"""What a script calls: score minimal pairs, tune on a task, the transfer between all tasks.

These take pairs of sentences and the model's own tokenizer; the modules they rest on take token
ids. Source: Weber et al. 2024, arXiv 2406.06441.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.figures.task_space import task_accuracies
from mechprobe.models.edits import HookedModel
from mechprobe.stats import wilson
from mechprobe.tasks.minimal_pairs import PARTS, MinimalPairs
from mechprobe.tasks.pair_tokens import EncodedPairs, encode_minimal_pairs
from mechprobe.training.deltas import Delta, flat_weights
from mechprobe.training.ftgd import Tuned, TuneSettings, tune
from mechprobe.training.pair_scores import BATCH_TOKENS, macro_mean, score_pairs
from mechprobe.training.perplexity import perplexity, text_rows
from mechprobe.training.transfer import TransferSpace, transfer_space


@dataclass(frozen=True)
class PairAccuracy:
    """How a model scores minimal pairs.

    Attributes:
        names, phenomena: of the paradigms.
        task: the paradigm of each pair.
        margins: log P(x+) - log P(x-) of each pair, nats.
    """

    names: tuple[str, ...]
    phenomena: tuple[str, ...]
    task: Int[np.ndarray, " pair"]
    margins: Float[np.ndarray, " pair"]

    @property
    def overall(self) -> float:
        """Share of all pairs whose acceptable sentence is the likelier; ties are wrong."""
        return float((self.margins > 0).mean())

    @property
    def by_phenomenon(self) -> float:
        """Mean over phenomena of the mean over their paradigms' accuracies."""
        return macro_mean(self.table()["accuracy"].to_numpy(), list(self.phenomena))

    def table(self) -> pd.DataFrame:
        """One row a paradigm: pairs, accuracy with its 95 % (Wilson) ends, mean log odds (nats)."""
        rows = []
        for t, (name, phenomenon) in enumerate(zip(self.names, self.phenomena, strict=True)):
            mine = self.margins[self.task == t]
            ends = wilson(int((mine > 0).sum()), len(mine))
            rows.append({
                "paradigm": name, "phenomenon": phenomenon, "pairs": len(mine),
                "accuracy": ends.estimate, "accuracy_low": ends.low, "accuracy_high": ends.high,
                "log_odds": float(mine.mean()),
            })
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Accuracy of each paradigm with its interval."""
        return task_accuracies(self.table())


def score_minimal_pairs(
    model: HookedModel, pairs: MinimalPairs, *, per_token: bool = False, unknown: str = "raise",
    batch_tokens: int = BATCH_TOKENS,
) -> PairAccuracy:
    """Score every pair of every paradigm in one pass, sentences of like length together.

    Args:
        model: a decoder with a tokenizer.
        per_token: compare mean log-probabilities of a token in place of sums over the sentence.
        unknown: what to do about words outside the vocabulary: "raise", "keep" or "drop".
        batch_tokens: padded tokens of a batch; a GPU wants more.

    Raises:
        InputError: a model without tokenizer or that is no decoder, or pairs it cannot read; file
            and line are named.
    """
    encoded = read_pairs(model, pairs, unknown)
    scores = score_pairs(model, encoded, batch_tokens=batch_tokens)
    return PairAccuracy(
        encoded.names, tuple(pairs.phenomena), encoded.task, scores.margins(per_token)
    )


def ftgd(
    model: HookedModel, pairs: MinimalPairs, settings: TuneSettings | None = None, *,
    validation: MinimalPairs | None = None, unknown: str = "raise", seed: int = 0,
) -> Tuned:
    """Fine-tune a decoder via gradient differences on minimal pairs; the model itself stays.

    The result holds the changed weights: ``with tuned_model(model, found.delta): ...`` uses them.

    Args:
        settings: objective, hinge, sparsity, optimiser, steps; the hinged difference on the top
            1 % of the weights when None. ``TuneSettings(objective="acceptable", top=1.0)`` is
            ordinary fine-tuning.
        validation: pairs whose accuracy is followed; needed for ``settings.stop``.

    Raises:
        InputError: as ``score_minimal_pairs``, or a stop without validation pairs.
        FloatingPointError: a loss that is not finite; the step is named.
    """
    encoded = read_pairs(model, pairs, unknown)
    held = None if validation is None else read_pairs(model, validation, unknown)
    with flat_weights(model) as weights:
        return tune(
            model, weights, encoded, settings or TuneSettings(), seed=seed, validation=held
        )


def text_perplexity(model: HookedModel, sentences: Sequence[str], *, length: int = 64) -> float:
    """Perplexity of a decoder on sentences laid end to end: what tuning costs elsewhere.

    Args:
        length: tokens that are read at once; at most the model's context.

    Raises:
        InputError: a model without tokenizer or that is no decoder, or less text than that.
    """
    return perplexity(model, text_rows(sentences, _reader(model), min(length, model.cfg.n_ctx)))


@contextmanager
def tuned_model(model: HookedModel, delta: Delta) -> Iterator[HookedModel]:
    """The model with a delta's weights inside the block, and its own, bit by bit, after it.

    Raises:
        InputError: a delta of a model of another size.
    """
    with flat_weights(model) as weights, weights.applied(delta):
        yield model


def transfer_matrix(
    model: HookedModel, pairs: MinimalPairs, settings: TuneSettings | None = None, *,
    text: Sequence[str] | None = None, shares: Mapping[str, tuple[float, float]] = PARTS,
    unknown: str = "raise", seed: int = 0,
) -> TransferSpace:
    """Tune a decoder on each paradigm in turn and test each tuned model on all; it stays as it was.

    Of each paradigm the part "tune" is tuned on, "validate" decides ``settings.stop`` and
    "evaluate" is tested on.

    Args:
        settings: of tuning; those of ``ftgd`` when None.
        text: held-out sentences, for the perplexity of each tuned model.
        shares: from where to where each part of a paradigm goes, as shares of its pairs.

    Raises:
        InputError: as ``ftgd``, or paradigms with too few pairs for their parts.
    """
    settings = settings or TuneSettings()
    parts = {
        name: read_pairs(model, pairs.part(name, shares), unknown)
        for name in ("tune", "evaluate", *(["validate"] if settings.stop is not None else []))
    }
    rows = None if text is None else text_rows(text, _reader(model), min(64, model.cfg.n_ctx))
    with flat_weights(model) as weights:
        found = transfer_space(
            model, weights, parts["tune"], parts["evaluate"], settings, text=rows,
            validation=parts.get("validate"), seed=seed,
        )
    return replace(found, phenomena=tuple(pairs.phenomena))


def read_pairs(model: HookedModel, pairs: MinimalPairs, unknown: str = "raise") -> EncodedPairs:
    """The pairs in the tokens of the model's own tokenizer.

    Raises:
        InputError: a model without tokenizer, or pairs it cannot read; file and line are named.
    """
    longest = int(model.cfg.n_ctx)
    return encode_minimal_pairs(pairs, _reader(model), max_length=longest, unknown=unknown)


def _reader(model: HookedModel) -> PreTrainedTokenizerBase:
    tokenizer = getattr(model, "tokenizer", None)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError("the model has no tokenizer, so it cannot read sentences; load one with a "
                         "tokenizer, or set model.tokenizer")
    return tokenizer
