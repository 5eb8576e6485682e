"""Finds a task card, settles its settings, and loads its data."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.card_keys import check_keys
from mechprobe.tasks.examples import PairExamples, Task
from mechprobe.tasks.generate import generate_splits
from mechprobe.tasks.language import LanguageTask

_KINDS = {
    "templates": ("labels", "words", "group", "content", "overlap_label", "new_word_label"),
    "files": ("labels", "sources", "splits"),
    "grammar": ("nouns", "prepositions", "phrases", "verbs", "frame", "auxiliary"),
    "grammar-files": ("grammar", "files"),
    "minimal-pairs": ("words", "paradigm", "frame", "settings"),
    "language": ("form", "source"),
}
_NO_TASKS = ("grammars/", "minimal_pairs/")  # read by other doors than load_task


def card_folder() -> Path:
    """Where the cards are: inside an installed package, or ``tasks/`` of a source checkout."""
    installed = Path(__file__).parent / "cards"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "tasks"


def list_tasks() -> list[str]:
    """Names of the cards that come with mechprobe, grammars and minimal pairs apart."""
    folder = card_folder()
    names = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.toml"))
    return sorted(name for name in names if not name.startswith(_NO_TASKS))


def load_task(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    **settings: Any,
) -> Task | LanguageTask:
    """Load a task from its card: sentence pairs, or prompts for language models.

    Args:
        name_or_path: card name (see ``list_tasks``), or path of a ``.toml`` file.
        data_dir: folder with local copies of the card's files; without it they come from the
            Hugging Face hub. Template and language cards need neither.
        seed: decides generated examples, and which rows are drawn from files.
        settings: override the card's ``[settings]``.

    Raises:
        InputError: unknown card or setting, unreadable card, missing file, wrong columns, or a
            label the card does not know.
    """
    card = read_card(name_or_path)
    if card["kind"] != "language":
        return load_pairs(name_or_path, data_dir=data_dir, seed=seed, **settings)
    return LanguageTask(card["name"], resolve_card(card, settings), seed)


def load_pairs(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    **settings: Any,
) -> Task:
    """``load_task`` of a card that must hold sentence pairs; raises InputError as it does."""
    card = read_card(name_or_path)
    if card["kind"].startswith("grammar"):
        raise InputError(
            f"card {card['name']} holds a grammar, not labelled pairs; load it with "
            "mechprobe.load_abstraction"
        )
    if card["kind"] == "language":
        raise InputError(
            f"card {card['name']} holds prompts for language models, not labelled pairs; load it "
            "with mechprobe.load_task"
        )
    if card["kind"] == "minimal-pairs":
        raise InputError(
            f"card {card['name']} holds minimal pairs, not labelled ones; load it with "
            "mechprobe.tasks.pair_templates.generate_minimal_pairs"
        )
    own = str(name_or_path).endswith(".toml")  # our cards say "at most", and are mostly above it
    asked = set(card.get("settings", ())) if own else set(settings)
    card = resolve_card(card, settings)
    card["settings"]["seed"] = seed
    splits: Mapping[str, PairExamples]
    if card["kind"] == "templates":
        splits = generate_splits(card, seed)
    else:
        from mechprobe.tasks.mixing import mix_splits

        folder = None if data_dir is None else Path(data_dir).expanduser()
        splits = mix_splits(card, folder, seed, asked)
    return Task(
        name=card["name"],
        labels=tuple(card["labels"]),
        splits=splits,
        collapse={k: tuple(v) for k, v in card.get("collapse", {}).items()},
        card=card,
    )


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """A card as written, with its ``name``; raises InputError where it cannot be read."""
    text = str(name_or_path)
    if text.endswith(".toml"):
        path, name = Path(text).expanduser(), Path(text).stem
        if not path.is_file():
            raise InputError(f"no card at {text}; give the path of a .toml file or a card name")
    else:
        path, name = card_folder() / f"{text}.toml", text
        other = text.startswith(_NO_TASKS) and path.is_file()
        if not other and text not in list_tasks():
            near = difflib.get_close_matches(text, list_tasks(), n=3, cutoff=0.0)
            raise InputError(
                f"no task card {text!r}; nearest: {', '.join(near)}; all: {', '.join(list_tasks())}"
            )
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"card {text} is not valid TOML: {error}; mend that line") from error
    except UnicodeDecodeError as error:
        raise InputError(f"card {text} is not UTF-8 text: {error}; save it as UTF-8") from error
    _check(card, name)
    return {**card, "name": name}


def _check(card: Mapping[str, Any], name: str) -> None:
    kind = card.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(f"card {name} has kind {kind!r}; expected one of {', '.join(_KINDS)}")
    check_keys(card, name)
    missing = [key for key in _KINDS[kind] if key not in card]
    if missing:
        raise InputError(
            f"card {name} of kind {kind!r} lacks {', '.join(missing)}; add it to the card"
        )


def resolve_card(card: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The card with ``settings`` put over its own; raises InputError for an unknown one."""
    defaults = dict(card.get("settings", {}))
    for key, value in settings.items():
        if key not in defaults:
            raise InputError(
                f"card {card['name']} has no setting {key!r}; it has {', '.join(defaults)}"
            )
        defaults[key] = _as_default(card["name"], key, value, defaults[key])
    return {**card, "settings": defaults}


def _as_default(name: str, key: str, value: Any, default: Any) -> Any:
    """``value`` if it has the type of the card's own value, else an InputError."""
    match default:
        case bool():
            good, expected = isinstance(value, bool), "true or false"
        case int():
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            expected = "a whole number, 0 or more"
        case float():
            good = isinstance(value, int | float) and not isinstance(value, bool)
            expected = "a number"
        case list():
            good, expected = isinstance(value, list | tuple), "a list"
            value = list(value) if good else value
        case _:
            good, expected = isinstance(value, str), "text"
    if not good:
        raise InputError(f"card {name}: setting {key}={value!r}; expected {expected}")
    return value
