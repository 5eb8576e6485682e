"""Words as ids: a vocabulary of whole tokens, for sequences that are split already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError

PAD, END, SEPARATOR = "<pad>", "</s>", "<sep>"
SPECIAL = (PAD, END, SEPARATOR)


@dataclass(frozen=True)
class WordIds:
    """One id a token.

    Attributes:
        words: the tokens by id; the first three are padding (which a decoder also starts with), the
            end of a sequence, and what stands between source and target for a decoder alone.
        fold: whether case makes no difference, so that ``dog`` and ``DOG`` are one token.
    """

    words: tuple[str, ...]
    fold: bool

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each token."""
        return {word: i for i, word in enumerate(self.words)}

    @property
    def pad(self) -> int:
        """Id that fills a batch and starts an encoder-decoder's decoder."""
        return 0

    @property
    def end(self) -> int:
        """Id behind the last token of a sequence."""
        return 1

    @property
    def separator(self) -> int:
        """Id between source and target where a decoder reads both."""
        return 2

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Ids of tokens; raises InputError for a token that is not here."""
        try:
            return [self.ids[token.lower() if self.fold else token] for token in tokens]
        except KeyError as error:
            raise InputError(
                f"token {error.args[0]!r} of {' '.join(tokens)!r} is not among the "
                f"{len(self)} of this vocabulary; build it from all the data (word_ids)"
            ) from None

    def begins_word(self, token: int) -> bool:
        """Whether a token begins a word: each does."""
        return True

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens up to the end or padding."""
        tokens = []
        for i in ids:
            if i in (self.pad, self.end):
                break
            tokens.append(self.words[i])
        return tokens


def word_ids(sequences: Iterable[Sequence[str]], *, fold: bool = True) -> WordIds:
    """The vocabulary of some sequences, in alphabetical order behind the special tokens.

    Raises:
        InputError: no tokens, or one that reads as a special token.
    """
    words = {token.lower() if fold else token for tokens in sequences for token in tokens}
    if not words or words & set(SPECIAL):
        found = ", ".join(sorted(words & set(SPECIAL)))
        raise InputError(
            f"the sequences have {f'the special token {found}' if found else 'no tokens'}; give "
            f"some without {', '.join(SPECIAL)}"
        )
    return WordIds((*SPECIAL, *sorted(words)), fold)


class PieceIds:
    """A pretrained model's word pieces behind the same names as ``WordIds``.

    Args:
        tokenizer: of Hugging Face. GPT-2's has no padding token; its end token pads too.

    Raises:
        InputError: a model without tokenizer, or one without an end token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        end = None if tokenizer is None else tokenizer.eos_token_id
        if tokenizer is None or not isinstance(end, int):
            raise InputError(
                "sequences for a pretrained model need its tokenizer, with an end token; load the "
                "model with its tokenizer files"
            )
        self._tokenizer = tokenizer
        self.end = end
        pad = tokenizer.pad_token_id
        self.pad: int = pad if isinstance(pad, int) else end
        self.separator: int = self._ids("\n")[-1] if self._ids("\n") else end

    def __len__(self) -> int:
        return len(self._tokenizer)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Ids of the tokens joined by spaces; a word has the same pieces first as later.

        GPT-2's pieces hold the space before a word, so the first one is given a space, too.
        """
        text = " ".join(tokens)
        ids = self._ids(text)
        return ids if not ids or self.begins_word(ids[0]) else self._ids(f" {text}")

    def begins_word(self, token: int) -> bool:
        """Whether a piece stands behind a space (SentencePiece's and GPT-2's marks)."""
        piece = self._tokenizer.convert_ids_to_tokens(token)
        return isinstance(piece, str) and piece.startswith(("\u2581", "\u0120"))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words up to the end or padding."""
        kept = []
        for i in ids:
            if i in (self.pad, self.end):
                break
            kept.append(i)
        return str(self._tokenizer.decode(kept)).split()
