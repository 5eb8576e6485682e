"""Fine-tune with an extra loss on the vectors of one stream: L = L_CE + weight x extra."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.models.decoder_classifier import Classifier
from mechprobe.models.streams import Stream, run_with_streams, stream_hook
from mechprobe.tasks.batches import Batch, Encoded
from mechprobe.tasks.metrics import label_loss
from mechprobe.training.fit import FitSettings, StateStore, fit_classifier


def fit_regularised(
    model: Classifier,
    data: Encoded,
    settings: FitSettings,
    extra: nn.Module,
    *,
    stream: Stream | str,
    weight: float,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 200,
) -> None:
    """Fit a classifier in place, with an extra loss at one stream.

    Weights after the stream feel the extra loss only through the shared ones before it; with weight
    0 the numbers are those of ``fit_classifier`` in one process, bit for bit. Gradients of the
    model are clipped together, those of ``extra`` are not.

    Args:
        extra: called with (vectors [batch, pos, d], tokens, attention mask, labels), gives a
            scalar; its own parameters that take a gradient are trained too.
        stream: such as "resid.3".
        weight: lambda.
        store, save_every: as in ``fit_classifier``; keeps the extra module's state too.

    Raises:
        InputError: a stream the model lacks, a negative weight, or as ``fit_classifier``.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    stream = Stream.parse(stream)
    stream_hook(model, stream)
    if weight < 0:
        raise InputError(f"a regulariser of weight {weight} would push away; give 0 or more")

    def loss_of(model: Classifier, batch: Batch) -> Tensor:
        return regularised_loss(model, batch, extra, stream, weight)

    fit_classifier(
        model, data, settings, seed=seed, on_step=on_step, store=store, loss_of=loss_of,
        beside=extra, save_every=save_every,
    )  # fmt: skip


def regularised_loss(
    model: Classifier, batch: Batch, extra: nn.Module, stream: Stream, weight: float
) -> Float[Tensor, ""]:
    """Cross-entropy plus weight x the extra loss of one batch."""
    logits, found = run_with_streams(model, batch, [stream])
    loss = label_loss(logits, batch.labels).mean()
    if weight == 0:
        return loss
    pull = extra(found[stream], batch.tokens, batch.attention_mask, batch.labels)
    return loss + weight * pull
