"""The study's tasks as ids: one vocabulary a set, or a pretrained model's word pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mechprobe.models.edits import HookedModel
from mechprobe.runs.inputs import card_inputs, digest_of
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.tasks.abstraction import AbstractionTasks, SequencePairs, load_abstraction
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.seq2seq_rows import SequenceRows, encode_rows
from mechprobe.tasks.word_ids import PieceIds, WordIds, word_ids


@dataclass(frozen=True)
class SetData:
    """One set's tasks, encoded.

    Attributes:
        tasks: its target, auxiliary and contrast task.
        words: the vocabulary.
        decoder_only: whether one decoder reads source and target.
        generic: other vocabularies' auxiliary pairs, for generic pretraining; None without it.
    """

    tasks: AbstractionTasks
    words: WordIds | PieceIds
    decoder_only: bool
    generic: SequencePairs | None

    def rows(self, pairs: SequencePairs) -> SequenceRows:
        """Pairs as ids."""
        return encode_rows(pairs, self.words, decoder_only=self.decoder_only)

    @cached_property
    def target(self) -> Mapping[str, SequenceRows]:
        """Splits of the target task: train, dev, test, ood."""
        return {name: self.rows(pairs) for name, pairs in self.tasks.target.items()}

    @cached_property
    def auxiliary(self) -> Mapping[str, SequenceRows]:
        """Splits of the auxiliary task: train, dev, ood."""
        return {name: self.rows(pairs) for name, pairs in self.tasks.auxiliary.items()}

    @cached_property
    def contrast(self) -> Mapping[str, SequenceRows]:
        """Splits of the contrast task: train, dev, ood."""
        return {name: self.rows(pairs) for name, pairs in self.tasks.contrast.items()}


def load_set(settings: Settings, index: int, mutation: str | None = None) -> AbstractionTasks:
    """The tasks of the index-th set; ``mutation`` changes its auxiliary task."""
    return load_abstraction(
        settings.card, probe=settings.probe, lexicon_set=index + 1, contrast=settings.contrast,
        mutation=mutation, data_dir=settings.data_dir, seed=settings.seed + index,
        **sizes(settings),
    )


def inputs(sets: Sequence[AbstractionTasks]) -> dict[str, Any]:
    """The card, and digests of the pairs of each set."""
    found = card_inputs(sets[0].card)
    for i, each in enumerate(sets):
        parts = {"target": each.target, "auxiliary": each.auxiliary, "contrast": each.contrast}
        of_set = f" of set {i + 1}" if i else ""
        found |= {
            f"{task} {split}{of_set}": digest_of(pairs.source, pairs.target, pairs.group)
            for task, splits in parts.items() for split, pairs in splits.items()
        }
    return found


def sizes(settings: Settings) -> dict[str, Any]:
    """The card's settings that the study overrides."""
    given: dict[str, Any] = {
        "n_train": settings.n_train, "n_test": settings.n_test, "n_dev": settings.n_test,
        "n_ood": settings.n_ood, "per_item": settings.per_item, "redraw": settings.redraw,
    }
    if read_card(settings.card)["kind"] == "grammar":
        given["n_words"] = min(int(read_card(settings.card)["settings"]["n_words"]),
                               settings.n_train // 4)
    return given


def prepare(
    settings: Settings, index: int, model: HookedModel | None = None, mutation: str | None = None
) -> SetData:
    """A set's data; ``model`` is the pretrained one whose tokenizer reads them."""
    tasks = load_set(settings, index, mutation)
    generic = generic_pairs(settings, index)
    if model is not None:
        return SetData(tasks, PieceIds(model.tokenizer), settings.arch == "decoder", generic)
    pairs = tasks.all_pairs() + ([] if generic is None else [generic])
    words = word_ids(
        (tokens for part in pairs for tokens in (*part.source, *part.target)),
        fold=settings.fold_case,
    )
    return SetData(tasks, words, settings.arch == "decoder", generic)


def generic_pairs(settings: Settings, index: int) -> SequencePairs | None:
    """The stand-in for generic pretraining: the grammar in vocabularies that no task here has.

    Only function words and the auxiliary tasks' prefix and prepositions are the same. Derivations
    come from other seeds; the target task's generalisation is among them in the other words.
    """
    if not settings.generic_steps:
        return None
    parts = []
    for k, lexicon_set in enumerate(generic_lexicons(settings, index)):
        other = load_abstraction(
            settings.card, probe=settings.probe, lexicon_set=lexicon_set,
            data_dir=settings.data_dir, seed=10_000 + settings.seed + 100 * index + k,
            **sizes(settings),
        )
        parts.append(other.auxiliary["train"])
    return SequencePairs.concat(parts, "generic pretraining")


def generic_lexicons(settings: Settings, index: int) -> range:
    """The vocabularies that the index-th set's generic pretraining has; no task has them."""
    first = max(100, settings.n_sets + 1) + index * settings.generic_sets
    return range(first, first + settings.generic_sets)
