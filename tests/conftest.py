"""What all tests share: runtime type checks, no network, and where real data lies."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before anything imports mechprobe: every annotated function is checked at run time, shapes too.
install_import_hook("mechprobe", "beartype.beartype")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: MECHPROBE_DATA, else ../shared/data beside the checkout."""
    given = os.environ.get("MECHPROBE_DATA")
    folder = Path(given) if given else REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set MECHPROBE_DATA to the folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that reaches for another machine fails, also where there happens to be a network."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1"):
            raise OSError(f"tests use no network, but something connects to {address!r}")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    socket.socket.connect = refuse
    yield
    socket.socket.connect = connect
