"""The auxiliary task: the same derivations in other words, and what training data lacks.

An et al. (2023): the target task's training lines, translated word by word through one dictionary,
and for each of its generalisation items ten lines with that item's structure.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import Derivation, map_words, rename
from mechprobe.tasks.abstraction.grammar import FORMS, Lexicon
from mechprobe.tasks.abstraction.language import Language

_TRIES = 1000
REDRAWS = ("any", "frame")


@dataclass(frozen=True)
class Pools:
    """What words are redrawn from.

    Attributes:
        nouns: nouns and names together.
        verbs: for each frame, the verbs that are drawn there.
    """

    nouns: tuple[str, ...]
    verbs: Mapping[str, tuple[str, ...]]


def redraw_pools(language: Language, kind: str) -> Pools:
    """The words of a language to redraw from.

    With ``kind`` ``"any"`` every verb may come into every frame, as in the released data; the
    frame, and so who is agent, is then not always to be told from the sentence. With ``"frame"``
    only the verbs of the frame's class do.
    """
    if kind not in REDRAWS:
        raise InputError(f"redraw={kind!r}; expected one of {', '.join(REDRAWS)}")
    missing = [f.verbs for f in language.frames.values() if f.verbs not in language.lexicon.verbs]
    if kind == "frame" and missing:
        raise InputError(f"redraw='frame', but no verbs are known as {missing[0]}; choose 'any'")
    lexicon, every = language.lexicon, tuple(language.lexicon.all_verbs())
    verbs = {
        name: every if kind == "any" else lexicon.verbs[frame.verbs]
        for name, frame in language.frames.items()
    }
    return Pools(tuple(lexicon.all_nouns()), verbs)


def nonce_dictionary(
    lexicon: Lexicon, auxiliary: Mapping[str, Any], reserved: Sequence[str], lexicon_set: int
) -> dict[str, str]:
    """Word to auxiliary word: an invented one for each noun, name and verb.

    Dictionaries of different ``lexicon_set`` (from 1) share no invented word, and none has a word
    of ``reserved``. Prepositions follow the card's ``[auxiliary.prepositions]``.
    """
    words = [*lexicon.all_nouns(), *lexicon.all_verbs()]
    prepositions = {p: str(auxiliary["prepositions"].get(p, "")) for p in lexicon.prepositions}
    avoid = {*words, *reserved, *prepositions, *prepositions.values()}
    avoid.update(text for forms in lexicon.forms.values() for text in forms.values())
    others = Counter(prepositions.values())
    clash = [
        p for p, other in prepositions.items()
        if not other or other in {*words, *reserved} or others[other] > 1
    ]
    if clash:
        raise InputError(
            f"[auxiliary.prepositions] gives {clash[0]!r} the word "
            f"{prepositions[clash[0]]!r}; expected a word that is used nowhere else in the card"
        )
    invented = _invent(len(words) * lexicon_set, auxiliary["syllables"], avoid)
    return {**dict(zip(words, invented[-len(words) :], strict=True)), **prepositions}


def _invent(n: int, syllables: Mapping[str, Sequence[str]], avoid: set[str]) -> list[str]:
    """``n`` different words of one to three syllables; a longer list begins with a shorter one."""
    rng = random.Random("invented words")
    words: dict[str, None] = {}
    while len(words) < n:
        for _ in range(_TRIES):
            parts = [
                rng.choice(syllables["onsets"]) + rng.choice(syllables["vowels"])
                for _ in range(rng.choice((1, 2, 2, 3)))
            ]
            word = "".join(parts) + rng.choice(syllables["codas"])
            if word not in words and word not in avoid:
                break
        else:
            raise InputError(
                f"[auxiliary.syllables] make only {len(words)} different words, {n} are needed; "
                "add onsets, vowels or codas"
            )
        words[word] = None
    return list(words)


def translate_lexicon(lexicon: Lexicon, words: Mapping[str, str]) -> Lexicon:
    """The auxiliary lexicon: no names, and one form for all inflections of a verb."""
    return Lexicon(
        nouns={name: tuple(words[w] for w in nouns) for name, nouns in lexicon.nouns.items()},
        names=frozenset(),
        written={},
        verbs={name: tuple(words[w] for w in verbs) for name, verbs in lexicon.verbs.items()},
        forms={words[verb]: dict.fromkeys(FORMS, words[verb]) for verb in lexicon.forms},
        prepositions={words[p]: nouns for p, nouns in lexicon.prepositions.items()},
    )


def redraw(tree: Derivation, pools: Pools, rng: random.Random) -> Derivation:
    """The same structure, every noun and verb drawn again, uniformly and with replacement."""
    return map_words(
        tree,
        lambda _: rng.choice(pools.nouns),
        lambda c: rng.choice(pools.verbs[c.frame]),
        lambda p: p,
    )


def auxiliary_blocks(
    items: Sequence[Derivation],
    words: Mapping[str, str],
    pools: Pools,
    per_item: int,
    rng: random.Random,
) -> list[Derivation]:
    """For each item its translation, then ``per_item`` - 1 lines with its words redrawn."""
    blocks: list[Derivation] = []
    for item in items:
        exact = rename(item, words)
        blocks += [exact, *(redraw(exact, pools, rng) for _ in range(per_item - 1))]
    return blocks
