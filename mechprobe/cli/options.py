"""Settings as options of the command line: one option a field of their dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mechprobe.errors import InputError
from mechprobe.studies import option

LARGEST = 10**12
"""Of whole numbers on the command line; seeds are derived from them and must fit in 64 bits."""


def add_setting(group: Any, field: dataclasses.Field, hint: Any, value: Any) -> None:
    """One option; absent from the parsed values when it is not given."""
    kind, many, optional = _kind(hint)
    text = f"{field.metadata['help']} (default: {_shown(value)})".replace("%", "%%")
    common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
    if kind is bool:
        group.add_argument(option(field.name), action=argparse.BooleanOptionalAction, **common)
    else:
        convert = _converter(kind, optional)
        metavar = {int: "N", float: "X"}.get(kind, "TEXT")
        extra = {"nargs": "*"} if many else {}
        group.add_argument(option(field.name), type=convert, metavar=metavar, **common, **extra)


def read_values(hint: Any, name: str, text: str) -> tuple[Any, ...]:
    """Values of a setting separated by commas; those of a list are words.

    Raises:
        InputError: a word that is no value of this setting.
    """
    kind, many, optional = _kind(hint)
    convert = _switch if kind is bool else _converter(kind, optional)
    try:
        return tuple(
            tuple(convert(word) for word in part.split()) if many else convert(part.strip())
            for part in text.split(",")
        )
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--set {name}={text}: {error}") from None


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """Of a field's type: the plain type, whether it is a tuple of them, whether None is one."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        kind, many, _ = _kind(inner[0])
        return kind, many, True
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True, False
    return hint, False, False


def _converter(kind: type, optional: bool) -> Callable[[str], Any]:
    expected = {int: "a whole number", float: "a finite number"}.get(kind, "text")

    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
        if kind is float and not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return convert


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "empty"
    return "none" if value is None else str(value)


def refuse_huge_numbers(options: Mapping[str, object]) -> None:
    """Raise InputError for a number from which no seed of 64 bits can be derived."""
    for name, value in options.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and abs(number) > LARGEST:
                raise InputError(f"{option(name)}: {number} is out of range; give a number up to "
                                 f"{LARGEST:,}")
