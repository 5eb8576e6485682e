"""What a dry run is made of: parts of work, seconds of one step of each, and their table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

SLOW = 2.0
"""Seconds from which on a first call is timing enough."""


@runtime_checkable
class Threaded(Protocol):
    """Settings that say how many CPU threads to use; 0 leaves it to torch."""

    @property
    def threads(self) -> int: ...


@dataclass(frozen=True)
class Part:
    """One kind of work: how often it is done, and seconds for once."""

    name: str
    count: int
    seconds: float

    @property
    def hours(self) -> float:
        """Estimated hours."""
        return self.count * self.seconds / 3600


def work_table(parts: Sequence[Part], count: str = "passes") -> list[str]:
    """The parts and their total, a line each; ``count`` heads the column of how often."""
    return [
        f"{'work':<50}{count:>12}{'ms each':>10}{'hours':>10}",
        *(f"{p.name:<50}{p.count:>12,}{1000 * p.seconds:>10.1f}{p.hours:>10.2f}" for p in parts),
        f"{'total':<50}{sum(p.count for p in parts):>12,}{'':>10}"
        f"{sum(p.hours for p in parts):>10.2f}",
    ]


def timed(step: Callable[[], object], device: str) -> float:
    """Seconds of a step: of a slow first call, else of the quicker of two after it."""
    if (first := _once(step, device)) > SLOW:
        return first
    return min(_once(step, device), _once(step, device))


def device_name(device: str) -> str:
    """What a device is called in a report: "cpu", or a GPU's own name."""
    place = torch.device(device)
    return place.type if place.type == "cpu" else torch.cuda.get_device_name(place)


def use_threads(settings: Threaded) -> int:
    """Set torch's CPU threads when the settings ask for a number; returns the number in force."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return torch.get_num_threads()


def _once(step: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
