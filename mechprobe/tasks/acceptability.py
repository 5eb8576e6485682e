"""Single sentences, acceptable or not: CoLA, and our own task of word order; and how to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.batches import Encoded
from mechprobe.tasks.files import find_file, read_fields
from mechprobe.tasks.treebank import Sentence

LABELS = ("unacceptable", "acceptable")
ACCEPTABLE = 1
COLA_FILES = {
    "train": ("glue/cola_in_domain_train.tsv",),
    "dev": ("glue/cola_in_domain_dev.tsv", "glue/cola_out_of_domain_dev.tsv"),
}
_COLA_COLUMNS = 4  # source, label, the author's mark, sentence
_HUB = ("nyu-mll/glue", "cola", {"train": "train", "dev": "validation"})


@dataclass(frozen=True)
class Judged:
    """Sentences with a judgement each.

    Attributes:
        texts: one string a sentence.
        labels: 1 for acceptable, 0 for not; int64 [n].
        group: "in domain", "out of domain" or "" of each.
        name: for messages.
    """

    texts: tuple[str, ...]
    labels: Int[np.ndarray, " n"]
    group: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, n: int, seed: int) -> Judged:
        """At most n of the sentences, drawn without repetition, in their order."""
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(len(self), min(n, len(self)), replace=False))
        return Judged(
            tuple(self.texts[i] for i in rows), self.labels[rows],
            tuple(self.group[i] for i in rows), self.name,
        )  # fmt: skip


def load_cola(part: str, *, data_dir: str | Path | None = None) -> Judged:
    """The Corpus of Linguistic Acceptability (Warstadt et al. 2019).

    Args:
        part: "train", or "dev" (in and out of domain together, as GLUE's validation set).
        data_dir: a folder with local copies; None loads GLUE's from the hub.

    Raises:
        InputError: an unknown part, a file that is missing or malformed (with its line), or a hub
            that cannot be reached.
    """
    if part not in COLA_FILES:
        raise InputError(f"CoLA has no part {part!r}; expected {' or '.join(COLA_FILES)}")
    if data_dir is None:
        return _from_hub(part)
    texts, labels, group = [], [], []
    for file in COLA_FILES[part]:
        path = _find(Path(data_dir).expanduser(), file)
        for number, fields in read_fields(path, "none", header=False):
            row = list(fields.values()) if isinstance(fields, dict) else list(fields)
            if len(row) != _COLA_COLUMNS or row[1] not in ("0", "1"):
                raise InputError(
                    f"{path.name} line {number}: expected source, 0 or 1, mark and sentence, "
                    "separated by tabs; mend or remove the row"
                )
            texts.append(str(row[3]))
            labels.append(int(row[1]))
            group.append("out of domain" if "out_of_domain" in file else "in domain")
    return Judged(tuple(texts), np.array(labels, dtype=np.int64), tuple(group), f"cola:{part}")


def _find(folder: Path, file: str) -> Path:
    """The file, plain or packed."""
    for packing in ("", ".xz", ".gz"):
        try:
            return find_file(folder, file + packing, "cola", on_hub=True)
        except InputError:
            if packing == ".gz" or not folder.is_dir():
                raise
    raise AssertionError("find_file either returns or raises")


def _from_hub(part: str) -> Judged:
    from datasets import load_dataset

    path, config, splits = _HUB
    try:
        rows = load_dataset(path, config, split=splits[part])
        texts, labels = list(rows["sentence"]), list(rows["label"])
    except Exception as error:  # whatever the hub, the network or the cache raised
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"{path} {config} could not be loaded ({type(error).__name__} {reason[:120]}); check "
            "the network, or give data_dir, a folder with local copies"
        ) from error
    found = np.array(labels, dtype=np.int64)
    return Judged(tuple(texts), found, ("",) * len(texts), f"cola:{part}")


def word_order(sentences: Sequence[Sentence], *, seed: int = 0) -> Judged:
    """Our own task: every second sentence has two neighbouring words exchanged.

    The words differ in their part of speech and neither is punctuation, so that the order is wrong
    in a grammar whose parts of speech have their places.

    Raises:
        InputError: a sentence where no two neighbours can be exchanged.
    """
    rng = np.random.default_rng(seed)
    wrong = np.arange(len(sentences)) % 2 == 0
    texts = []
    for sentence, broken in zip(sentences, wrong[rng.permutation(len(sentences))], strict=True):
        words = list(sentence.words)
        if broken:
            can = exchangeable(sentence)
            if not can:
                raise InputError(
                    f"sentence {' '.join(words)!r} has no neighbours of different parts of speech "
                    "to exchange; leave it out"
                )
            i = int(rng.choice(can))
            words[i], words[i + 1] = words[i + 1], words[i]
        texts.append((" ".join(words), 0 if broken else ACCEPTABLE))
    labels = np.array([label for _, label in texts], dtype=np.int64)
    return Judged(tuple(t for t, _ in texts), labels, ("",) * len(texts), "word order")


def exchangeable(sentence: Sentence) -> list[int]:
    """First places of neighbours of different parts of speech, neither of them punctuation."""
    tags = sentence.upos
    return [
        i for i in range(len(tags) - 1)
        if tags[i] != tags[i + 1] and "PUNCT" not in tags[i : i + 2]
    ]  # fmt: skip


def encode_judged(
    judged: Judged, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoded:
    """Token ids of each sentence with its label; longer ones are cut, and counted.

    Raises:
        InputError: no sentence, or a tokenizer without padding token.
    """
    pad_id = tokenizer.pad_token_id
    if not len(judged) or not isinstance(pad_id, int):
        raise InputError(f"{judged.name}: no sentence, or a tokenizer without padding token")
    whole = tokenizer(list(judged.texts), padding=False, truncation=False, verbose=False)
    cut = tokenizer(list(judged.texts), padding=False, truncation=True, max_length=max_length)
    lengths = [len(ids) for ids in cut["input_ids"]]
    return Encoded(
        tokens=np.concatenate([np.array(ids, dtype=np.int64) for ids in cut["input_ids"]]),
        segments=np.zeros(sum(lengths), dtype=np.int64),
        starts=np.cumsum([0, *lengths], dtype=np.int64),
        labels=judged.labels,
        index=np.arange(len(judged), dtype=np.int64),
        pad_id=pad_id,
        n_truncated=sum(len(ids) > max_length for ids in whole["input_ids"]),
    )


def matthews(gold: Int[np.ndarray, " n"], guess: Int[np.ndarray, " n"]) -> float:
    """Matthews' correlation of two binary labellings of a whole corpus (Matthews 1975).

    0 where either side has one label only: the score of a collapsed model.
    """
    gold, guess = np.asarray(gold, dtype=float), np.asarray(guess, dtype=float)
    both = float(gold.std() * guess.std())
    return float(((gold - gold.mean()) * (guess - guess.mean())).mean() / both) if both else 0.0
