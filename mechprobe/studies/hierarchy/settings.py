"""Settings of the hierarchy study and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; sizes in sequences, steps, leaves."""

    preset: str = _option("laptop", "name of the preset these settings started from")
    seed: int = _option(0, "base seed of weights, sequences, masks and nulls")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    threads: int = _option(0, "CPU threads; 0 keeps torch's own choice")

    grammar_seed: int = _option(0, "seed of the random grammar")
    q: int = _option(4, "symbols of the grammar")
    depth: int = _option(4, "levels below the root")
    arity: int = _option(2, "children of a node")
    sigma: float = _option(1.0, "spread of the log probabilities of a parent's rules")
    rules: str | None = _option(
        None, "JSON file with your own rules, nested lists [parent][first child]...[last child]; "
        "--q and --arity then follow from it",
    )
    unambiguous: bool = _option(False, "refuse rules of --rules that give children two parents")

    models: tuple[str, ...] = _option(
        ("root-k0", "root-k3", "masked-k0", "masked-k0-heads4"),
        "models to train: root or masked, -kK (filter level of the training data), and if wanted "
        "-headsH, -layersL, -depthD, -qQ",
    )
    n_layers: int = _option(0, "layers; 0 = as many as the tree has levels")
    n_heads: int = _option(1, "heads a layer, where a model's name gives none")
    d_model: int = _option(64, "residual width")
    d_mlp: int = _option(256, "MLP width")
    norm: str = _option("pre", "LayerNorm before attention and MLP (pre) or after the sums (post)")
    positions: str = _option("learned", "position vectors: learned or sinusoidal")
    batch: int = _option(64, "sequences a training step")
    lr: float = _option(2e-3, "peak learning rate of Adam")
    warmup: int = _option(100, "steps in which the learning rate rises")
    decay: bool = _option(True, "whether the learning rate then falls linearly to 0")
    max_masks: int = _option(4, "leaves masked in a training sequence, 1 to this; scored with 1")
    n_train: int = _option(0, "a fixed training set of this many sequences; 0 = all are new")
    root_steps: int = _option(6_000, "optimiser steps of root classification on the full hierarchy")
    root_filtered_steps: int = _option(1_600, "the same on filtered data")
    masked_steps: int = _option(3_000, "optimiser steps of masked language modelling, k = 0")
    masked_filtered_steps: int = _option(2_200, "the same on filtered data")
    variant_steps: int = _option(0, "steps of models with another number of heads, layers, depth "
                                 "or q than the main ones; 0 = as the main ones")
    n_checkpoints: int = _option(15, "points of training that are scored, evenly in log steps")

    n_eval: int = _option(1_000, "sequences that every checkpoint is scored on, of each kind")
    n_attention: int = _option(500, "sequences whose attention is read")
    n_null: int = _option(1_000, "relabellings of positions, permutations of heads, bootstraps")
    n_probe: int = _option(1_500, "sequences ancestor probes learn from; half as many test them")
    probe_epochs: int = _option(12, "passes over them at most")
    n_locate: int = _option(256, "sequences of each localiser in the ranking of heads")
    mask_seeds: int = _option(4, "learned masks of each level in the ranking of heads")
    mask_steps: int = _option(40, "optimiser steps of each")


def reads_files(settings: Settings) -> bool:
    """Whether the data come from files: never, they are generated."""
    return False


FILTERED_MODELS = tuple(f"{task}-k{k}" for task in ("root", "masked") for k in range(5))
"""Both tasks at every filter level of a tree of depth 4."""

FULL_MODELS = (
    *FILTERED_MODELS,
    "masked-k0-heads4", "root-k0-depth2", "root-k0-depth3", "root-k0-depth3-q6",
    "masked-k0-layers3", "masked-k0-layers5", "masked-k0-heads2",
)
"""Those, and models of other shapes and on other trees."""

SHAPE_MODELS = tuple(
    f"{task}-k0{shape}" for task in ("root", "masked")
    for shape in ("", "-heads2", "-heads4", "-layers3", "-layers5")
)
"""Both tasks on the full hierarchy: a tree of depth 4 by 1, 2, 4 heads, and by 3, 4, 5 layers."""

PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        preset="tiny", depth=3, d_model=32, d_mlp=64, lr=4e-3, warmup=30,
        models=("root-k0", "root-k3", "masked-k0-heads4"),
        root_steps=500, root_filtered_steps=120, masked_steps=250,
        n_checkpoints=8, n_eval=300, n_attention=200, n_null=400, n_probe=150, probe_epochs=4,
        n_locate=96, mask_seeds=3, mask_steps=12,
    ),
    "laptop": Settings(  # checked on seed and grammar 100
        preset="laptop", root_filtered_steps=1_300, masked_steps=2_800, variant_steps=1_700,
        n_probe=1_200,
        models=(
            "root-k0", "root-k3", "masked-k0", "masked-k0-heads4", "root-k0-depth2",
            "root-k0-depth3",
        ),
    ),
    "full": Settings(
        preset="full", device="cuda", d_model=128, d_mlp=512, batch=256, lr=1e-3, warmup=500,
        models=FULL_MODELS,
        root_steps=20_000, root_filtered_steps=10_000, masked_steps=40_000,
        masked_filtered_steps=20_000, n_checkpoints=24, n_eval=4_000, n_attention=2_000,
        n_null=2_000, n_probe=4_000, probe_epochs=30, n_locate=512, mask_seeds=12, mask_steps=300,
    ),
    "full-cpu": Settings(  # both tasks at every k, for one CPU core
        preset="full-cpu", variant_steps=6_000, models=FILTERED_MODELS,
        root_steps=6_000, root_filtered_steps=2_000, masked_steps=14_000,
        masked_filtered_steps=3_000, n_checkpoints=18, n_eval=1_500, n_attention=1_000,
        n_probe=2_000, n_locate=512, mask_seeds=8, mask_steps=100,
    ),
    "shapes": Settings(  # heads and layers, all trained equally long, for one CPU core
        preset="shapes", models=SHAPE_MODELS, root_steps=6_000, masked_steps=8_000,
        n_checkpoints=12, n_eval=1_500, n_attention=1_000, n_probe=2_000, n_locate=512,
        mask_seeds=8, mask_steps=100,
    ),
    "paper": Settings(
        preset="paper", device="cuda", d_model=128, d_mlp=2_048, norm="post",
        positions="sinusoidal", batch=32, lr=1e-4, warmup=1, decay=False, max_masks=1,
        n_train=2**18,
        models=FILTERED_MODELS,
        root_steps=200 * 2**18 // 32, root_filtered_steps=200 * 2**18 // 32,
        masked_steps=2_000 * 2**18 // 32, masked_filtered_steps=2_000 * 2**18 // 32,
        n_checkpoints=40, n_eval=4_000, n_attention=2_000, n_null=2_000, n_probe=4_000,
        probe_epochs=30, n_locate=512, mask_seeds=12, mask_steps=300,
    ),
}
