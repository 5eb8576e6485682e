"""Train a small causal language model on text files: a folder of checkpoints that can be resumed.

The folder holds ``models/step-000100/`` (each opens with ``load_model``), the held-out text as
token ids, and the perplexity on it at every checkpoint.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel
from mechprobe.models.save import save_model
from mechprobe.runs import Run, progress
from mechprobe.runs.crew import crew
from mechprobe.runs.inputs import digest_of_file, refuse_other_inputs
from mechprobe.tasks.corpus import TokenStream, corpus_files, read_sentences, token_stream
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.fresh import FreshSettings, fit_fresh
from mechprobe.training.perplexity import perplexity
from mechprobe.training.pretrain_settings import SIZES, VOCABULARIES, PretrainSettings

PERPLEXITY, HELD_OUT = "tables/perplexity.csv", "held-out.safetensors"


@dataclass(frozen=True)
class Pretrained:
    """A finished training: its folder, the saved steps, and the perplexity at each."""

    folder: Path
    steps: tuple[int, ...]
    perplexity: pd.DataFrame

    def path(self, step: int) -> Path:
        """The folder of a checkpoint, for ``load_model``."""
        return checkpoint_folder(self.folder, step)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where a checkpoint of a training in ``folder`` lies."""
    return folder / "models" / f"step-{step:06d}"


def log_grid(steps: int, n: int, first: float = 0.01) -> list[int]:
    """n saved steps, the last is ``steps``, evenly spaced in log time from ``first`` of them."""
    if n < 1 or steps < 1:
        raise InputError(f"{n} checkpoints of {steps} steps; give 1 or more of each")
    low = max(1, round(first * steps))
    grid = np.geomspace(low, steps, n) if n > 1 else [steps]
    return sorted({round(float(step)) for step in grid})


def check_pretrain(settings: PretrainSettings) -> None:
    """Raise InputError for the first setting that cannot work."""
    if settings.size not in SIZES:
        raise InputError(f"unknown --size {settings.size!r}; one of {', '.join(SIZES)}")
    if settings.vocabulary not in VOCABULARIES:
        raise InputError(
            f"unknown --vocabulary {settings.vocabulary!r}; one of {', '.join(VOCABULARIES)}"
        )
    if settings.precision not in ("float32", "bfloat16"):
        raise InputError(f"precision {settings.precision!r}; expected float32 or bfloat16")
    for name in ("n_vocabulary", "n_ctx", "batch", "steps", "n_checkpoints"):
        if getattr(settings, name) < 1:
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(settings, name)}; give 1 or more"
            )
    for name in ("file_limit", "warmup", "seed"):
        if getattr(settings, name) < 0:
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(settings, name)}; give 0 or more"
            )
    if not settings.lr > 0 or not 0 < settings.held_out < 1:
        raise InputError(
            f"--lr {settings.lr} must be above 0, --held-out {settings.held_out} inside (0, 1)"
        )
    if not 0 < settings.first_checkpoint <= 1:
        raise InputError(f"--first-checkpoint is {settings.first_checkpoint}; give a share")
    if not settings.text:
        raise InputError("no text given; name text files or folders with --text")
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {settings.device!r} cannot be used ({str(error).splitlines()[0]}); "
            "give cpu, or a GPU that torch sees"
        ) from None


def pretrain(settings: PretrainSettings, out: str | Path) -> Pretrained:
    """Train, or go on with, the language model of a folder.

    Raises:
        InputError: settings, text or a folder that cannot work.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    check_pretrain(settings)
    files = corpus_files(settings.text)
    with Run.open(out, {"study": "pretrain", **dataclasses.asdict(settings)}) as run:
        refuse_other_inputs(run, {
            f"text {i} {file.name}": digest_of_file(file) for i, file in enumerate(files, 1)
        })
        return pretrain_text(
            settings,
            list(read_sentences(
                files, lower=settings.lower, split=settings.split,
                limit=settings.file_limit or None,
            )),
            run,
        )


def pretrain_text(settings: PretrainSettings, sentences: Sequence[str], run: Run) -> Pretrained:
    """As ``pretrain``, on sentences that are there already, in an open run directory."""
    tokenizer = train_tokenizer(sentences, settings.vocabulary, settings.n_vocabulary)
    stream = token_stream(sentences, tokenizer, held_out=settings.held_out)
    n_ctx = settings.n_ctx
    if len(stream.train) <= n_ctx:
        raise InputError(
            f"{len(stream.train)} training tokens do not fill a context of {n_ctx}; give more text"
        )
    rows = stream.held_out_rows(n_ctx, 400)
    run.write_arrays(HELD_OUT, {"rows": rows.numpy().astype(np.int32)})
    done = run.unit("pretrain", lambda: _fit(settings, tokenizer, stream, rows, run))
    table = pd.DataFrame(done["perplexity"])
    run.write_table(PERPLEXITY, table)
    return Pretrained(run.folder, tuple(done["steps"]), table)


def fresh_language_model(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerFast
) -> HookedModel:
    """The model before training."""
    model = build_decoder(
        tokenizer=tokenizer, seed=settings.seed, n_ctx=settings.n_ctx, **SIZES[settings.size]
    )
    return model.to(settings.device, print_details=False)


def _fit(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerFast, stream: TokenStream,
    rows: Tensor, run: Run,
) -> dict:
    model: Any = fresh_language_model(settings, tokenizer)
    kind = torch.device(settings.device).type
    points = log_grid(settings.steps, settings.n_checkpoints, settings.first_checkpoint)
    began = time.monotonic()

    def loss_at(model: Any, step: int) -> Tensor:
        batch = stream.batch(step, settings.batch, settings.n_ctx, settings.seed)
        team, n = crew(), batch[:, 1:].numel()
        batch = batch[team.rows(len(batch))].to(settings.device)
        with torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            logits = model(batch[:, :-1], padding_side="right")
        logits, target = logits.float().flatten(0, 1), batch[:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits, target, reduction=team.reduction)
        return team.mean(loss, n)

    def on_checkpoint(step: int, model: Any) -> None:
        save_model(model, checkpoint_folder(run.folder, step))
        tokens = step * settings.batch * settings.n_ctx
        seen = perplexity(model, rows)
        run.log("perplexity", step, tokens=tokens, perplexity=seen)
        model.train()

    with progress(settings.steps, f"pretrain {settings.size}") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % 20 == 0:
                run.log("pretrain", step, loss=loss)

        fit_fresh(
            model, loss_at, FreshSettings(settings.steps, settings.lr, settings.warmup),
            trajectory=points, on_checkpoint=on_checkpoint, on_step=on_step,
            store=run.checkpoint("pretrain"), save_every=250, shared=True,
        )
    keep = ("step", "tokens", "perplexity")
    return {
        "steps": points, "parameters": sum(p.numel() for p in model.parameters()),
        "perplexity": [{k: row[k] for k in keep} for row in run.metrics("perplexity")],
        "seconds": time.monotonic() - began,
    }
