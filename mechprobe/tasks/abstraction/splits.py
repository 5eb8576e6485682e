"""Target, auxiliary and contrast task of one probe, as disjoint splits of sequence pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.auxiliary import Pools, auxiliary_blocks, redraw, redraw_pools
from mechprobe.tasks.abstraction.contrast import check_contrast, contrast_targets
from mechprobe.tasks.abstraction.derivation import (
    ROLES,
    Clause,
    Derivation,
    Word,
    clauses_of,
    depth_of,
    rename,
)
from mechprobe.tasks.abstraction.grammar import Frame, function_words
from mechprobe.tasks.abstraction.language import Language
from mechprobe.tasks.abstraction.lengths import matched_lines
from mechprobe.tasks.abstraction.mutations import mutated_forms
from mechprobe.tasks.abstraction.pairs import SequencePairs
from mechprobe.tasks.abstraction.sample import sample_new
from mechprobe.tasks.abstraction.target import Tokens

PROBES = ("mod", "com")


@dataclass(frozen=True)
class AbstractionTasks:
    """The tasks of one abstraction probe (An et al. 2023).

    Attributes:
        name: the card's name.
        probe: ``mod`` (a prepositional phrase on the subject is new) or ``com`` (deep embedding).
        target: splits of the target task: ``train``, ``dev`` and ``test`` (in distribution), and
            ``ood``, the generalisation test.
        auxiliary: splits of the auxiliary task: ``train`` (which has the generalisation, in other
            words), ``dev`` (in distribution) and ``ood`` (new lines with the generalisation).
        contrast: the same splits of the contrast task.
        dictionary: word of the target task's lexicon to word of the auxiliary task's.
        kept: tokens the two tasks may share.
        card: the resolved card, with the settings in force under ``card["settings"]``.
    """

    name: str
    probe: str
    target: Mapping[str, SequencePairs]
    auxiliary: Mapping[str, SequencePairs]
    contrast: Mapping[str, SequencePairs]
    dictionary: Mapping[str, str]
    kept: frozenset[str]
    card: Mapping[str, Any]

    def all_pairs(self) -> list[SequencePairs]:
        """Every split of the three tasks, to build one vocabulary from."""
        return [p for task in (self.target, self.auxiliary, self.contrast) for p in task.values()]


@dataclass(frozen=True)
class Trees:
    """The derivations behind the splits.

    Attributes:
        train, dev, test, ood: of the target task.
        blocks: of the auxiliary task's training lines that carry the generalisation.
    """

    train: Sequence[Derivation]
    dev: Sequence[Derivation]
    test: Sequence[Derivation]
    ood: Sequence[Derivation]
    blocks: Sequence[Derivation]


@dataclass(frozen=True)
class Choice:
    """Which tasks are asked for: probe, contrast kind, mutation (or None), seed and card."""

    probe: str
    contrast: str
    mutation: str | None
    seed: int
    card: Mapping[str, Any]


def check_choice(choice: Choice) -> None:
    """Raise InputError for an unknown probe, contrast or mutation."""
    if choice.probe not in PROBES:
        raise InputError(f"no probe {choice.probe!r}; expected one of {', '.join(PROBES)}")
    check_contrast(choice.contrast)
    mutated_forms(choice.mutation, ("a", "the"))


def grouper(frames: Mapping[str, Frame], probe: str) -> Callable[[Derivation], str]:
    """The function that names an example's group.

    ``word`` for a single word; for ``com`` ``depth_0``, ``depth_1`` and so on; for ``mod``
    ``subject`` (the main subject has a prepositional phrase), else ``other`` (another noun has
    one), else ``plain``.
    """

    def group(tree: Derivation) -> str:
        if isinstance(tree, Word):
            return "word"
        if probe == "com":
            return f"depth_{depth_of(tree)}"
        subject = frames[tree.frame].subject
        if subject is not None and _is_modified(tree, subject):
            return "subject"
        modified = any(_is_modified(c, role) for c in clauses_of(tree) for role in ROLES)
        return "other" if modified else "plain"

    return group


def _is_modified(clause: Clause, role: str) -> bool:
    phrase = clause.role(role)
    return phrase is not None and phrase.preposition is not None


def make_blocks(
    ood: Sequence[Derivation],
    dictionary: Mapping[str, str],
    auxiliary: Language,
    choice: Choice,
) -> list[Derivation]:
    """The auxiliary task's lines for the generalisation items; see ``auxiliary_blocks``."""
    settings, rng = choice.card["settings"], random.Random(f"{choice.seed}:blocks")
    pools = redraw_pools(auxiliary, settings["redraw"])
    return auxiliary_blocks(ood, dictionary, pools, settings["per_item"], rng)


def make_tasks(
    trees: Trees,
    target: Language,
    auxiliary: Language,
    dictionary: Mapping[str, str],
    choice: Choice,
) -> AbstractionTasks:
    """All splits of a probe's three tasks.

    Args:
        trees: the derivations.
        target: the target task's language.
        auxiliary: the auxiliary task's, without mutation.
        dictionary: from the words of one to those of the other.
        choice: what is asked for.

    Raises:
        InputError: the vocabularies overlap, or a test item is among the training items.
    """
    name, group = choice.card["name"], grouper(target.frames, choice.probe)
    pools = redraw_pools(auxiliary, choice.card["settings"]["redraw"])
    aux_trees = _auxiliary_trees(trees, auxiliary, dictionary, pools, choice.seed)
    source_form, target_form = mutated_forms(choice.mutation, function_words(target.frames))
    mutated = replace(auxiliary, source_form=source_form, target_form=target_form)
    made = {
        "target": {
            split: target.pairs(getattr(trees, split), group, f"{name}:target:{split}")
            for split in ("train", "dev", "test", "ood")
        },
        "auxiliary": {
            split: mutated.pairs(found, group, f"{name}:auxiliary:{split}")
            for split, found in aux_trees.items()
        },
        "contrast": _contrast(aux_trees, len(trees.blocks), auxiliary, pools, group, choice),
    }
    kept = kept_tokens(target, auxiliary)
    check_vocabularies(made["target"].values(), made["auxiliary"].values(), kept)
    for splits in made.values():
        for split, pairs in splits.items():
            if split != "train":
                check_leaks(splits["train"], pairs)
    return AbstractionTasks(
        name=name,
        probe=choice.probe,
        **made,
        dictionary=dictionary,
        kept=kept,
        card=choice.card,
    )


def _auxiliary_trees(
    trees: Trees, auxiliary: Language, dictionary: Mapping[str, str], pools: Pools, seed: int
) -> dict[str, list[Derivation]]:
    train = [*(rename(tree, dictionary) for tree in trees.train), *trees.blocks]
    dev = [rename(tree, dictionary) for tree in trees.dev]
    rng = random.Random(f"{seed}:auxiliary:ood")
    ood = [rename(tree, dictionary) for tree in trees.ood]
    taken = {auxiliary.source(tree) for tree in (*train, *dev)}
    where = f"auxiliary:ood, {len(ood)} redrawn items"
    fresh = sample_new(
        len(ood), lambda i: redraw(ood[i], pools, rng), auxiliary.source, taken, None, where
    )
    return {"train": train, "dev": dev, "ood": fresh}


def _contrast(
    aux_trees: Mapping[str, Sequence[Derivation]],
    n_blocks: int,
    auxiliary: Language,
    pools: Pools,
    group: Callable[[Derivation], str],
    choice: Choice,
) -> dict[str, SequencePairs]:
    made = {}
    for split, trees in aux_trees.items():
        stream = f"{choice.seed}:contrast:{split}"
        pairs = auxiliary.pairs(trees, group, f"{choice.card['name']}:contrast:{split}")
        targets = contrast_targets(choice.contrast, trees, auxiliary, stream)
        made[split] = replace(pairs, target=targets)
        if choice.contrast == "no_generalisation" and split == "train" and n_blocks:
            held_out = {
                auxiliary.source(tree) for other in ("dev", "ood") for tree in aux_trees[other]
            }
            made[split] = _without_generalisation(
                made[split], trees, n_blocks, auxiliary, pools, stream, held_out
            )
    return made


def _without_generalisation(
    pairs: SequencePairs,
    trees: Sequence[Derivation],
    n_blocks: int,
    auxiliary: Language,
    pools: Pools,
    stream: str,
    held_out: Collection[Tokens],
) -> SequencePairs:
    """The last ``n_blocks`` lines replaced by equally long ones of ordinary structure."""
    first = len(pairs) - n_blocks
    rng = random.Random(stream)
    wanted = list(zip(pairs.source[first:], pairs.target[first:], strict=True))
    lines = matched_lines(
        wanted, trees[:first], auxiliary, lambda tree: redraw(tree, pools, rng), rng, held_out
    )
    return replace(
        pairs,
        source=(*pairs.source[:first], *(source for source, _ in lines)),
        target=(*pairs.target[:first], *(target for _, target in lines)),
        group=(*pairs.group[:first], *("matched" for _ in lines)),
    )


def kept_tokens(target: Language, auxiliary: Language) -> frozenset[str]:
    """Tokens that both tasks may have: function words, brackets, links and parts of the prefix."""
    words = function_words(target.frames)
    links = [frame.link for frame in target.frames.values() if frame.link is not None]
    shared = set(target.spelling.prefix) & set(auxiliary.spelling.prefix)
    capital = [word[:1].upper() + word[1:] for word in words]
    return frozenset(
        [*words, *capital, *links, *shared, "(", ")", ",", "NONE", target.spelling.end]
    )


def check_vocabularies(
    target: Iterable[SequencePairs], auxiliary: Iterable[SequencePairs], kept: frozenset[str]
) -> None:
    """Raise InputError if the two tasks share a token, in whatever case, that is not ``kept``."""
    first, second = (
        {token.lower() for pairs in task for token in pairs.source_types() | pairs.target_types()}
        for task in (target, auxiliary)
    )
    shared = sorted(first & second - {token.lower() for token in kept})
    if shared:
        raise InputError(
            f"target and auxiliary task share {len(shared)} words, such as "
            f"{', '.join(shared[:5])}; their vocabularies must be disjoint: replace these words"
        )


def check_leaks(train: SequencePairs, test: SequencePairs) -> None:
    """Raise InputError if a source of ``test`` is among those of ``train``."""
    seen: set[Tokens] = set(train.source)
    leaks = [i for i, source in enumerate(test.source) if source in seen]
    if leaks:
        raise InputError(
            f"{len(leaks)} items of {test.name} are also in {train.name}, the first is item "
            f"{leaks[0]} ({test.source_text(leaks[0])!r}); remove them from one of the two"
        )
