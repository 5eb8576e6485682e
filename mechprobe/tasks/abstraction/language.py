"""A language: words, spelling and the two realisers that turn derivations into sequence pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mechprobe.tasks.abstraction.derivation import Derivation
from mechprobe.tasks.abstraction.grammar import Frame, Lexicon
from mechprobe.tasks.abstraction.pairs import SequencePairs
from mechprobe.tasks.abstraction.sentence import SourceForm, Spelling, realise_source
from mechprobe.tasks.abstraction.target import TargetForm, Tokens, realise_target


@dataclass(frozen=True)
class Language:
    """How derivations over one vocabulary are written down.

    Attributes:
        frames: the grammar's frames by name.
        lexicon: the words.
        spelling: prefix, capitals and last token of a sentence.
        source_form: word order and function words of the source.
        target_form: order and brackets of the target.
    """

    frames: Mapping[str, Frame]
    lexicon: Lexicon
    spelling: Spelling
    source_form: SourceForm
    target_form: TargetForm

    def source(self, tree: Derivation) -> Tokens:
        """The sentence of a derivation."""
        return realise_source(tree, self.frames, self.lexicon, self.spelling, self.source_form)

    def target(self, tree: Derivation) -> Tokens:
        """The target of a derivation."""
        return realise_target(tree, self.target_form)

    def pairs(
        self, trees: Sequence[Derivation], group: Callable[[Derivation], str], name: str
    ) -> SequencePairs:
        """Source, target and sub-case of each derivation."""
        return SequencePairs(
            source=tuple(map(self.source, trees)),
            target=tuple(map(self.target, trees)),
            group=tuple(map(group, trees)),
            name=name,
        )
