"""Sentences, and vectors in which their trees are planted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from mechprobe.models.streams import Stream
from mechprobe.probes.activations import WordVectors
from mechprobe.tasks.treebank import Sentence, ancestors
from mechprobe.tasks.treebank_grammar import generate_treebank


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Vectors this small are probed faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def treebank() -> list[Sentence]:
    return generate_treebank(160, seed=11)


@pytest.fixture(scope="session")
def as_vectors() -> Callable[..., WordVectors]:
    """WordVectors from arrays [word, d], one a site, sentences one after the other."""

    def build(sentences: Sequence[Sentence], *sites: np.ndarray | torch.Tensor) -> WordVectors:
        lengths = [len(sentence) for sentence in sentences]
        return WordVectors(
            streams=tuple(Stream("resid", i) for i in range(len(sites))),
            storage=torch.stack([torch.as_tensor(site) for site in sites], dim=1),
            starts=np.cumsum([0, *lengths]),
            sentences=tuple(sentences),
            words=np.concatenate([np.arange(n) for n in lengths]),
            index=tuple(range(len(sentences))),
        )

    return build


@pytest.fixture(scope="session")
def planted() -> Callable[..., np.ndarray]:
    """Vectors [word, d] with ||h_i - h_j||^2 = tree distance and ||h_i||^2 = depth (root 0).

    Each arc has a direction of its own within its sentence; a word is the sum of the arcs on its
    way to the root. With ``mixed`` the space is rotated and stretched, so that only a B finds it.
    """

    def build(
        sentences: Sequence[Sentence], d: int = 24, *, mixed: bool = False, seed: int = 0
    ) -> np.ndarray:
        rows = []
        for sentence in sentences:
            way = ancestors(sentence.heads).astype(float)
            way[:, sentence.root] = 0
            wide = np.pad(way, ((0, 0), (0, d - len(sentence))))
            rows.append(np.roll(wide, len(rows), axis=1))  # so that every direction is used
        found = np.concatenate(rows)
        if mixed:
            rng = np.random.default_rng(seed)
            rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
            found = found @ rotation * rng.uniform(0.5, 2, d)
        return found

    return build
