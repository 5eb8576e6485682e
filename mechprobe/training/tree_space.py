"""Train an encoder so that distances between its word vectors are distances in the tree.

What structural probes look for (Hewitt and Manning 2019) is then there by construction: a positive
control of known truth for every probe, and for every claim about which layers build the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.streams import Stream, run_with_streams
from mechprobe.runs.crew import crew
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.treebank import Sentence, tree_distances
from mechprobe.tasks.word_pieces import EncodedWords, pool_words
from mechprobe.training.fit import StateStore
from mechprobe.training.fresh import FreshSettings, fit_fresh


def fit_tree_space(
    model: HookedModel,
    encoded: EncodedWords,
    sentences: Sequence[Sentence],
    settings: FreshSettings,
    *,
    batch_size: int = 32,
    seed: int = 0,
    scale: float = 0.5,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 500,
) -> None:
    """Train the weights of an encoder in place.

    The loss is ``tree_space_loss`` of the last layer's word vectors (means of sub-words).

    Args:
        encoded: the sentences as tokens; its rows are rows of ``sentences``.
        scale: factor on the vectors before distances are taken.
        on_step: called with (step, loss) after each step.
        store, save_every: as in ``fit_fresh``.

    Raises:
        InputError: no sentences.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    if not len(encoded):
        raise InputError("an encoder needs sentences to be trained on; the data are empty")
    size = min(batch_size, len(encoded))
    per_epoch = len(encoded) // size
    last = Stream("resid", model.cfg.n_layers)
    gold = {
        int(row): torch.from_numpy(tree_distances(sentences[row].heads))
        for row in encoded.encoded.index
    }
    order: dict[int, list[Batch]] = {}

    def loss_at(model: HookedModel, step: int) -> Tensor:
        epoch, place = divmod(step, per_epoch)
        if epoch not in order:
            order.clear()
            shuffle = 1_000_003 * seed + epoch
            order[epoch] = encoded.encoded.batches(size, shuffle_seed=shuffle, drop_last=True)
        whole, team = order[epoch][place], crew()
        batch = whole.take(team.rows(size)).to(next(model.parameters()).device)
        _, found = run_with_streams(model, batch, [last])
        words = pool_words(found[last], encoded.words_of(batch))
        half = words[:, : words.shape[1] // 2]
        loss = tree_space_loss(scale * half, [gold[row] for row in batch.index.tolist()])
        return loss * (len(batch) / len(whole))

    fit_fresh(
        model, loss_at, settings, on_step=on_step, store=store, save_every=save_every, shared=True
    )


def tree_space_loss(
    words: Float[Tensor, "word r"], distances: Sequence[Tensor]
) -> Float[Tensor, ""]:
    """L1 between squared distances and tree distances, per pair, mean over sentences.

    Args:
        words: vectors of all words, sentence after sentence.
        distances: each sentence's tree distances [word, word].
    """
    lengths = [len(own) for own in distances]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    padded = words.new_zeros(len(lengths), max(lengths), words.shape[1])
    at = (torch.from_numpy(rows).to(words.device), torch.from_numpy(place).to(words.device))
    padded = padded.index_put(at, words)
    gold, weight = (words.new_zeros(len(lengths), max(lengths), max(lengths)) for _ in range(2))
    for row, own in enumerate(distances):
        gold[row, : len(own), : len(own)] = own.to(words)
        weight[row, : len(own), : len(own)] = 1 / len(own) ** 2
    inner = padded @ padded.mT
    norms = inner.diagonal(dim1=-2, dim2=-1)
    found = norms[:, :, None] + norms[:, None, :] - 2 * inner
    return ((found - gold).abs() * weight).sum() / len(lengths)
