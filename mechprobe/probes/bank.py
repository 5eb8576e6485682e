"""All probes of all streams at once: one batched optimisation, each probe with its own stop.

The parameters of every probe lie side by side along a site axis, a loss takes them all through
one einsum, and the gradient of the sum of losses is each probe's own. Adam is elementwise, so
each probe moves as if it were trained alone; learning rates fall and training stops for each site
by its own loss on held-out sentences. Probes that have stopped leave the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.streams import Stream
from mechprobe.probes.activations import WordVectors, spans
from mechprobe.probes.fitting import Fitting, ProbeSettings
from mechprobe.probes.objective import Objective, Params, Side

_POOL = 50  # batches that are sorted by length together
_EVAL_UNITS = 8192  # units of one batch when losses are only read


@dataclass(frozen=True)
class ProbeBank:
    """One trained probe a stream, each at its best held-out loss.

    Attributes:
        objective: what the probes learned.
        streams: what the site axis runs over.
        params: parameters by name, each [site, ...].
        dev_loss: best held-out loss, float64 [site].
        epochs: passes over the data until each probe stopped, int64 [site].
        settings: how they were trained.
        seed: decided the first parameters (the same for every site) and the order of sentences.
    """

    objective: Objective
    streams: tuple[Stream, ...]
    params: Params
    dev_loss: np.ndarray
    epochs: np.ndarray
    settings: ProbeSettings
    seed: int

    def at(self, wanted: Iterable[Stream | str]) -> ProbeBank:
        """The probes of some of the streams.

        Raises:
            InputError: a stream that has no probe here.
        """
        chosen = tuple(Stream.parse(one) for one in wanted)
        if missing := [str(one) for one in chosen if one not in self.streams]:
            raise InputError(
                f"no probe of {missing[0]} here; there are {', '.join(map(str, self.streams))}"
            )
        places = [self.streams.index(one) for one in chosen]
        params = {name: value[places] for name, value in self.params.items()}
        return replace(
            self, streams=chosen, params=params, dev_loss=self.dev_loss[places],
            epochs=self.epochs[places],
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """One row a stream: part, layer, best held-out loss, epochs."""
        return pd.DataFrame({
            "probe": self.objective.name,
            "part": [stream.part for stream in self.streams],
            "layer": [stream.layer for stream in self.streams],
            "dev_loss": self.dev_loss,
            "epochs": self.epochs,
        })


def by_layer(streams: Sequence[Stream], values: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """A value a stream as a table layer x part; NaN where there is no such stream."""
    parts = list(dict.fromkeys(stream.part for stream in streams))
    frame = pd.DataFrame({
        "layer": [stream.layer for stream in streams],
        "part": [stream.part for stream in streams],
        "value": np.asarray(values, dtype=float),
    })
    return frame.pivot(index="layer", columns="part", values="value").reindex(columns=parts)


def fit_bank(
    objective: Objective,
    train: WordVectors,
    dev: WordVectors,
    settings: ProbeSettings | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, int], None] | None = None,
) -> ProbeBank:
    """Train one probe a stream, all together.

    Training one stream alone (``train.at([stream])``) with the same seed gives the same probe up
    to rounding.

    Args:
        train, dev: vectors of training and of held-out sentences, of the same streams.
        device: where the probes are trained; vectors are moved batch by batch.
        on_epoch: called after each epoch with (epoch from 1, probes still in training).

    Raises:
        InputError: no sentences, or data of different streams.
        FloatingPointError: a loss is not finite; the stream is named.
    """
    settings = settings or ProbeSettings()
    _check(train, dev)
    fitting = Fitting(objective, train, settings, seed, torch.device(device))
    # one set of targets a data set, not one an epoch
    targets = None if objective.targets is None else objective.targets(train)
    dev_targets = None if objective.targets is None else objective.targets(dev)
    for epoch in range(settings.epochs):
        for rows in _order(train.lengths, settings.batch_size, seed, epoch):
            fitting.step(*_batch(train, rows, targets, fitting.active, fitting.device))
        held_out = mean_losses(
            objective, fitting.live, dev, dev_targets, fitting.active, fitting.device
        )
        fitting.judge(held_out, epoch + 1)
        if on_epoch is not None:
            on_epoch(epoch + 1, len(fitting.active))
        if not len(fitting.active):
            break
    return ProbeBank(
        objective, train.streams, fitting.best, fitting.best_loss.numpy(), fitting.epochs.numpy(),
        settings, seed,
    )  # fmt: skip


def bank_losses(bank: ProbeBank, data: WordVectors) -> Float[np.ndarray, " site"]:
    """Mean loss of each probe on other sentences, float64.

    Raises:
        InputError: vectors of other streams than the bank's.
    """
    check_streams(bank, data)
    targets = None if bank.objective.targets is None else bank.objective.targets(data)
    every = torch.arange(len(bank.streams))
    device = next(iter(bank.params.values())).device
    return mean_losses(bank.objective, bank.params, data, targets, every, device).numpy()


@torch.no_grad()
def sentence_losses(bank: ProbeBank, data: WordVectors) -> Float[np.ndarray, "site sentence"]:
    """Loss of each probe on each sentence, summed over its units where the mean is over units.

    Raises:
        InputError: vectors of other streams than the bank's.
    """
    check_streams(bank, data)
    targets = None if bank.objective.targets is None else bank.objective.targets(data)
    every = torch.arange(len(bank.streams))
    device = next(iter(bank.params.values())).device
    out = np.empty((len(bank.streams), len(data)))
    for row in range(len(data)):
        batch = _batch(data, np.array([row]), targets, every, device)
        out[:, row] = bank.objective.losses(bank.params, *batch).cpu().double().numpy()
    return out


def check_streams(bank: ProbeBank, data: WordVectors) -> None:
    """Raise InputError unless the vectors are of the bank's streams, in its order."""
    if data.streams != bank.streams:
        raise InputError(
            f"vectors of {', '.join(map(str, data.streams))} for probes of "
            f"{', '.join(map(str, bank.streams))}; give the same streams (WordVectors.at)"
        )


@torch.no_grad()
def mean_losses(
    objective: Objective,
    params: Params,
    data: WordVectors,
    targets: Sequence[np.ndarray] | None,
    active: Int[Tensor, " active"],
    device: torch.device,
) -> Float[Tensor, " active"]:
    """Mean loss of the probes of the ``active`` sites over all sentences or units, float64."""
    total = torch.zeros(len(active), dtype=torch.float64)
    count = 0
    for rows in batches_by_length(data.lengths):
        batch = _batch(data, rows, targets, active, device)
        total += objective.losses(params, *batch).cpu().double()
        count += batch[1].count(objective.per)
    return total / count


def batches_by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Rows from short to long, as many at once as fit a fixed number of padded units."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= _EVAL_UNITS:
            end += 1
        yield order[start:end]
        start = end


def laid_out(
    data: WordVectors, device: torch.device
) -> Iterator[tuple[Int[np.ndarray, " unit"], Float[Tensor, "site unit d"], Side]]:
    """Places in ``data`` of the units of some sentences at a time, their vectors, how they lie."""
    every = torch.arange(len(data.streams))
    for rows in batches_by_length(data.lengths):
        vectors, side, _ = _batch(data, rows, None, every, device)
        yield spans(data.starts, rows), vectors, side


def _check(train: WordVectors, dev: WordVectors) -> None:
    if not (len(train) and len(dev)):
        raise InputError("a probe needs training and held-out sentences; one of them is empty")
    if train.streams != dev.streams or train.released != dev.released:
        raise InputError(
            "training and held-out vectors are not of the same streams and masking; read both in "
            "the same way"
        )


def _order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """A seeded order of batches of like length, every sentence once."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    rows = []
    for start in range(0, len(order), batch_size * _POOL):
        part = order[start : start + batch_size * _POOL]
        part = part[np.argsort(lengths[part], kind="stable")]
        rows += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [rows[i] for i in rng.permutation(len(rows))]


def _batch(
    data: WordVectors,
    rows: np.ndarray,
    targets: Sequence[np.ndarray] | None,
    active: Int[Tensor, " active"],
    device: torch.device,
) -> tuple[Float[Tensor, "active unit d"], Side, Tensor | None]:
    """The vectors of some sentences, how they lie side by side, and their padded targets."""
    lengths = data.lengths[rows]
    real = np.arange(lengths.max()) < lengths[:, None]
    units = torch.from_numpy(spans(data.starts, rows))
    picked = data.storage.index_select(0, units)
    if len(active) < len(data.streams):
        picked = picked[:, active]
    place = torch.from_numpy(np.flatnonzero(real))
    side = Side(place.to(device), torch.from_numpy(real).to(device))
    padded = None
    if targets is not None:
        room = np.zeros(real.shape + real.shape[1:] * (targets[0].ndim - 1), targets[0].dtype)
        for place, row in enumerate(rows):
            room[place][tuple(slice(n) for n in targets[row].shape)] = targets[row]
        padded = torch.from_numpy(room).to(device)
    return picked.to(device).transpose(0, 1), side, padded
