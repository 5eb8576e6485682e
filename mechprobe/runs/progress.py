"""Progress with time left: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

SECONDS_BETWEEN_LINES = 30


def progress(over: int | Iterable, desc: str = "", *, unit: str = "step") -> Any:
    """Count work on stderr: iterate over it, or ``with progress(100, "fit") as bar: bar.update()``.

    On a terminal this is a tqdm bar. Elsewhere it is a line at most every 30 seconds, nothing for
    short work. The environment variable MECHPROBE_PROGRESS decides otherwise: 0 = nothing, 1 = bar.

    Args:
        over: how many steps there are, or what to iterate over.
        desc: what is being done.
    """
    from tqdm import tqdm

    class Lines(tqdm):
        """The same count, each report a line of its own."""

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            text = str(self) if msg is None else msg
            if text and text != getattr(self, "shown", None):
                self.shown = text
                print(text, file=sys.stderr, flush=True)

        def close(self) -> None:
            if not self.disable and self.last_print_t >= self.start_t + self.delay:
                self.display()
            self.disable = True

    choice = os.environ.get("MECHPROBE_PROGRESS", "")
    total, items = (over, None) if isinstance(over, int) else (None, over)
    shared = {
        "iterable": items, "total": total, "desc": desc or None, "unit": unit, "file": sys.stderr,
        "disable": choice == "0",
    }
    if choice == "1" or sys.stderr.isatty():
        return tqdm(**shared, dynamic_ncols=True)
    wait = SECONDS_BETWEEN_LINES
    return Lines(**shared, mininterval=wait, maxinterval=wait, miniters=1, delay=wait, ncols=100)
