"""Refuse settings that cannot work, before any long work starts."""

from __future__ import annotations

from pathlib import Path

import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import KINDS
from mechprobe.models.edits import HookedModel
from mechprobe.studies import option
from mechprobe.studies.abstraction.data import SetData, generic_lexicons, load_set
from mechprobe.studies.abstraction.models import pretrained
from mechprobe.studies.abstraction.settings import ADAPT, Settings, reads_files
from mechprobe.tasks.abstraction import (
    CONTRASTS,
    MUTATIONS,
    PROBES,
    AbstractionTasks,
    load_abstraction,
)
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.word_ids import PieceIds

AT_LEAST_ONE = (
    "n_sets", "n_train", "n_test", "n_ood", "per_item", "n_layers", "n_heads", "d_model", "batch",
    "auxiliary_steps", "control_steps", "finetune_steps", "point_steps", "n_heads_eval", "n_random",
    "generic_sets", "mask_seeds", "n_boot",
)
NOT_NEGATIVE = ("seed", "threads", "generic_steps", "beams", "points", "mask_steps")
ABOVE_ZERO = ("auxiliary_lr", "control_lr", "finetune_lr", "finetune_embedding_lr", "embedding_lr")


def check(settings: Settings) -> None:
    """Raise InputError for the first setting that cannot work, saying what to give instead."""
    check_numbers(settings)
    check_names(settings)
    check_model(settings)
    if settings.data_dir is not None and not Path(settings.data_dir).expanduser().is_dir():
        raise InputError(
            f"no data folder {settings.data_dir}; give --data-dir an existing folder with the "
            "released files"
        )
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); "
            "give --device cpu, or a GPU that torch sees"
        ) from None


def check_inputs(settings: Settings) -> list[AbstractionTasks]:
    """Open the pretrained model, to throw it away, and make the first set's tasks.

    Where sets have files of their own, the tasks of all sets; else they have the card and other
    seeds, and it is enough that the card makes words for the last of them.

    So a missing model or tokenizer, a card that does not parse, words that overlap and test items
    that leak show before any long work. A dry run does without.
    """
    model = None if settings.model is None else pretrained(settings)
    check_words(settings)
    sets = [load_set(settings, i) for i in range(settings.n_sets if reads_files(settings) else 1)]
    if model is not None:
        check_length(settings, model, sets[0])
    return sets


def check_words(settings: Settings) -> None:
    """Raise InputError unless every set and generic pretraining can have words of their own."""
    if read_card(settings.card)["kind"] == "grammar":
        sets = [settings.n_sets]
        if settings.generic_steps:
            sets += generic_lexicons(settings, settings.n_sets - 1)
        few = dict.fromkeys(("n_words", "n_dev", "n_test", "n_ood"), 0)
        load_abstraction(settings.card, lexicon_set=max(sets), n_train=1, **few)
    elif settings.generic_steps:
        raise InputError(
            f"--generic-steps is {settings.generic_steps}, and {settings.card} has no vocabularies "
            "beyond those of its files; give 0, or a grammar such as --card abstraction/full"
        )


def check_length(settings: Settings, model: HookedModel, tasks: AbstractionTasks) -> None:
    """Raise InputError for a model without tokenizer, or a decoder too short for the pairs."""
    data = SetData(tasks, PieceIds(model.tokenizer), settings.arch == "decoder", None)
    if not data.decoder_only:
        return  # relative positions have no end
    longest = max(sum(data.rows(pairs).longest) for pairs in tasks.all_pairs()) + 1
    if longest > model.cfg.n_ctx:
        raise InputError(
            f"{settings.model} reads {model.cfg.n_ctx} word pieces, and a pair of {settings.card} "
            f"may have {longest}; give a model that reads more, or another --card or --probe"
        )


def check_numbers(settings: Settings) -> None:
    """Raise InputError for the first number out of its range."""
    for name in AT_LEAST_ONE:
        if getattr(settings, name) < 1:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 1 or more")
    for name in NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give 0 or more")
    for name in ABOVE_ZERO:
        if not getattr(settings, name) > 0:
            raise InputError(f"{option(name)} is {getattr(settings, name)}; give more than 0")
    if not 0 <= settings.label_smoothing < 1 or not 0 <= settings.warmup <= 1:
        raise InputError(
            f"--label-smoothing is {settings.label_smoothing}, --warmup {settings.warmup}; give "
            "shares, 0 to below 1 and 0 to 1"
        )
    if settings.n_heads_eval < 4:
        raise InputError(f"--n-heads-eval is {settings.n_heads_eval}; give 4 or more, half of "
                         "them rank heads and half are reported")


def check_names(settings: Settings) -> None:
    """Raise InputError for the first name that nothing here has, or that is given twice."""
    known = {
        "probe": PROBES, "contrast": CONTRASTS, "arch": ("decoder", "encoder-decoder"),
        "positions": ("rotary", "standard"), "redraw": ("any", "frame"),
    }
    for name, names in known.items():
        if getattr(settings, name) not in names:
            raise InputError(
                f"{option(name)} is {getattr(settings, name)!r}; one of {', '.join(names)}"
            )
    kinds = [kind for kind in KINDS if kind != "paired"]
    for name, names, least in (
        ("adapt", list(ADAPT), 1), ("baselines", kinds, 1), ("mutations", list(MUTATIONS), 0)
    ):
        given = getattr(settings, name)
        strange = [one for one in given if one not in names]
        if strange or len(given) < least or len(set(given)) < len(given):
            raise InputError(
                f"{option(name)} is {' '.join(given) or 'empty'!s}; give each at most once, of "
                f"{', '.join(names)}"
            )
    by_word = [how for how in ("words", "content") if how in settings.adapt]
    if settings.model is not None and by_word:
        raise InputError(
            f"--adapt {by_word[0]} needs one token a word, and {settings.model} has word pieces; "
            "give --adapt full frozen"
        )
    if "content" in settings.adapt and not settings.fold_case:
        raise InputError("--adapt content needs one token a word in any case; leave out "
                         "--no-fold-case, or give --adapt full words")
    if settings.constrained and not settings.beams:
        raise InputError("--constrained is for beam search; give --beams, such as --beams 5")


def check_model(settings: Settings) -> None:
    """Raise InputError for a model that cannot be built, or a folder that is not there."""
    if settings.model is not None:
        local = settings.model.startswith((".", "/", "~"))
        if local and not Path(settings.model).expanduser().is_dir():
            raise InputError(
                f"no model folder {settings.model}; give a folder that save_pretrained or "
                "mechprobe wrote, or a hub name"
            )
        return
    if settings.d_model % settings.n_heads:
        raise InputError(
            f"d_model {settings.d_model} is not a multiple of n_heads {settings.n_heads}"
        )
    rotary = settings.arch == "decoder" and settings.positions == "rotary"
    if rotary and settings.d_model // settings.n_heads % 2:
        raise InputError(
            f"rotary positions need heads of even width; {settings.d_model} over "
            f"{settings.n_heads} heads is {settings.d_model // settings.n_heads}"
        )
