"""Twins: which auxiliary word stands for which target word, and of which class it is."""

from __future__ import annotations

from collections.abc import Iterator

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.pairs import SequencePairs
from mechprobe.tasks.abstraction.splits import AbstractionTasks
from mechprobe.tasks.abstraction.target import Tokens

CLASSES = ("prefix", "noun", "verb", "preposition")


def twin_words(tasks: AbstractionTasks) -> dict[str, str]:
    """Token of the target task, inflected forms among them, to that of the auxiliary task.

    In lower case; read off the training lines, of which the auxiliary task has each in its own
    words, in the same places. Tokens that both tasks have are left out.

    Raises:
        InputError: lines that do not match, as in a task with a mutation of the concept.
    """
    target, auxiliary = tasks.target["train"], tasks.auxiliary["train"]
    found: dict[str, str] = {}
    for i in range(len(target)):
        lines = (target.source[i], auxiliary.source[i]), (target.target[i], auxiliary.target[i])
        for mine, theirs in lines:
            if len(mine) != len(theirs):
                raise InputError(
                    f"{target.name} line {i} ({' '.join(mine)!r}) and {auxiliary.name} line {i} "
                    f"({' '.join(theirs)!r}) differ in length; give tasks without a mutation"
                )
            for word, twin in zip(mine, theirs, strict=True):
                if found.setdefault(word.lower(), twin.lower()) != twin.lower():
                    raise InputError(
                        f"{target.name} line {i}: {word!r} stands for {twin!r} here and for "
                        f"{found[word.lower()]!r} before; give tasks without a mutation"
                    )
    return {word: twin for word, twin in found.items() if word != twin}


def twin_classes(tasks: AbstractionTasks) -> dict[str, str]:
    """Class of each target word with a twin: one of ``CLASSES``, by where the twin is written.

    A word of inputs only belongs to the prefix; a word that is only ever alone in its line is not
    classed.
    """
    auxiliary = tasks.auxiliary["train"]
    classes = written_classes(auxiliary)
    written = {token.lower() for tokens in auxiliary.target for token in tokens}
    read = {token.lower() for tokens in auxiliary.source for token in tokens}
    classes |= dict.fromkeys(read - written, "prefix")
    return {word: classes[twin] for word, twin in twin_words(tasks).items() if twin in classes}


def preposition_twins(tasks: AbstractionTasks) -> dict[str, str]:
    """Preposition of the target task to that of the auxiliary task, mutated or not."""
    classes = written_classes(tasks.target["train"])
    return {
        word: tasks.dictionary[word]
        for word, kind in classes.items() if kind == "preposition" and word in tasks.dictionary
    }


def written_classes(pairs: SequencePairs) -> dict[str, str]:
    """Class of the words of some outputs, in lower case.

    A word in front of brackets is a verb, inside other brackets a preposition; others are nouns.
    """
    return {
        word: kind for tokens in pairs.target if len(tokens) > 1 for word, kind in _classed(tokens)
    }


def _classed(target: Tokens) -> Iterator[tuple[str, str]]:
    depth = 0
    for token, after in zip(target, (*target[1:], ""), strict=True):
        depth += (token == "(") - (token == ")")
        if token[0].isalpha():
            headed = "preposition" if depth else "verb"
            yield token.lower(), headed if after == "(" else "noun"
