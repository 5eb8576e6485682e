"""What was measured, kept until it takes too much memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    """A value that knows the memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        ...


Value = TypeVar("Value", bound=Sized)


class Remembered(Generic[Value]):
    """Values by key; the least recently asked for are forgotten beyond ``limit`` bytes.

    The newest stays, whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(value.nbytes for value in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made when it is not there."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self.nbytes > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key]
