"""The released data of An et al. (2023), read back into derivations.

The files of microsoft/ContextualSP (folder abstraction_probing) and of COGS, whose sentences they
are. In distribution the target task has held-out items of COGS, converted. What is held out has
only words of the training items, also where these are drawn from the files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.auxiliary import translate_lexicon
from mechprobe.tasks.abstraction.cogs import cogs_lexicon, read_cogs, target_of
from mechprobe.tasks.abstraction.derivation import Derivation, rename
from mechprobe.tasks.abstraction.generate import check_settings
from mechprobe.tasks.abstraction.grammar import Frame, Lexicon
from mechprobe.tasks.abstraction.grammar_card import check_shape, read_frames
from mechprobe.tasks.abstraction.language import Language
from mechprobe.tasks.abstraction.parse import SentenceReader
from mechprobe.tasks.abstraction.sentence import SourceForm, Spelling
from mechprobe.tasks.abstraction.splits import (
    AbstractionTasks,
    Choice,
    Trees,
    make_blocks,
    make_tasks,
)
from mechprobe.tasks.abstraction.target import TargetForm, Tokens
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.files import find_file, read_fields

_SETTINGS: Mapping[str, type] = {
    **dict.fromkeys(("n_train", "n_dev", "n_test", "n_ood", "per_item"), int),
    **dict.fromkeys(("prefix", "auxiliary_prefix", "redraw"), str),
}

Pair = tuple[Tokens, Tokens]


def released_tasks(
    card: Mapping[str, Any], data_dir: Path | None, lexicon_set: int, choice: Choice
) -> AbstractionTasks:
    """The tasks of the released files.

    Where the auxiliary file of a probe is not there, its lines for the generalisation items are
    made anew from the dictionary.

    Raises:
        InputError: no ``data_dir``, a missing file, or a pair that does not fit the grammar.
    """
    folder = _check(card, data_dir, choice.probe)
    frames, settings = read_frames(read_card(card["grammar"])), card["settings"]
    cogs = {split: read_cogs(_find(card, folder, split)) for split in ("cogs_train", "dev", "test")}
    every_word = cogs_lexicon(row for rows in cogs.values() for row in rows)
    words = read_dictionary(_find(card, folder, "dictionary"), lexicon_set, every_word)
    lexicon = every_word.only(words.keys())
    target = _language(frames, lexicon, Spelling(tuple(settings["prefix"].split())))
    auxiliary = _language(
        frames,
        translate_lexicon(lexicon, words),
        Spelling(tuple(settings["auxiliary_prefix"].split()), capital_words=True),
    )
    lines = {
        "train": read_pairs(_find(card, folder, "train")),
        "ood": read_pairs(_find(card, folder, f"{choice.probe}_test")),
    }
    known = {token for source, _ in lines["train"] for token in source}
    lines |= {split: _converted(cogs[split], target, known) for split in ("dev", "test")}
    trees = {split: _trees(pairs, target) for split, pairs in lines.items()}
    key = f"{choice.probe}_auxiliary"
    if key in card["files"]:
        path = _find(card, folder, key, lexicon_set)
        blocks = _read_blocks(path, trees, words, auxiliary)
    else:
        blocks = make_blocks(trees["ood"], words, auxiliary, choice)
    part = _part(trees, blocks, settings, choice.seed, target.source)
    return make_tasks(part, target, auxiliary, words, choice)


def _check(card: Mapping[str, Any], data_dir: Path | None, probe: str) -> Path:
    """The data folder, if it is given and the card names the files that are needed."""
    check_shape(card, {"files": "table of words"})
    check_settings(card, _SETTINGS)
    files = card["files"]
    needed = ("train", f"{probe}_test", "dictionary", "cogs_train", "dev", "test")
    missing = [key for key in needed if key not in files]
    if missing:
        raise InputError(
            f"card {card['name']}: [files] lacks {', '.join(missing)}; add the file's name"
        )
    if data_dir is None:
        raise InputError(
            f"card {card['name']} reads local files and has no copy on the hub; give data_dir, a "
            f"folder with {', '.join(files.values())}"
        )
    return data_dir


def _read_blocks(
    path: Path,
    trees: Mapping[str, Sequence[Derivation]],
    words: Mapping[str, str],
    auxiliary: Language,
) -> list[Derivation]:
    """The auxiliary file's lines behind the translated training lines, which are checked."""
    pairs = read_pairs(path)
    translated = [rename(tree, words) for tree in trees["train"]]
    for number, (tree, pair) in enumerate(zip(translated, pairs, strict=False), 1):
        if (auxiliary.source(tree), auxiliary.target(tree)) != pair:
            raise InputError(
                f"{path.name} line {number} ({' '.join(pair[0])!r}) is not the translation of that "
                "training line; check that the files and the dictionary belong together"
            )
    rest = len(pairs) - len(translated)
    if rest <= 0 or rest % max(len(trees["ood"]), 1):
        raise InputError(
            f"{path.name} has {len(pairs)} lines; expected {len(translated)} and equally many for "
            f"each of {len(trees['ood'])} test items"
        )
    return _trees(pairs[len(translated) :], auxiliary)


def read_pairs(path: Path) -> list[Pair]:
    """Input and output of each line of a JSON-lines file with these fields, as tokens."""
    pairs = []
    for number, fields in read_fields(path, None, False):
        if not {"input", "output"} <= fields.keys():
            raise InputError(
                f"{path.name} line {number} has {', '.join(map(str, fields))}; expected input and "
                "output"
            )
        pairs.append((tuple(fields["input"].split()), tuple(fields["output"].split())))
    return pairs


def read_dictionary(path: Path, lexicon_set: int, lexicon: Lexicon) -> dict[str, str]:
    """Word to auxiliary word, in lower case, from the file of recovered dictionaries.

    Words of ``lexicon`` may be missing in it, but no preposition.
    """
    (_, content), *_ = read_fields(path, None, False)
    maps = content.get("output", {})
    if f"set{lexicon_set}" not in maps:
        raise InputError(
            f"{path.name} has no set {lexicon_set}; it has {', '.join(maps) or 'no sets'}"
        )
    words = {k.lower(): v.lower() for k, v in maps[f"set{lexicon_set}"].items()}
    missing = [p for p in lexicon.prepositions if p not in words]
    if missing:
        raise InputError(f"{path.name} has no word for {', '.join(missing)}; add it")
    return words


def _find(card: Mapping[str, Any], data_dir: Path, key: str, lexicon_set: int = 1) -> Path:
    name = card["files"][key].replace("{set}", str(lexicon_set))
    return find_file(data_dir, name, card["name"])


def _language(frames: Mapping[str, Frame], lexicon: Lexicon, spelling: Spelling) -> Language:
    return Language(frames, lexicon, spelling, SourceForm(), TargetForm())


def _converted(rows: Iterable[tuple[str, str]], target: Language, known: set[str]) -> list[Pair]:
    """COGS items as pairs; those with a word that no training source has are left out."""
    pairs = [
        ((*target.spelling.prefix, *sentence.split()), target_of(form)) for sentence, form in rows
    ]
    return [(source, output) for source, output in pairs if known.issuperset(source)]


def _trees(pairs: Sequence[Pair], language: Language) -> list[Derivation]:
    reader = SentenceReader(language.frames, language.lexicon, language.spelling, any_frame=True)
    return [reader.read_pair(source, target) for source, target in pairs]


def _part(
    trees: Mapping[str, Sequence[Derivation]],
    blocks: Sequence[Derivation],
    settings: Mapping[str, Any],
    seed: int,
    source: Callable[[Derivation], Tokens],
) -> Trees:
    """At most as many items as the settings say, in the files' order; blocks follow their items.

    Held out are items whose words, as ``source`` writes them, are all among the training items'.
    """
    rows = {"train": _drawn(range(len(trees["train"])), settings["n_train"], f"{seed}:train")}
    known = {token for i in rows["train"] for token in source(trees["train"][i])}
    for split in ("dev", "test", "ood"):
        fit = [i for i, tree in enumerate(trees[split]) if known.issuperset(source(tree))]
        if not fit and settings[f"n_{split}"]:
            raise InputError(
                f"no item of {split} has only words of the {len(rows['train'])} training items; "
                f"train on more (n_train, up to {len(trees['train'])})"
            )
        rows[split] = _drawn(fit, settings[f"n_{split}"], f"{seed}:{split}")
    per_item = len(blocks) // max(len(trees["ood"]), 1)
    kept = [blocks[i * per_item + k] for i in rows["ood"] for k in range(per_item)]
    return Trees(**{s: [trees[s][i] for i in found] for s, found in rows.items()}, blocks=kept)


def _drawn(rows: Sequence[int], n: int, seed: str) -> list[int]:
    """At most ``n`` of some rows, in their order."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled[:n])
