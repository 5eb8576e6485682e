"""One study at its smallest size, in children that are killed at random, to the end.

Called as ``kill_study.py STUDY SETTINGS FOLDER KILLS SEED [report]``. The study runs untouched in
FOLDER/whole. In FOLDER/chain-N it is killed again and again: at a random file operation, or after a
random time; a chain that reaches its end is followed by another until there were KILLS kills, and
the last one is let end. With "report" the children also make the report, which takes longest.
Prints the number of chains.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from mechprobe.runs import complete
from mechprobe.studies import STUDIES
from mechprobe.studies.sweep.plan import settings_from

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")


class Operations:
    """Counts file operations under a folder and, where told, ends the process before one."""

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.folder, self.kill_at, self.count, self.on = str(folder), kill_at, 0, True
        sys.addaudithook(self.before)

    def before(self, event: str, arguments: tuple) -> None:
        if not self.on or event not in EVENTS or self.folder not in str(arguments[0]):
            return
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def do(name: str, settings: object, folder: Path, report: bool) -> None:
    """Every unit that is not there yet, and maybe the report."""
    study = STUDIES[name]
    with study.opened(settings, folder) as at:
        complete(at.run, study.units(settings), at)
        at.run.order_metrics([unit.name for unit in study.units(settings)])
        if report:
            study.finish(at)


def in_child(name: str, settings: object, folder: Path, report: bool, kill_at: int | None,
             seconds: float | None) -> bool:  # fmt: skip
    """Run in a child that may be killed; whether it was."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Operations(folder, kill_at)
            do(name, settings, folder, report)
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"{folder} could not be continued"
    return False


def main() -> None:
    name, settings_text, place, kills, seed, *more = sys.argv[1:]
    settings = settings_from(STUDIES[name], json.loads(settings_text))
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is one of all children: one killed would keep it
    folder, report, rng = Path(place), bool(more), random.Random(int(seed))
    whole = Operations(folder / "whole")
    began = time.monotonic()
    do(name, settings, folder / "whole", report)
    took, operations = time.monotonic() - began, whole.count
    whole.on = False
    done, chain = 0, 0
    while done < int(kills):
        at_operation = rng.random() < 0.6
        killed = in_child(
            name, settings, folder / f"chain-{chain}", report,
            rng.randint(1, operations // 6) if at_operation else None,
            None if at_operation else rng.uniform(0, took / 6),
        )
        done, chain = done + killed, chain + (not killed)
    if (folder / f"chain-{chain}").exists():
        in_child(name, settings, folder / f"chain-{chain}", report, None, None)
        chain += 1
    print(chain)


if __name__ == "__main__":
    main()
