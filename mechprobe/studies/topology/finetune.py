"""Fine-tuning with and without a pull towards a tree; each fine-tuned model a unit of the run."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import Classifier, HookedDecoderClassifier
from mechprobe.models.edits import forward
from mechprobe.models.load import load_model
from mechprobe.models.streams import Stream, run_with_streams
from mechprobe.probes.regulariser import TopologyRegulariser
from mechprobe.runs import progress
from mechprobe.studies.topology.models import CONTEXT, encoder_source
from mechprobe.studies.topology.probing import Opened, kept_bank
from mechprobe.studies.topology.settings import COLA, OWN, Settings
from mechprobe.tasks.acceptability import (
    LABELS,
    Judged,
    encode_judged,
    exchangeable,
    load_cola,
    matthews,
    word_order,
)
from mechprobe.tasks.batches import Encoded
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.training.fit import FitSettings, fit_classifier
from mechprobe.training.regularise import fit_regularised

PLAIN = "plain"
_REVERSED = "-reversed"
_OTHER_SEED = 7_919  # of generated sentences that no other part of the study has


def conditions(settings: Settings) -> list[str]:
    """Plain fine-tuning, and two conditions a stream: the pull, and its null."""
    if settings.finetune == "none":
        return []
    pulls = [name for stream in settings.finetune_streams for name in (stream, null_of(stream))]
    return [PLAIN, *pulls]


def null_of(stream: str) -> str:
    """The condition whose pull at a stream is towards labels read backwards."""
    return f"{stream}{_REVERSED}"


class Tuning:
    """The task's data and the probes that pull, opened once for all fine-tuned models."""

    def __init__(self, opened: Opened) -> None:
        self.opened, self.settings = opened, opened.settings

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        found = self.opened.model.tokenizer
        assert found is not None
        return found

    @cached_property
    def trees(self) -> tuple[list[Sentence], list[Sentence]]:
        """Training and held-out sentences of our own task, before words are exchanged."""
        settings = self.settings
        if settings.treebank == OWN:
            n = settings.n_finetune + settings.n_test
            drawn = generate_treebank(n, seed=settings.seed + _OTHER_SEED)
            order = np.random.default_rng(settings.seed).permutation(n)
            drawn = [drawn[i] for i in order]
            return drawn[: settings.n_finetune], drawn[settings.n_finetune :]
        parts = self.opened.data.parts
        return list(parts["train"])[: settings.n_finetune], list(parts["test"])

    @cached_property
    def texts(self) -> tuple[Judged, Judged]:
        """Training and held-out sentences with judgements."""
        settings = self.settings
        if settings.finetune == COLA:
            train = load_cola("train", data_dir=settings.data_dir)
            return (
                train.sample(settings.n_finetune, settings.seed),
                load_cola("dev", data_dir=settings.data_dir),
            )
        train, dev = ([s for s in part if exchangeable(s)] for part in self.trees)
        return word_order(train, seed=settings.seed), word_order(dev, seed=settings.seed + 1)

    @cached_property
    def encoded(self) -> tuple[Encoded, Encoded]:
        """The same as tokens."""
        longest = min(self.opened.model.cfg.n_ctx, CONTEXT)
        train, dev = (encode_judged(part, self.tokenizer, longest) for part in self.texts)
        return train, dev

    @cached_property
    def left_out(self) -> int:
        """Sentences of our own task without neighbours to exchange, in training and held out."""
        if self.settings.finetune == COLA:
            return 0
        return sum(not exchangeable(s) for part in self.trees for s in part)

    def regulariser(self, condition: str) -> TopologyRegulariser:
        """The trained X_ssp probe of a condition's stream, as a loss."""
        stream = condition.removesuffix(_REVERSED)
        bank = kept_bank(self.opened, "ssp").at([stream])
        return TopologyRegulariser(
            bank.params["B"][0], trained=self.settings.finetune_probe == "trained",
            special=self.tokenizer.all_special_ids, reverse=condition != stream,
        ).to(self.settings.device)

    def fresh(self, seed: int) -> Classifier:
        """The study's model with a new classification head."""
        own = self.settings.encoder is None
        source = self.opened.run.folder / "models" / "encoder" if own else encoder_source(
            self.settings
        )
        model = load_model(source, labels=LABELS, seed=seed, device=self.settings.device)
        assert isinstance(model, HookedClassifier | HookedDecoderClassifier)
        return model


def tune_unit(tuning: Tuning, condition: str, index: int) -> dict:
    """Fine-tune one model and score it on the held-out sentences."""
    settings = tuning.settings
    seed = 100 * settings.seed + index
    train, dev = tuning.encoded
    model = tuning.fresh(seed)
    fit = FitSettings(
        steps=settings.finetune_steps, batch_size=settings.finetune_batch, lr=settings.finetune_lr
    )
    watched = {s: tuning.regulariser(s) for s in settings.finetune_streams}
    before = {s: probe_loss(model, dev, extra, s) for s, extra in watched.items()}
    run, name = tuning.opened.run, f"finetune-{condition}-{index}"
    store = run.checkpoint(name)
    with progress(settings.finetune_steps, f"fine-tune {condition} {index}") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % 10 == 0:
                run.log(name, step, loss=loss)

        if condition == PLAIN:
            fit_classifier(model, train, fit, seed=seed, on_step=on_step, store=store)
        else:
            fit_regularised(
                model, train, fit, watched.get(condition) or tuning.regulariser(condition),
                stream=condition.removesuffix(_REVERSED),
                weight=settings.finetune_weight, seed=seed, on_step=on_step, store=store,
            )
    after = {s: probe_loss(model, dev, extra, s) for s, extra in watched.items()}
    losses = [row["loss"] for row in run.metrics(name)]  # of earlier processes too
    return {"condition": condition, "seed": seed, "probe_loss_before": before,
            "probe_loss_after": after, "train_loss": losses[-20:],
            "train_sentences": len(train), "train_truncated": train.n_truncated,
            "left_out": tuning.left_out,
            **score(model, dev, tuning.texts[1])}


@torch.no_grad()
def score(model: Classifier, dev: Encoded, judged: Judged) -> dict:
    """Corpus-level Matthews' correlation, accuracy, and whether only one answer is given."""
    guess = np.zeros(len(dev), dtype=np.int64)
    device = next(model.parameters()).device
    for batch in dev.batches(64):
        guess[batch.index.numpy()] = forward(model, batch.to(device)).argmax(-1).cpu().numpy()
    gold, group = judged.labels, np.array(judged.group)
    found = {"mcc": matthews(gold, guess), "accuracy": float((gold == guess).mean()),
             "collapsed": bool(len(np.unique(guess)) == 1), "sentences": len(dev),
             "truncated": dev.n_truncated}
    for name in sorted(set(judged.group) - {""}):
        found[f"mcc {name}"] = matthews(gold[group == name], guess[group == name])
    return found


@torch.no_grad()
def probe_loss(
    model: Classifier, dev: Encoded, extra: TopologyRegulariser, stream: str
) -> float:
    """L_probe of the held-out sentences."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for batch in dev.batches(64):
        batch = batch.to(device)
        _, found = run_with_streams(model, batch, [stream])
        n = int(extra.real(batch.tokens, batch.attention_mask).sum())
        loss = extra(
            found[Stream.parse(stream)], batch.tokens, batch.attention_mask, batch.labels
        )
        total, count = total + n * float(loss), count + n
    return total / max(1, count)
