"""The study's pairs, text and models: generated, read or trained, as points of training."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.load import load_model
from mechprobe.runs import Run
from mechprobe.runs.files import read_arrays
from mechprobe.runs.inputs import card_inputs, digest_of, digest_of_file
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.blimp import HUB, load_blimp
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.corpus import corpus_files, read_sentences
from mechprobe.tasks.minimal_pairs import MinimalPairs
from mechprobe.tasks.pair_templates import ENGLISH, generate_minimal_pairs, generate_text
from mechprobe.tasks.pair_tokens import EncodedPairs, encode_minimal_pairs
from mechprobe.training.perplexity import text_rows
from mechprobe.training.pretrain import HELD_OUT, pretrain_text
from mechprobe.training.pretrain_settings import PretrainSettings

PARTS = ("tune", "validate", "evaluate")


@dataclass(frozen=True)
class Point:
    """A point of training of one model: its name, step (-1: finished elsewhere) and place."""

    model: str
    step: int
    source: str
    whole: bool

    @property
    def name(self) -> str:
        """A name for units and files."""
        return self.model if self.step < 0 else f"{self.model}-step-{self.step}"


@dataclass(frozen=True)
class Encodings:
    """The parts of the minimal pairs in a model's tokens.

    Attributes:
        tune, validate, evaluate: at most as many pairs of each as the settings say.
        whole: every pair of the evaluation part, which only the untuned model is scored on.
    """

    tune: EncodedPairs
    validate: EncodedPairs
    evaluate: EncodedPairs
    whole: EncodedPairs


def load_pairs(settings: Settings) -> MinimalPairs:
    """The minimal pairs of the run."""
    if settings.pairs == "own":
        pairs = generate_minimal_pairs(n_pairs=settings.n_pairs, seed=settings.seed)
        return pairs.choose(settings.paradigms)
    return load_blimp(settings.data_dir or HUB, paradigms=settings.paradigms)


def inputs(settings: Settings, pairs: MinimalPairs) -> dict[str, Any]:
    """Digests of every paradigm's pairs and of the text files; of own pairs also their card."""
    card = card_inputs(read_card(ENGLISH)) if settings.pairs == "own" else {}
    found = {f"pairs {p.name}": digest_of(p.good, p.bad) for p in pairs}
    text = {
        f"text {i} {path.name}": digest_of_file(path)
        for i, path in enumerate(text_files(settings), 1)
    }
    return card | found | text


def text_files(settings: Settings) -> list[Path]:
    """The files of --text, or of text/ in the data folder; none where sentences are generated.

    Raises:
        InputError: there is no text to train on.
    """
    place = Path(settings.data_dir or ".") / "text"
    if settings.text:
        return corpus_files(settings.text)
    generated = settings.pairs == "own" and not settings.models
    if generated or (settings.models and not (settings.data_dir and place.is_dir())):
        return []
    return corpus_files([place])


def training_text(settings: Settings, pairs: MinimalPairs) -> list[str]:
    """Sentences to train on; none of the tuning, validation or evaluation pairs is among them."""
    held = {s for part in PARTS for p in pairs.part(part) for s in (*p.good, *p.bad)}
    if settings.pairs == "own" and not settings.text:
        return generate_text(n=settings.n_text, seed=settings.seed, avoid=held)
    files = text_files(settings)
    return [s for s in read_sentences(files, limit=settings.file_limit or None) if s not in held]


def shuffled_text(settings: Settings, pairs: MinimalPairs) -> list[str]:
    """The training text in the order in which it is trained on."""
    text = training_text(settings, pairs)
    random.Random(settings.seed).shuffle(text)
    return text


def train_model(settings: Settings, pairs: MinimalPairs, run: Run, size: str) -> dict:
    """Train (or go on training) a model of a size in a run folder of its own; a unit of the run."""
    text = shuffled_text(settings, pairs)
    config = {"study": "pretrain", "size": size, "seed": settings.seed}
    with Run.open(run.owned(f"lm-{size}"), config) as own:
        done = pretrain_text(pretraining(settings, size), text, own)
    return {"steps": done.steps, "perplexity": done.perplexity.to_dict("list")}


def pretraining(settings: Settings, size: str) -> PretrainSettings:
    """The settings of training one model."""
    return PretrainSettings(
        text=("the study's",), size=size, vocabulary=settings.vocabulary,
        n_vocabulary=settings.n_vocabulary, n_ctx=settings.n_ctx, batch=settings.train_batch,
        steps=settings.train_steps, lr=settings.train_lr, n_checkpoints=settings.n_checkpoints,
        first_checkpoint=settings.first_checkpoint, held_out=0.05 if settings.pairs == "own" else
        0.01, seed=settings.seed, device=settings.device, precision=settings.precision,
    )


def given_points(settings: Settings, name: str) -> list[Point]:
    """The points of a model that is there: all checkpoints of a training, or the model itself."""
    folder = Path(name).expanduser()
    label = folder.name.split(".bin")[0] if folder.exists() else name.replace("/", "--")
    saved = sorted((folder / "models").glob("step-*")) if folder.is_dir() else []
    if not saved:
        return [Point(label, -1, name, True)]
    steps = [int(path.name.removeprefix("step-")) for path in saved]
    last = steps[-settings.n_spaces :]
    return [Point(label, s, str(path), s in last) for s, path in zip(steps, saved, strict=True)]


def open_point(settings: Settings, point: Point) -> HookedModel:
    """The model at a point of training; raises InputError when it has no tokenizer."""
    model = load_model(point.source, device=settings.device)
    if model.tokenizer is None:
        raise InputError(f"{point.model} has no tokenizer, so it cannot read sentences; add one")
    return model.requires_grad_(False).eval()


def encode(settings: Settings, pairs: MinimalPairs, model: HookedModel) -> Encodings:
    """The parts of the pairs in the model's tokens."""
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return encode_parts(settings, pairs, tokenizer, model.cfg.n_ctx)


def encode_parts(
    settings: Settings, pairs: MinimalPairs, tokenizer: PreTrainedTokenizerBase, n_ctx: int
) -> Encodings:
    """The parts of the pairs in a tokenizer's tokens; raises as ``encode_minimal_pairs``."""

    def part(name: str, n: int) -> EncodedPairs:
        chosen = pairs.part(name).first(n)
        return encode_minimal_pairs(
            chosen, tokenizer, max_length=n_ctx, unknown=settings.unknown
        )

    return Encodings(
        part("tune", settings.n_tune), part("validate", 0), part("evaluate", settings.n_eval),
        part("evaluate", 0),
    )


def held_out_rows(
    settings: Settings, point: Point, pairs: MinimalPairs, model: HookedModel
) -> Int[Tensor, "row pos"]:
    """Held-out text of the model's training.

    Of a model that was trained elsewhere: sentences of --text, of text/ in the data folder, or,
    where there is neither, acceptable sentences of the pairs that are used for nothing else.
    """
    kept = Path(point.source).parent.parent / HELD_OUT
    if point.step >= 0 and kept.is_file():
        return torch.from_numpy(read_arrays(kept)["rows"][:100].astype(np.int64))
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if files := text_files(settings):
        sentences = list(read_sentences(files, limit=20_000))
    else:
        sentences = [s for p in pairs.part("reserve") for s in p.good[:20]]
    random.Random(settings.seed).shuffle(sentences)
    return text_rows(sentences[:600], tokenizer, min(64, model.cfg.n_ctx))[:100]
