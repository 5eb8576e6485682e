"""A card of prompts for language models, made into a behaviour by a model's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from mechprobe.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mechprobe.tasks.behaviour import Behaviour, Metric
else:  # reading a card loads neither torch nor transformers
    PreTrainedTokenizerBase: TypeAlias = Any
    Behaviour: TypeAlias = Any
    Metric: TypeAlias = Any

FORMS = {
    "ioi": ("templates", "names", "places", "objects"),
    "greater-than": ("templates", "nouns", "centuries"),
    "induction": (),
    "names": ("templates", "names", "who", "places"),
}
"""What a card of each form must hold."""
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class ExpectedHeads:
    """The heads that the literature names for a model, by their part in the behaviour.

    Attributes:
        model: its name.
        source: who named them.
        heads: names of parts to heads such as "9.9".
    """

    model: str
    source: str
    heads: Mapping[str, tuple[str, ...]]

    def all(self) -> list[str]:
        """Every head, once."""
        return list(dict.fromkeys(head for part in self.heads.values() for head in part))


@dataclass(frozen=True)
class LanguageTask:
    """A behaviour of language models, as its card describes it (``tasks/behaviours``).

    Attributes:
        name: of the card.
        card: what it holds, settings resolved.
        seed: decides which examples are drawn.

    Raises:
        InputError: a card of an unknown form, or one that lacks something.
    """

    name: str
    card: Mapping[str, Any]
    seed: int = 0

    def __post_init__(self) -> None:
        form = self.card.get("form")
        if form not in FORMS:
            raise InputError(
                f"card {self.name} has form {form!r}; expected one of {', '.join(FORMS)}"
            )
        if missing := [key for key in (*FORMS[form], "settings") if not self.card.get(key)]:
            raise InputError(
                f"card {self.name} of form {form!r} lacks {', '.join(missing)}; add it to the card"
            )

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        split: str = "dev",
        *,
        d_vocab: int | None = None,
    ) -> Behaviour:
        """The behaviour under a model's tokenizer: clean and corrupt prompts of equal length.

        Its target "chance" is how often a guess would be right, [n, 1]; ``success`` says what is
        right.

        Args:
            tokenizer: the model's own; only "induction", whose tokens are random, does without.
            split: "train", "dev" or "test"; the same examples every time, others in each.
            d_vocab: how many tokens the model knows, when there is no tokenizer.

        Raises:
            InputError: an unknown split, no tokenizer, or one that cuts the card's words into
                pieces that the behaviour cannot be asked with.
        """
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; {self.name} has {', '.join(SPLITS)}")
        if tokenizer is None and self.card["form"] != "induction":
            raise InputError(
                f"{self.name} is text and the model has no tokenizer; load it with tokenizer=..."
            )
        found = self._room().draw(self, tokenizer, split, d_vocab)
        assert isinstance(found, _behaviour())
        return found

    @property
    def success(self) -> tuple[str, Metric]:
        """Name and function of the metric that is 1 where the model is right and 0 where not."""
        return self._room().SUCCESS

    def expected(
        self, architecture: str | None, shape: tuple[int, int, int]
    ) -> list[ExpectedHeads]:
        """What the literature expects of a model of this architecture and size.

        Args:
            architecture: its Hugging Face class.
            shape: layers, heads a layer, d_model.
        """
        return [
            ExpectedHeads(
                entry["model"], entry["source"], {k: tuple(v) for k, v in entry["heads"].items()}
            )
            for entry in self.card.get("expected", ())
            if entry["architecture"] == architecture and tuple(entry["shape"]) == shape
        ]

    def seeds(self, split: str, stream: int = 0) -> list[int]:
        """A seed for NumPy that depends on the task's seed, the split and a stream's number."""
        return [self.seed, 1 + SPLITS.index(split), stream]

    def _room(self) -> Any:
        name = {"greater-than": "greater_than"}.get(self.card["form"], self.card["form"])
        return import_module(f"mechprobe.tasks.language.{name}")


def _behaviour() -> type:
    return import_module("mechprobe.tasks.behaviour").Behaviour
