"""Who may write in a run directory; a lock ends with its process, however that ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mechprobe.errors import InputError

LOCK = ".lock"
PATIENCE = 10.0
"""Seconds that one who would share a folder waits for one who has it alone."""


class Lock:
    """A lock on a folder, alone or shared, held until ``release`` or the end of the process.

    Args:
        shared: let other sharers in too. The first of them has the folder alone until ``share``,
            to put it in order; ``alone`` tells whether that is so.

    Raises:
        InputError: another process holds it (its number is told), or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self._folder = folder
        self._handle: int | None = _open(folder / LOCK)
        self.alone = self._take(exclusive=True)
        until = time.monotonic() + (PATIENCE if shared else 0.0)
        while not self.alone and not (shared and self._take(exclusive=False)):
            if time.monotonic() >= until:
                holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip()
                self.release()
                raise InputError(
                    f"{folder} is in use by process {holder or 'unknown'}; wait for it, stop it, "
                    "or give another folder"
                )
            time.sleep(0.05)
        if self.alone:
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())

    def share(self) -> None:
        """Let other sharers in."""
        import fcntl

        assert self._handle is not None
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        self.alone = False

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, *, exclusive: bool) -> bool:
        import fcntl

        assert self._handle is not None
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
                        | fcntl.LOCK_NB)  # fmt: skip
        except BlockingIOError:
            return False
        except OSError as error:
            self.release()
            raise InputError(
                f"{self._folder} is on a file system without locks ({error.strerror}); give a "
                "folder on a local disk"
            ) from None
        return True


@contextmanager
def claim(path: Path, what: str) -> Iterator[None]:
    """Have a piece of work alone among the processes that share a folder; wait for it if need be.

    Args:
        path: the lock's file; left behind, and of no meaning without a process that holds it.
        what: the work, named to a user who waits.
    """
    import fcntl

    handle = _open(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"mechprobe: another process is at {what}; waiting for it", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent} ({error.strerror}); give a folder that can be written"
        ) from None
