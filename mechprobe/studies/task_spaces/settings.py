"""Settings of the task-space study and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; sizes in pairs, tokens, steps."""

    preset: str = _option("laptop", "name of the preset these settings started from")
    seed: int = _option(0, "base seed of pairs, text, models and tuning")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    threads: int = _option(0, "CPU threads; 0 keeps torch's own choice")

    pairs: str = _option("own", "minimal pairs: own (templates) or blimp (67 paradigms)")
    data_dir: str | None = _option(
        None, "folder with a local copy of BLiMP and of the text; without it BLiMP is from the hub"
    )
    paradigms: tuple[str, ...] = _option((), "only these paradigms; empty = all")
    unknown: str = _option(
        "raise", "pairs with a word outside a vocabulary: raise, keep (as unknown), drop"
    )
    n_pairs: int = _option(400, "pairs own: pairs generated of each paradigm")
    n_tune: int = _option(0, "tuning pairs of a paradigm at most; 0 = all of its part")
    n_eval: int = _option(
        0, "evaluation pairs of a paradigm at most that tuned models are scored on; 0 = all"
    )

    models: tuple[str, ...] = _option(
        (), "folders of `mechprobe pretrain`, or models (folder, file, hub name); empty = train "
        "--sizes"
    )
    sizes: tuple[str, ...] = _option(("0.1M",), "sizes of the models trained here, small first")
    text: tuple[str, ...] = _option(
        (), "text to train on: files or folders; empty = own sentences (pairs own), or text/ of "
        "the data folder"
    )
    n_text: int = _option(20_000, "own sentences to train on")
    file_limit: int = _option(2_500_000, "characters read of each text file; 0 = all")
    vocabulary: str = _option("word", "vocabulary of the models trained here: word or bpe")
    n_vocabulary: int = _option(1_000, "its tokens")
    n_ctx: int = _option(32, "context of the models trained here")
    train_steps: int = _option(1_500, "training steps")
    train_batch: int = _option(32, "rows a training step")
    train_lr: float = _option(2e-3, "peak learning rate of Adam")
    precision: str = _option("float32", "training in float32 or bfloat16")
    n_checkpoints: int = _option(4, "saved points of training, on a logarithmic grid")
    first_checkpoint: float = _option(0.1, "the first of them, as a share of the training")
    n_spaces: int = _option(2, "how many of the last checkpoints get a whole transfer space")

    objective: str = _option("difference", "tuned on: difference, or acceptable (fine-tuning)")
    hinge: float | None = _option(
        2.0, "margin (nats) at which a pair stops counting; none = the plain difference"
    )
    top: float = _option(0.01, "share of the weights that may change, those of largest gradient")
    remask: bool = _option(False, "choose them again at every step")
    optimiser: str = _option("sgd", "sgd or adam")
    lr: float = _option(0.004, "learning rate of tuning")
    steps: int = _option(20, "tuning steps")
    batch: int = _option(32, "pairs a tuning step; 0 = all")
    per_token: bool = _option(False, "tune on the mean log-probability of a token, not the sum")
    exclude: tuple[str, ...] = _option((), "parameters that stay: words in their names, e.g. embed")
    stop: float | None = _option(
        None, "accuracy on the validation pairs at which tuning stops; none = after --steps"
    )
    batch_tokens: int = _option(2_048, "padded tokens scored at once; a GPU wants more")

    scale: str = _option(
        "log_odds", "transfer that is judged: log_odds (nats), raw (accuracy), headroom"
    )
    top_overlap: float = _option(0.01, "share of the weights compared between tasks")
    gradient_gib: float = _option(
        4.0, "memory for gradients in GiB; where it is short, gradients are taken again for it"
    )
    map: str = _option("mds", "tasks in the plane: mds, pca, or umap (needs umap-learn)")
    regime_tasks: int = _option(12, "tasks on which kinds of tuning are compared; 0 = none")
    regime_model: str = _option(
        "", "size or model on which they are compared; empty = the last, which costs most"
    )
    regime_lrs: tuple[float, ...] = _option(
        (0.0002, 0.0005, 0.001, 0.002, 0.008, 0.05, 0.4), "learning rates of that comparison"
    )
    budget: float = _option(1.1, "largest perplexity ratio that counts as held down")
    n_null: int = _option(2_000, "permutations of each test")
    n_boot: int = _option(500, "bootstrap draws of each interval")


PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        preset="tiny", n_pairs=60, n_text=4_000, train_steps=120, train_batch=16, n_checkpoints=3,
        n_spaces=1, steps=5, regime_tasks=2, regime_lrs=(0.004, 0.02), n_null=200, n_boot=100,
        paradigms=(
            "agreement_copula", "agreement_verb", "anaphor_gender", "anaphor_number",
            "determiner_this", "determiner_that", "npi_ever", "npi_any",
        ),
    ),
    "laptop": Settings(preset="laptop"),  # chosen on seed 100
    "real": Settings(
        preset="real", pairs="blimp", sizes=("0.3M", "1M", "4M"), vocabulary="bpe",
        n_vocabulary=2_048, n_ctx=64, train_steps=1_200, precision="bfloat16", n_checkpoints=4,
        first_checkpoint=0.02, n_spaces=1, n_tune=24, n_eval=8, steps=6, batch=16, lr=0.012,
        file_limit=4_000_000, regime_model="0.3M", regime_tasks=8,
        regime_lrs=(0.0005, 0.002, 0.005, 0.01, 0.05, 0.1, 0.4),
    ),  # tuning's learning rate: reserve pairs of five paradigms, the smallest model
    "paper": Settings(
        preset="paper", pairs="blimp", models=(
            "EleutherAI/pythia-70m-deduped", "gpt2", "EleutherAI/pythia-160m-deduped",
        ), device="cuda", steps=20, batch=50, n_spaces=1, batch_tokens=65_536, gradient_gib=16.0,
    ),
}


def reads_files(settings: Settings) -> bool:
    """Whether the settings' data come from files or the hub, not from templates."""
    return settings.pairs == "blimp"
