"""What a card may hold: a shape for every key, checked at every level before anything is made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from mechprobe.errors import InputError

Shape: TypeAlias = Any
"""One of the kinds below, in words; a mapping of key to shape for a table (of the one key "*" where
keys are the card's own); a list of one such mapping for a list of tables; a tuple of these where
there is a choice."""

ANY = "anything"
TEXT = "text"
TEXTS = "a list of texts"
FLAG = "true or false"
WHOLE = "a whole number, 0 or more"
WHOLES = "a list of whole numbers, 0 or more"
NUMBER = "a number, 0 or more"
NUMBERS = "a list of numbers, 0 or more"
PAIRS = "a list of pairs of texts"


def each(shape: Shape) -> Shape:
    """A table whose keys are the card's own, each with this shape."""
    return {"*": shape}


def check_shape(value: Any, shape: Shape, card: str, path: str = "") -> None:
    """Refuse a value that has not the shape, or a key that nothing reads, at any level.

    Args:
        card: what the message names first, "card nli/overlap".
        path: of the value in the card, "settings.n_train".

    Raises:
        InputError: another kind of value; an unknown key, with the nearest known one.
    """
    fitting = [one for one in _choices(shape) if _FITS[_words(one)](value)]
    if not fitting:
        expected = " or ".join(_expected(one, path) for one in _choices(shape))
        raise InputError(f"{card}: {path} {_wrong(value, shape)}; expected {expected}")
    if isinstance(fitting[0], list):
        for table in value:
            _check_table(table, fitting[0][0], card, path)
    elif isinstance(fitting[0], Mapping):
        _check_table(value, fitting[0], card, path)


def instead(key: str, known: Iterable[str]) -> str:
    """What to do about an unknown key."""
    near = difflib.get_close_matches(key, list(known), 1, 0.0)
    return f"nearest: {near[0]}; mend or remove it" if near else "remove it"


def _check_table(table: Mapping[str, Any], level: Mapping[str, Shape], card: str, path: str
                 ) -> None:
    for key, value in table.items():
        if "*" not in level and key not in level:
            place = f"in [{path}]" if path else "at the top"
            raise InputError(f"{card}: unknown key {key!r} {place}; {instead(key, level)}")
        inside = level["*"] if "*" in level else level[key]
        check_shape(value, inside, card, f"{path}.{key}" if path else key)


def _choices(shape: Shape) -> tuple[Shape, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


def _words(shape: Shape) -> str:
    if isinstance(shape, str):
        return shape
    return "a list of tables" if isinstance(shape, list) else "a table"


def _expected(shape: Shape, path: str) -> str:
    """The kind in words, and how a table is written."""
    brackets = {"a table": f" [{path}]", "a list of tables": f" [[{path}]]"}
    return _words(shape) + brackets.get(_words(shape), "")


def _wrong(value: Any, shape: Shape) -> str:
    """What does not fit: the value, or the first of its members that does not."""
    said = "is"
    if isinstance(value, list) and isinstance(shape, str) and shape in _MEMBERS:
        said, value = "has", next(one for one in value if not _MEMBERS[shape](one))
    text = repr(value)
    return f"{said} {text if len(text) <= 60 else f'{text[:57]}...'}"


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


_MEMBERS: Mapping[str, Callable[[Any], bool]] = {
    TEXTS: _is_text, WHOLES: _is_whole, NUMBERS: _is_number, PAIRS: _is_pair,
    "a list of tables": lambda value: isinstance(value, Mapping),
}  # fmt: skip


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


_FITS: Mapping[str, Callable[[Any], bool]] = {
    ANY: lambda value: True,
    TEXT: _is_text,
    FLAG: lambda value: isinstance(value, bool),
    WHOLE: _is_whole,
    NUMBER: _is_number,
    "a table": lambda value: isinstance(value, Mapping),
    **{name: _list_of(fits) for name, fits in _MEMBERS.items()},
}
