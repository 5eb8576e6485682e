"""Refuse pairs that a run's models could not read, before a folder is made and anything trained."""

from __future__ import annotations

from mechprobe.studies.task_spaces.models import (
    encode,
    encode_parts,
    given_points,
    open_point,
    shuffled_text,
)
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.minimal_pairs import MinimalPairs
from mechprobe.tasks.vocabulary import train_tokenizer


def check_readable(settings: Settings, pairs: MinimalPairs) -> None:
    """Read the pairs with every model that is given, or with the vocabulary training would make.

    Raises:
        InputError: a model that cannot be opened or has no tokenizer; text that makes no
            vocabulary; a pair with a word outside the vocabulary or too long for the context, whose
            file and line are named.
    """
    for name in settings.models:
        encode(settings, pairs, open_point(settings, given_points(settings, name)[-1]))
    if not settings.models:
        tokenizer = train_tokenizer(
            shuffled_text(settings, pairs), settings.vocabulary, settings.n_vocabulary
        )
        encode_parts(settings, pairs, tokenizer, settings.n_ctx)
