"""New words: those that only the target task has, and how they come by their embeddings."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from mechprobe.models.edits import HookedModel
from mechprobe.studies.abstraction.data import SetData
from mechprobe.tasks.abstraction.twins import preposition_twins
from mechprobe.tasks.word_ids import WordIds
from mechprobe.training.seq2seq import embedding_weights

UNLIKELY = 30.0
"""By how many nats a word that lent its output embedding is less likely."""


def new_words(data: SetData) -> list[int]:
    """Ids that the target task's training pairs have and the auxiliary task's have not."""
    used = [
        {i for row in (*task["train"].sources, *task["train"].targets) for i in row}
        for task in (data.target, data.auxiliary)
    ]
    return sorted(used[0] - used[1])


def written_words(data: SetData) -> set[int]:
    """Ids in the target task's answers."""
    return {i for row in data.target["train"].targets for i in row}


def new_prepositions(data: SetData) -> dict[int, int]:
    """Ids of the target task's prepositions, each with that of the auxiliary task's."""
    assert isinstance(data.words, WordIds)
    ids = data.words.ids
    return {ids[word]: ids[twin] for word, twin in preposition_twins(data.tasks).items()}


@torch.no_grad()
def borrow(model: HookedModel, twins: Mapping[int, int], written: Collection[int]) -> None:
    """Give words, by id, the embeddings of others, in place.

    Of output embeddings only ``written`` words get them, not each inflected form; the words they
    are from become unlikely, else the two would tie.
    """
    if not twins:
        return
    weights = embedding_weights(model)
    read, lent = (torch.tensor(list(part)) for part in (twins.keys(), twins.values()))
    weights["embed.W_E"][read] = weights["embed.W_E"][lent]
    said = torch.tensor([word for word in twins if word in written], dtype=torch.long)
    lent = torch.tensor([twins[int(word)] for word in said], dtype=torch.long)
    weights["unembed.W_U"][:, said] = weights["unembed.W_U"][:, lent]
    weights["unembed.b_U"][said] = weights["unembed.b_U"][lent]
    weights["unembed.b_U"][lent] = weights["unembed.b_U"][lent] - UNLIKELY
