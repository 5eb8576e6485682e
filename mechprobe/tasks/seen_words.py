"""Which tokens may come next so that only whole words of a vocabulary are written.

For word pieces, as An et al. (2023) constrain decoding: pieces may not join into words that no
training target has. With one token a word nothing can be misspelt, and only unseen words are shut
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mechprobe.tasks.seq2seq_rows import SequenceRows
from mechprobe.tasks.word_ids import PieceIds, WordIds

Word: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class SeenWords:
    """The words of some sequences, as pieces.

    Attributes:
        following: for each beginning of a word (not empty), the pieces that go on with it.
        whole: the words.
        first: the pieces that begin a word, or a sequence.
        ids: the vocabulary, which knows which pieces begin words.
    """

    following: dict[Word, frozenset[int]]
    whole: frozenset[Word]
    first: frozenset[int]
    ids: WordIds | PieceIds

    @staticmethod
    def of_targets(rows: SequenceRows) -> SeenWords:
        """The words of the targets of encoded pairs."""
        words = {word for target in rows.targets for word in split_words(target, rows.words)}
        following: dict[Word, set[int]] = {}
        for word in words:
            for i in range(1, len(word)):
                following.setdefault(word[:i], set()).add(word[i])
        return SeenWords(
            {start: frozenset(next_) for start, next_ in following.items()}, frozenset(words),
            frozenset(word[0] for word in words), rows.words,
        )

    def allowed(self, written: Sequence[int]) -> frozenset[int]:
        """The tokens that may follow: the rest of a word, and behind a whole word any other's."""
        if not written:
            return self.first
        word = last_word(written, self.ids)
        inside = self.following.get(word, frozenset())
        return inside | self.first | {self.ids.end} if word in self.whole else inside


def split_words(tokens: Iterable[int], ids: WordIds | PieceIds) -> Iterable[Word]:
    """The pieces of each word of a sequence."""
    word: list[int] = []
    for token in tokens:
        if word and ids.begins_word(token):
            yield tuple(word)
            word = []
        word.append(token)
    if word:
        yield tuple(word)


def last_word(tokens: Sequence[int], ids: WordIds | PieceIds) -> Word:
    """The pieces of the last word of a sequence, found from its end."""
    start = len(tokens) - 1
    while start > 0 and not ids.begins_word(tokens[start]):
        start -= 1
    return tuple(tokens[start:])
