"""An argument parser whose complaints are one line, and the folders it is given."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from mechprobe.errors import InputError

DATA = "MECHPROBE_DATA"
"""Environment variable: the folder of real data."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def folder(text: str) -> Path:
    """A path on the command line; ``~`` is the home folder."""
    return Path(text).expanduser()


def check_folder(name: str, path: Path) -> None:
    """Raise InputError, before any work, where a folder cannot be made or written."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{name} {path}: {place} is a file; give a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{name} {path}: {place} cannot be written; give another folder")
