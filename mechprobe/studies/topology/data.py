"""The study's sentences: a generated treebank, EWT and PUD, or any CoNLL-U file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mechprobe.errors import InputError
from mechprobe.runs.inputs import digest_of
from mechprobe.studies.topology.settings import COLA, OWN, Settings
from mechprobe.tasks.acceptability import exchangeable, load_cola
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.tasks.treebank_sources import TREEBANKS, load_treebank

SCORED = ("test", "second")


@dataclass(frozen=True)
class StudyData:
    """Sentences by part: train, dev, test, maybe second; and what the encoder is trained on."""

    parts: dict[str, tuple[Sentence, ...]]
    pretrain: tuple[Sentence, ...] = ()

    @property
    def scored(self) -> tuple[str, ...]:
        """The parts that scores are reported on."""
        return tuple(part for part in SCORED if part in self.parts)


def prepare(settings: Settings) -> StudyData:
    """Read or generate the sentences.

    Raises:
        InputError: a treebank that is missing, malformed or too small, or without parts of speech.
    """
    wanted = {"train": settings.n_train, "dev": settings.n_dev, "test": settings.n_test}
    pretrain: tuple[Sentence, ...] = ()
    if settings.treebank == OWN:
        n_own = 0 if settings.encoder else settings.n_pretrain
        drawn = _shuffled(generate_treebank(sum(wanted.values()) + n_own, seed=settings.seed),
                          settings.seed)
        parts = _cut(drawn, wanted)
        pretrain = tuple(drawn[sum(wanted.values()):])
    elif settings.treebank in TREEBANKS:
        parts = {
            part: _sample(
                load_treebank(settings.treebank, part, data_dir=settings.data_dir), n, settings.seed
            )
            for part, n in wanted.items()
        }
    else:
        parts = _split_file(settings, wanted)
    if settings.second is not None:
        whole = load_treebank(settings.second, "test", data_dir=settings.data_dir)
        parts["second"] = _sample(whole, settings.n_second, settings.seed)
    if settings.encoder is None and not pretrain:
        pretrain = parts["train"]
    _check_tags(settings, parts)
    return StudyData(parts, pretrain)


def _check_tags(settings: Settings, parts: dict[str, tuple[Sentence, ...]]) -> None:
    """Parts of speech are probed for, and say which words our own task exchanges."""
    tags = {tag for sentence in parts["train"] for tag in sentence.upos}
    if len(tags) < 2:
        raise InputError(
            f"{settings.treebank}: its {len(parts['train'])} training sentences have one part of "
            f"speech only, {min(tags)!r}; give a treebank whose UPOS column tells words apart"
        )
    own_task = settings.finetune == OWN and settings.treebank != OWN
    if own_task and not all(any(map(exchangeable, parts[part])) for part in ("train", "test")):
        raise InputError(
            f"{settings.treebank}: no neighbours in its sentences can be exchanged, which the task "
            "of fine-tuning needs; give --finetune none, or longer sentences"
        )


def _split_file(settings: Settings, wanted: dict[str, int]) -> dict[str, tuple[Sentence, ...]]:
    """One file in three: a tenth each for choosing and for testing, at most what is wanted."""
    drawn = _shuffled(load_treebank(settings.treebank), settings.seed)
    tenth = len(drawn) // 10
    if tenth < 5:
        raise InputError(
            f"{settings.treebank} holds {len(drawn)} sentences; a tenth of them is held out twice, "
            "so give a file with 50 or more"
        )
    held = {"dev": min(tenth, wanted["dev"]), "test": min(tenth, wanted["test"])}
    parts = _cut(drawn, held)
    rest = drawn[sum(held.values()):]
    return {"train": tuple(rest[: wanted["train"]]), **parts}


def _cut(drawn: Sequence[Sentence], sizes: dict[str, int]) -> dict[str, tuple[Sentence, ...]]:
    parts, start = {}, 0
    for part, n in sizes.items():
        parts[part] = tuple(drawn[start : start + n])
        start += n
    return parts


def _shuffled(sentences: Sequence[Sentence], seed: int) -> list[Sentence]:
    order = np.random.default_rng(seed).permutation(len(sentences))
    return [sentences[i] for i in order]


def _sample(sentences: Sequence[Sentence], n: int, seed: int) -> tuple[Sentence, ...]:
    """At most n different sentences, in the treebank's order."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(sentences), min(n, len(sentences)), replace=False)
    return tuple(sentences[i] for i in np.sort(chosen))


def inputs(settings: Settings, data: StudyData) -> dict[str, str]:
    """Digests of every part's sentences and trees, and of CoLA where it is fine-tuned on."""
    found = {
        part: digest_of([s.words for s in rows], [s.heads for s in rows], [s.upos for s in rows])
        for part, rows in {**data.parts, "pretrain": data.pretrain}.items()
    }
    for part in ("train", "dev") if settings.finetune == COLA else ():
        judged = load_cola(part, data_dir=settings.data_dir)
        found[f"cola {part}"] = digest_of(judged.texts, judged.labels.tolist())
    return found
