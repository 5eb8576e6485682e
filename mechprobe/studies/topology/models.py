"""The study's models: the encoder that is probed, and untrained ones of its shape."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models.build import build_encoder, default_std
from mechprobe.models.edits import HookedModel
from mechprobe.models.load import load_model, packaged_minilm
from mechprobe.models.save import save_model
from mechprobe.models.streams import Stream, streams
from mechprobe.models.untrained import untrained_twin
from mechprobe.runs import Run, progress
from mechprobe.studies.topology.data import StudyData
from mechprobe.studies.topology.settings import Settings
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.word_pieces import encode_words
from mechprobe.training.fresh import FreshSettings
from mechprobe.training.tree_space import fit_tree_space

TRAINED = "trained"
CONTEXT = 64  # tokens the encoder trained here reads
BERT_STD = 0.02


def check_encoder(settings: Settings) -> None:
    """Open the pretrained encoder once, before any folder is made, and throw it away.

    Raises:
        InputError: no such model, one without a fast tokenizer, or without a stream that the
            settings name.
    """
    if settings.encoder is None:
        return
    found = streams(open_model(settings, Path(), TRAINED), settings.parts)
    for name in settings.finetune_streams if settings.finetune != "none" else ():
        if Stream.parse(name) not in found:
            raise InputError(
                f"the regulariser is to act at {name}, which {settings.encoder} has not; it has "
                f"{', '.join(str(s) for s in found if s.part == Stream.parse(name).part)}"
            )


def model_names(settings: Settings) -> list[str]:
    """The trained model, then the untrained ones."""
    return [TRAINED, *untrained_names(settings)]


def untrained_names(settings: Settings) -> list[str]:
    """Names of the untrained models."""
    return [f"untrained-{i}" for i in range(settings.n_untrained)]


def encoder_source(settings: Settings) -> str:
    """The encoder's folder or hub name."""
    assert settings.encoder is not None
    return str(packaged_minilm()) if settings.encoder == "minilm" else settings.encoder


def tokenizer_of(data: StudyData, extra: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """One token a word of every sentence of the study."""
    parts = [*data.parts.values(), data.pretrain]
    texts = [" ".join(s.words) for part in parts for s in part]
    return word_tokenizer([*texts, *extra])


def train_encoder(settings: Settings, data: StudyData, run: Run) -> dict:
    """Train the small encoder and keep it in the run folder; a unit of the run."""
    tokenizer = tokenizer_of(data)
    encoded = encode_words([s.words for s in data.pretrain], tokenizer, CONTEXT)
    model = build_encoder(
        tokenizer=tokenizer, n_layers=settings.n_layers, n_heads=settings.n_heads,
        d_model=settings.d_model, d_mlp=settings.d_mlp, n_ctx=CONTEXT, seed=settings.seed,
    )
    if settings.device != "cpu":
        model = model.to(settings.device)
    with progress(settings.pretrain_steps, "train the encoder") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % 10 == 0 or step == 1:
                run.log("encoder", step, loss=loss)

        fit_tree_space(
            model, encoded, data.pretrain,
            FreshSettings(settings.pretrain_steps, lr=settings.pretrain_lr, warmup_steps=200),
            batch_size=settings.pretrain_batch, seed=settings.seed, on_step=on_step,
            store=run.checkpoint("encoder"),
        )
    save_model(model, run.path("models/encoder"))
    losses = [row["loss"] for row in run.metrics("encoder")]  # of earlier processes too
    few = max(1, len(losses) // 20)
    return {"loss_first": losses[:few], "loss_last": losses[-few:], "sentences": len(encoded)}


def open_model(settings: Settings, folder: Path, name: str) -> HookedModel:
    """A model of the study, frozen.

    Raises:
        InputError: no such model, or one without a fast tokenizer.
    """
    own = settings.encoder is None
    source = folder / "models" / "encoder" if own else encoder_source(settings)
    model = load_model(source, device=settings.device)
    if not isinstance(model.tokenizer, PreTrainedTokenizerFast):
        raise InputError(
            f"{settings.encoder} has no fast tokenizer, which tells words from sub-words; add its "
            "tokenizer.json"
        )
    if name != TRAINED:
        std = default_std(model.cfg.d_model) if own else BERT_STD
        index = untrained_names(settings).index(name)
        model = untrained_twin(model, seed=1_000 * (settings.seed + 1) + index, init_std=std)
    return model.requires_grad_(False).eval()
