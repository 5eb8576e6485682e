"""What all tests share: runtime type checks, no network, and where real data lies."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from mechprobe.models import HookedClassifier
    from mechprobe.tasks.batches import Batch

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


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the packaged MiniLM encoder, which `make offline-models` installs."""
    from mechprobe.errors import InputError
    from mechprobe.models import packaged_minilm

    try:
        return packaged_minilm()
    except InputError as error:
        pytest.skip(str(error))


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small run several times faster on one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_classifier() -> Callable[..., HookedClassifier]:
    """Builds a classifier of 2 layers, 2 heads, 6 neurons whose every weight and bias shows."""
    import torch

    from mechprobe.models import build_classifier

    def build(seed: int = 0, dtype: torch.dtype = torch.float32, **sizes: int) -> HookedClassifier:
        sizes = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 6, "n_ctx": 12,
                 "d_vocab": 20} | sizes  # fmt: skip
        model = build_classifier(("yes", "no"), None, **sizes, dtype=dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.4 * draw + (name.endswith(".w")))
        return model

    return build


@pytest.fixture(scope="session")
def random_batch() -> Callable[..., Batch]:
    """Builds a batch of random pairs of the given lengths, padded on the right with ``pad``."""
    import torch

    from mechprobe.tasks.batches import Batch

    def build(
        *lengths: int, seed: int = 0, width: int | None = None, pad: int = 0, first: int = 0
    ) -> Batch:
        width = width or max(lengths)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(1, 20, (len(lengths), 32), generator=generator)[:, :width]
        place, length = torch.arange(width), torch.tensor(lengths)[:, None]
        real = place < length
        return Batch(
            tokens=torch.where(real, drawn, pad),
            segments=((place >= length // 2) & real).long(),
            attention_mask=real.long(),
            labels=torch.randint(0, 2, (len(lengths),), generator=generator),
            index=first + torch.arange(len(lengths)),
        )

    return build
