"""Settings of the heuristic-core study, its presets, and the two real data pairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; sizes in tokens, examples, steps."""

    preset: str = _option("laptop", "name of the preset these settings started from")
    seed: int = _option(0, "base seed; model seeds and mask seeds are derived from it")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    precision: str = _option(
        "float32", "matrix products in float32, or bfloat16 (faster where the CPU or GPU has it)"
    )
    threads: int = _option(0, "CPU threads; 0 keeps torch's own choice")

    pair: str = _option("overlap", "in-domain -> out-of-domain data: overlap, mnli-hans, qqp-paws")
    data_dir: str | None = _option(
        None, "folder with local copies of the pair's files; without it they come from the hub"
    )
    n_train: int = _option(12_000, "training examples at most")
    n_dev: int = _option(1_000, "held-out in-domain examples for reported accuracy")
    n_ood: int = _option(1_000, "out-of-domain examples a sub-case")
    overlap_predicts: float = _option(
        0.96, "pair overlap: share of in-domain examples where lexical overlap gives the label"
    )
    counterexample_groups: tuple[str, ...] = _option(
        (), "pair overlap: structures the in-domain counterexamples are drawn from; empty = all"
    )
    ood_groups: tuple[str, ...] = _option(
        (), "pair overlap: out-of-domain sub-cases to test; empty = all"
    )
    hans_train_share: float = _option(
        0.0, "pair mnli-hans: share of HANS training rows mixed into fine-tuning, 0 to 1"
    )
    max_length: int = _option(48, "longest pair in tokens; longer ones are cut")

    encoder: str | None = _option(
        None, "pretrained encoder: hub name or local folder; without it one is built from scratch"
    )
    arch: str = _option(
        "encoder", "what is built from scratch: encoder, or decoder with its last token classified"
    )
    n_layers: int = _option(4, "layers of the encoder built from scratch")
    n_heads: int = _option(8, "heads a layer of the encoder built from scratch")
    d_model: int = _option(128, "residual width of the encoder built from scratch")
    d_mlp: int = _option(256, "MLP width of the encoder built from scratch")
    n_models: int = _option(3, "how many models are trained, each from its own seed")
    train_steps: int = _option(900, "optimiser steps of training or fine-tuning")
    equal_token_init: float = _option(
        1.5, "strength of the equal-token attention an encoder from scratch starts with"
    )
    train_batch: int = _option(48, "examples a training step")
    train_lr: float = _option(3e-4, "peak learning rate of AdamW; linear warm-up and decay")
    train_warmup: float = _option(0.1, "share of the steps in which the learning rate rises")

    checkpoints: tuple[float, ...] = _option(
        (1.0,), "points of training (shares of its steps) at which subnetworks are searched"
    )
    sparsities: tuple[float, ...] = _option((0.5,), "shares of sites closed, inside (0, 1)")
    checkpoint_sparsities: tuple[float, ...] = _option(
        (), "sparsities searched at the checkpoints before the last; empty = none"
    )
    n_masks: int = _option(12, "subnetworks a sparsity of the first model, each its own seed")
    n_masks_others: int = _option(0, "subnetworks a sparsity of each further model")
    n_masks_checkpoint: int = _option(1, "subnetworks a sparsity at the earlier checkpoints")

    rule: str = _option("expected", "sparsity rule: expected (ours) or published")
    mask_steps: int = _option(300, "optimiser steps of one mask")
    mask_batch: int = _option(32, "examples a mask step")
    mask_accumulation: int = _option(1, "micro-batches a mask step; one gate sample each")
    mask_examples: int = _option(4_096, "training examples used by mask search and mean baseline")
    mask_lr: float = _option(0.1, "learning rate on log alpha")
    mask_lambda_lr: float = _option(1.0, "learning rate on the sparsity multipliers")
    baseline: str = _option(
        "mean", "what a closed gate puts in place: zero, mean, mean_position, resample"
    )

    n_eval: int = _option(
        0, "examples a sub-case in the many small evaluations (effects, nulls); 0 = all"
    )
    n_random_sets: int = _option(20, "random equal-size sets for the nulls of ablations")
    n_null: int = _option(2_000, "draws of overlap and bootstrap nulls")


PAIRS: dict[str, str] = {
    "overlap": "nli/overlap",
    "mnli-hans": "nli/mnli-hans",
    "qqp-paws": "paraphrase/qqp-paws",
}
"""Short names of the pairs of data sets, and the task cards behind them."""

PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        preset="tiny",
        n_train=1_500, n_dev=300, n_ood=60, n_layers=2, n_heads=4, d_model=64, d_mlp=128,
        n_models=1, train_steps=120, train_lr=1e-3, checkpoints=(0.5, 1.0),
        checkpoint_sparsities=(0.5,), n_masks=3, mask_steps=40, mask_examples=512, n_eval=60,
        n_random_sets=20, n_null=500,
    ),
    "laptop": Settings(  # chosen on seeds 100 to 103
        preset="laptop", n_eval=100, sparsities=(0.35,), n_masks=16, mask_steps=400,
        mask_lambda_lr=0.5,
        counterexample_groups=(
            "not_swap", "not_preposition", "not_under_if", "not_after_if", "not_adverb",
            "not_under_verb", "not_disjunction", "ent_synonym",
        ),
        ood_groups=(
            "not_swap", "not_preposition", "not_under_if", "not_under_verb",
            "ent_passive", "ent_preposition", "ent_clause", "ent_under_verb",
        ),
        checkpoints=(0.33, 1.0), checkpoint_sparsities=(0.35, 0.5, 0.7),
    ),
    "real": Settings(
        preset="real", pair="mnli-hans", encoder="minilm", precision="bfloat16",
        n_train=20_000, n_dev=2_000, n_ood=500, hans_train_share=0.01,
        n_models=1, train_steps=1_600, train_batch=32, train_lr=1e-4,
        checkpoints=(0.25, 0.5, 1.0), sparsities=(0.5, 0.7), checkpoint_sparsities=(0.35, 0.5),
        n_masks=6, n_masks_checkpoint=1, n_eval=100,
    ),
    "paper": Settings(
        preset="paper", pair="mnli-hans", encoder="bert-base-cased", n_layers=12, n_heads=12,
        d_model=768, d_mlp=3_072, n_train=392_702, train_batch=32,
        n_dev=9_815, max_length=128, n_models=1, train_steps=61_360, train_lr=2e-5,
        checkpoints=(0.0081, 0.106, 0.204, 0.399, 0.888, 1.0), sparsities=(0.5, 0.7),
        checkpoint_sparsities=(0.5, 0.7), n_masks=12, n_masks_checkpoint=3, rule="published",
        mask_steps=0, mask_accumulation=4, mask_examples=392_702, device="cuda",
    ),
}


QQP_PAWS: dict[str, dict[str, Any]] = {
    "real": {"n_train": 8_600, "n_dev": 1_000, "n_ood": 1_500, "train_steps": 700, "n_masks": 3,
             "checkpoints": (1.0,), "checkpoint_sparsities": (), "n_eval": 50},
    "paper": {"n_train": 363_846, "n_dev": 40_430, "n_ood": 20_000, "train_steps": 40_000,
              "train_batch": 128, "checkpoint_sparsities": (0.3, 0.6)},
}
"""What changes in a preset when it runs on QQP and PAWS; sparsities always do."""


def for_pair(settings: Settings, pair: str) -> Settings:
    """The same preset on the other pair of data, with that pair's published sparsities."""
    if pair != "qqp-paws":
        return replace(settings, pair=pair)
    own = QQP_PAWS.get(settings.preset, {})
    return replace(settings, pair=pair, sparsities=(0.3, 0.6), hans_train_share=0.0, **own)
