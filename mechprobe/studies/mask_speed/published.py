"""Complete runs of the published search, one subnetwork at a time, timed; resumable.

Bhaskar et al. 2024, section 3: a Hugging Face model with masks, the full model in every
micro-batch, 4 micro-batches a step, plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from mechprobe.locate.masks import MaskSettings, Member, published_settings, train_masks
from mechprobe.models import to_hf
from mechprobe.runs import progress
from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.files import atomic_write, read_json, to_json
from mechprobe.studies.mask_speed.laptop import Laptop, clock
from mechprobe.studies.mask_speed.rivals import Published
from mechprobe.tasks.batches import Batch


class TimedStore:
    """A state store that keeps the seconds spent so far beside the state."""

    def __init__(self, store: Checkpoint) -> None:
        self.store, self.before, self.began = store, 0.0, clock()

    def seconds(self) -> float:
        """Seconds of the work, those before a kill included (what a kill lost is not)."""
        return self.before + clock() - self.began

    def save(self, state: dict) -> None:
        """Keep a copy of the state."""
        self.store.save(state | {"seconds": self.seconds()})

    def load(self) -> dict | None:
        """The state saved last; the clock goes on from there."""
        state = self.store.load()
        if state is not None:
            self.before, self.began = state["seconds"], clock()
        return state

    def delete(self) -> None:
        """Forget the state."""
        self.store.delete()


def published_run(
    laptop: Laptop, seed: int, sparsity: float, folder: Path,
    settings: MaskSettings | None = None, save_every: int = 100,
) -> dict[str, Any]:
    """One complete run: its seconds, and KL and accuracy of the binary subnetwork held out.

    What is in the folder is not run again; a killed run goes on.
    """
    done = folder / f"published-{sparsity:g}-seed-{seed}.json"
    if done.exists():
        return read_json(done)
    settings = settings or published_settings(sparsity)
    store = TimedStore(Checkpoint(folder / f"published-{sparsity:g}-seed-{seed}.safetensors"))
    member = Member(seed, sparsity)
    with progress(settings.steps, f"published search, seed {seed}") as bar:
        log_alpha = train_masks(
            laptop.model, laptop.batches, [member], laptop.grid, laptop.baseline, settings,
            gradients=published_gradients(laptop), store=store, save_every=save_every,
            on_step=lambda step, _: bar.update(step - bar.n),
        )
    row = {"seed": seed, "steps": settings.steps, "accumulation": settings.accumulation,
           "seconds": store.seconds(), "log_alpha": log_alpha[0].tolist(),
           "closed": round(sparsity * len(laptop.grid)),
           **laptop.score(log_alpha, [member], settings)[0]}  # fmt: skip
    atomic_write(done, to_json(row))
    return row


def published_gradients(
    laptop: Laptop,
) -> Callable[[Batch, Tensor, object], tuple[Tensor, Tensor]]:
    """Loss [1] and gate gradients [1, site] of one member as published; the loss is its own."""
    published = Published(to_hf(laptop.model).requires_grad_(False), laptop.grid, laptop.stands)

    def gradients(batch: Batch, gates: Tensor, _: object) -> tuple[Tensor, Tensor]:
        loss, slope = published(gates[0], batch)
        return loss[None], slope[None]

    return gradients
