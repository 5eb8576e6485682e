"""One process at a time in a run directory; the lock ends with the process, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from mechprobe.errors import InputError

LOCK = ".lock"


class Lock:
    """An exclusive lock on a folder, held until ``release`` or the end of the process.

    Raises:
        InputError: another process holds it (its number is told), or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl

        path = folder / LOCK
        try:
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"cannot write in {folder} ({error.strerror}); give a folder that can be written"
            ) from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            self.release()
            raise InputError(
                f"{folder} is in use by process {holder}; wait for it, stop it, "
                "or give another folder"
            ) from None
        except OSError as error:
            self.release()
            raise InputError(
                f"{folder} is on a file system without locks ({error.strerror}); give a folder "
                "on a local disk"
            ) from None
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
