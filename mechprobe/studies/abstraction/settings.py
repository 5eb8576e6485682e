"""Settings of the abstraction study and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mechprobe.tasks.abstraction import MUTATIONS


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


ADAPT: dict[str, str] = {
    "full": "all weights",
    "frozen": "the embeddings alone",
    "words": "the new words' embeddings alone",
    "content": "the new content words' embeddings alone, new prepositions given",
}
"""How a model learns the target task, and what learns it: new words are those that the auxiliary
task does not have; given prepositions have the embeddings of those they stand for there."""
STARTS = ("auxiliary", "control", "contrast")
"""What a model learnt before the target task; "control" is nothing."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; sizes in pairs, words, steps."""

    preset: str = _option("laptop", "name of the preset these settings started from")
    seed: int = _option(0, "base seed; set i has seed + i for data, weights and batches")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    threads: int = _option(0, "CPU threads; 0 keeps torch's own choice")

    card: str = _option(
        "abstraction/mini", "grammar card: abstraction/mini, /full, /released, or a .toml file"
    )
    data_dir: str | None = _option(None, "folder with the released files, for abstraction/released")
    probe: str = _option("mod", "what is new in the test: mod (subject phrase), com (deep clauses)")
    contrast: str = _option(
        "other_grammar",
        "contrast task: other_grammar, shuffle_content, swap_structure, no_generalisation",
    )
    redraw: str = _option("frame", "verbs of the auxiliary task's redrawn lines: any, or frame")
    n_sets: int = _option(3, "vocabularies of the auxiliary task, each with its own seed")
    n_train: int = _option(2_400, "training pairs of the target task at most")
    n_test: int = _option(300, "in-distribution test pairs")
    n_ood: int = _option(400, "generalisation test pairs")
    per_item: int = _option(10, "auxiliary pairs for each generalisation item")

    model: str | None = _option(
        None, "pretrained T5 or GPT-2: hub name or local folder; without it one is built"
    )
    arch: str = _option(
        "decoder", "what is built: decoder (GPT-2-shaped) or encoder-decoder (T5-shaped)"
    )
    positions: str = _option("rotary", "positions of a built decoder: rotary or standard (learned)")
    n_layers: int = _option(3, "layers of the model built (of each stack)")
    n_heads: int = _option(4, "heads a layer of the model built")
    d_model: int = _option(64, "residual width of the model built")
    fold_case: bool = _option(True, "whether dog and DOG are one token of the model built")

    adapt: tuple[str, ...] = _option(
        ("full", "content"),
        "how the target task is learnt: full (all weights), frozen (embeddings), words (new words' "
        "embeddings), content (the same, prepositions given); the last one's models are analysed",
    )
    batch: int = _option(32, "pairs a training step")
    auxiliary_steps: int = _option(1_100, "training steps on the auxiliary (or contrast) task")
    auxiliary_lr: float = _option(3e-3, "peak learning rate on the auxiliary task")
    control_lr: float = _option(3e-3, "peak learning rate on the target task from scratch")
    control_steps: int = _option(
        1_000, "training steps on the target task from scratch, all weights"
    )
    finetune_steps: int = _option(400, "training steps on the target task otherwise")
    finetune_lr: float = _option(3e-4, "peak learning rate on the target task after another")
    finetune_embedding_lr: float = _option(
        3e-3, "the same of the embeddings, where all weights learn"
    )
    embedding_lr: float = _option(1e-2, "the same where embeddings alone learn")
    warmup: float = _option(0.05, "share of the steps in which the learning rate rises")
    decay: bool = _option(True, "whether the learning rate then falls to 0")
    label_smoothing: float = _option(0.1, "share of probability spread over all tokens")
    generic_steps: int = _option(
        0, "steps of generic pretraining first, on other vocabularies; 0 for none"
    )
    generic_sets: int = _option(4, "vocabularies of generic pretraining")

    beams: int = _option(0, "beams of decoding; 0 scores greedily by teacher forcing")
    constrained: bool = _option(False, "beams write only word sequences seen in training targets")

    points: int = _option(4, "points of auxiliary training at which transfer is measured; 0: none")
    point_steps: int = _option(150, "training steps on the target task at each of them")
    mutations: tuple[str, ...] = _option((), "concept mutations of the auxiliary task to measure")
    baselines: tuple[str, ...] = _option(
        ("mean", "zero", "resample"), "what a closed head is replaced by; the first decides"
    )
    n_heads_eval: int = _option(160, "test pairs of each kind when heads are closed")
    n_random: int = _option(20, "random orders of heads, the null of cumulative curves")
    mask_steps: int = _option(0, "steps of learned masks; 0 leaves them out")
    mask_seeds: int = _option(4, "learned masks")
    n_boot: int = _option(2_000, "bootstrap and permutation draws")


PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        preset="tiny", n_sets=1, n_train=300, n_test=40, n_ood=40, per_item=3, n_layers=2,
        d_model=32, batch=16, auxiliary_steps=40, control_steps=30, finetune_steps=30, points=2,
        point_steps=10, baselines=("mean",), n_heads_eval=24, n_random=20, n_boot=300,
        adapt=("words",),
    ),
    # 'no_generalisation' where models are small: they do not learn the target task over another
    # grammar, and then E2 says nothing
    "laptop": Settings(preset="laptop", contrast="no_generalisation"),
    "full-cpu": Settings(  # mutations, generic pretraining and masks as well, for one CPU core
        preset="full-cpu", contrast="no_generalisation", points=0,
        auxiliary_steps=1_500, control_steps=1_500, finetune_steps=800, generic_steps=1_500,
        mask_steps=200, mutations=tuple(MUTATIONS),
    ),
    "real": Settings(
        preset="real", card="abstraction/released", contrast="no_generalisation", n_sets=2,
        n_train=24_155, n_test=600, n_ood=1_000, redraw="any", d_model=96,
        auxiliary_steps=2_200, control_steps=2_000, finetune_steps=800, points=0,
    ),
    "full": Settings(
        preset="full", card="abstraction/full", n_train=24_155, n_test=3_000, n_ood=1_000,
        device="cuda", arch="encoder-decoder", n_layers=4, n_heads=8, d_model=256, batch=64,
        auxiliary_steps=30_000, control_steps=15_000, finetune_steps=15_000, auxiliary_lr=1e-3,
        control_lr=1e-3, finetune_lr=1e-4, finetune_embedding_lr=1e-3, embedding_lr=3e-3, points=8,
        point_steps=3_000, n_heads_eval=1_000, mask_steps=1_000, mask_seeds=12, redraw="any",
        mutations=tuple(MUTATIONS),
    ),
    "paper": Settings(
        preset="paper", card="abstraction/released", n_train=24_155, n_test=3_000, n_ood=1_002,
        device="cuda", model="t5-base", arch="encoder-decoder", n_layers=12, n_heads=12,
        d_model=768, batch=8, adapt=("full",), auxiliary_steps=100_000, control_steps=50_000,
        finetune_steps=50_000, auxiliary_lr=1e-5, control_lr=1e-5, finetune_lr=1e-5,
        finetune_embedding_lr=1e-5, embedding_lr=1e-5, warmup=0.0, decay=False,
        beams=5, constrained=True, points=8, point_steps=5_000, redraw="any",
        n_heads_eval=1_000, mask_steps=1_000, mask_seeds=12,
    ),
}


def reads_files(settings: Settings) -> bool:
    """Whether the data are files of the user's."""
    return settings.card == "abstraction/released"


def smoke_test(settings: Settings) -> bool:
    """Whether training is too short to learn anything: such a run shows that all parts work."""
    return settings.auxiliary_steps <= PRESETS["tiny"].auxiliary_steps
