"""The loss against a plain loop; training brings the last layer nearer to the tree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models.build import build_encoder
from mechprobe.models.untrained import untrained_twin
from mechprobe.probes import word_vectors
from mechprobe.probes.structural_scores import distance_scores
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.treebank import tree_distances
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.word_pieces import encode_words
from mechprobe.training.fresh import FreshSettings
from mechprobe.training.tree_space import fit_tree_space, tree_space_loss

SENTENCES = generate_treebank(260, seed=5)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


def test_the_loss_is_the_papers_sum():
    some = SENTENCES[:7]
    gold = [torch.from_numpy(tree_distances(s.heads)) for s in some]
    words = torch.randn(sum(map(len, some)), 5, generator=torch.Generator().manual_seed(0))
    losses, start = [], 0
    for own in gold:
        h = words[start : start + len(own)].double().numpy()
        found = ((h[:, None] - h[None]) ** 2).sum(-1)
        losses.append(np.abs(found - own.numpy()).mean())
        start += len(own)
    assert tree_space_loss(words, gold).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_last_layer_comes_nearer_to_the_tree():
    tokenizer = word_tokenizer(" ".join(s.words) for s in SENTENCES)
    encoded = encode_words([s.words for s in SENTENCES[:200]], tokenizer, 64)
    model = build_encoder(
        n_layers=2, n_heads=2, d_model=32, d_mlp=64, n_ctx=64, tokenizer=tokenizer, seed=0
    )
    fresh = untrained_twin(model, init_std=0.14)
    seen: list[float] = []
    fit_tree_space(
        model, encoded, SENTENCES, FreshSettings(120, lr=3e-3, warmup_steps=10), batch_size=16,
        on_step=lambda step, loss: seen.append(loss),
    )  # fmt: skip
    assert np.mean(seen[-10:]) < 0.5 * np.mean(seen[:10])

    def uuas(model) -> float:
        vectors = word_vectors(model.requires_grad_(False), SENTENCES[200:], wanted=["resid.2"])
        own = vectors.values[0][:, :16]

        def predict(rows: np.ndarray) -> torch.Tensor:
            found = [own[vectors.starts[r] : vectors.starts[r + 1]] for r in rows]
            return torch.stack([torch.cdist(h, h) for h in found])[None]

        return float(distance_scores(vectors.sentences, ["last"], predict).scores["uuas"][0])

    assert uuas(model) > uuas(fresh) + 0.1


def test_no_sentence_is_refused():
    tokenizer = word_tokenizer(["a b"])
    encoded = encode_words([["a", "b"]], tokenizer, 8)
    empty = dataclasses.replace(
        encoded, encoded=dataclasses.replace(encoded.encoded, labels=np.zeros(0, dtype=np.int64))
    )
    model = build_encoder(n_layers=1, n_heads=1, d_model=4, n_ctx=8, tokenizer=tokenizer)
    with pytest.raises(InputError, match="needs sentences"):
        fit_tree_space(model, empty, [], FreshSettings(1))
