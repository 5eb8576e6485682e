"""Settings of the topology study and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OWN, EWT, PUD, COLA = "own", "ewt", "pud", "cola"


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; sizes in sentences, steps, directions."""

    preset: str = _option("laptop", "name of the preset these settings started from")
    seed: int = _option(0, "base seed of data, models, probes and resamples")
    device: str = _option("cpu", "torch device: cpu, cuda, cuda:0, ...")
    threads: int = _option(0, "CPU threads; 0 keeps torch's own choice")

    treebank: str = _option(
        OWN, "sentences with trees: own (generated), ewt (UD English EWT), or the path of a "
        ".conllu file (.gz, .xz), of which a tenth each is held out for choosing and for testing"
    )
    second: str | None = _option(
        None, "a second treebank that is only scored: pud, ewt, or the path of a .conllu file"
    )
    data_dir: str | None = _option(
        None, "folder with local copies of EWT, PUD and CoLA; without it they come from the hub"
    )
    n_train: int = _option(1_000, "sentences the probes are trained on")
    n_dev: int = _option(400, "sentences that stop the probes and choose streams")
    n_test: int = _option(400, "sentences that every reported number is taken on")
    n_second: int = _option(400, "sentences of the second treebank")

    encoder: str | None = _option(
        None, "minilm, a hub name or a local folder; none trains a small encoder first"
    )
    n_layers: int = _option(4, "layers of the encoder trained here")
    n_heads: int = _option(4, "heads a layer of the encoder trained here")
    d_model: int = _option(64, "width of the encoder trained here")
    d_mlp: int = _option(128, "MLP width of the encoder trained here")
    n_pretrain: int = _option(8_000, "generated sentences the encoder is trained on")
    pretrain_steps: int = _option(
        1_000, "steps in which the encoder learns to lay its words out as the tree"
    )
    pretrain_batch: int = _option(32, "sentences a step")
    pretrain_lr: float = _option(3e-3, "peak learning rate of Adam")

    parts: tuple[str, ...] = _option(
        ("resid", "attn_out", "mlp_out"), "which vectors of each layer are probed"
    )
    n_untrained: int = _option(2, "untrained models of the same shape, the null of every score")
    released_masking: bool = _option(
        False, "average topology metrics over all tokens, as the code released with the paper does"
    )
    distance_rank: int = _option(64, "columns of B in distance probes")
    topology_rank: int = _option(0, "columns of B in topology probes; 0 = half the width")
    topology_ranks: tuple[int, ...] = _option(
        (), "other numbers of columns with which X_ssp of the residual stream is compared"
    )
    probe_lr: float = _option(1e-3, "learning rate of Adam for probes")
    probe_batch: int = _option(20, "sentences a probe step")
    probe_epochs: int = _option(40, "passes over the training sentences at most")
    mlp_probes: bool = _option(True, "also MLP probes of parts of speech and their control")

    n_heads_tested: int = _option(
        0, "heads that are closed one by one; 0 = all, -1 = none"
    )
    n_head_sentences: int = _option(150, "test sentences on which heads are closed")
    n_turns: int = _option(3, "random turns of each head's output that closing is compared with")

    finetune: str = _option(
        OWN, "task of the regulariser: own (word order), cola, or none"
    )
    finetune_streams: tuple[str, ...] = _option(
        ("resid.2",), "where the regulariser acts, each a condition of its own"
    )
    finetune_probe: str = _option("frozen", "the regulariser's probe while fine-tuning: frozen, "
                                  "or trained with the model")
    finetune_weight: float = _option(10.0, "lambda of the regulariser")
    finetune_seeds: int = _option(3, "fine-tuned models a condition")
    n_finetune: int = _option(2_000, "sentences of the task")
    finetune_steps: int = _option(200, "steps of fine-tuning")
    finetune_batch: int = _option(32, "sentences a step")
    finetune_lr: float = _option(1e-3, "peak learning rate of AdamW")

    n_boot: int = _option(1_000, "resamples of sentences behind each interval")


PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        preset="tiny", n_train=120, n_dev=60, n_test=60, n_layers=2, n_heads=2, d_model=32,
        d_mlp=64, n_pretrain=400, pretrain_steps=60, n_untrained=1, probe_epochs=3,
        distance_rank=16, n_head_sentences=30, n_turns=2, topology_ranks=(4,),
        finetune_streams=("resid.1",), finetune_seeds=2, n_finetune=200, finetune_steps=12,
        n_boot=200, mlp_probes=False,
    ),
    "laptop": Settings(
        preset="laptop", n_train=600, n_dev=250, n_test=300, pretrain_steps=800, n_untrained=1,
        probe_epochs=25, topology_ranks=(8, 64), n_head_sentences=80, n_turns=2, finetune_seeds=4,
        n_finetune=1_500, finetune_steps=100,
    ),
    "real": Settings(
        preset="real", treebank=EWT, second=PUD, encoder="minilm", n_train=2_000, n_dev=600,
        n_test=600, n_second=500, n_untrained=1, topology_rank=96, topology_ranks=(24, 192),
        probe_epochs=20, n_heads_tested=24, n_head_sentences=60, n_turns=2, finetune=COLA,
        finetune_seeds=5, finetune_streams=("resid.3",), n_finetune=8_551, finetune_steps=804,
        finetune_lr=2e-5,
    ),
    "paper": Settings(  # the sentences of the paper's own runs and its tables were not available
        preset="paper", treebank=EWT, second=PUD, encoder="bert-large-uncased", n_layers=24,
        n_heads=16, d_model=1_024, d_mlp=4_096, n_train=12_544, n_dev=2_001, n_test=2_077,
        n_second=1_000, topology_rank=512, topology_ranks=(64, 256), distance_rank=1_024,
        n_head_sentences=500, finetune=COLA,
        finetune_streams=tuple(f"resid.{layer}" for layer in range(1, 25)),
        finetune_seeds=10, n_finetune=8_551, finetune_steps=804, finetune_lr=2e-5, device="cuda",
    ),
}


def reads_files(settings: Settings) -> bool:
    """Whether EWT, PUD or CoLA are read, from files or from the hub."""
    return (
        settings.treebank == EWT
        or settings.second in (EWT, PUD)
        or settings.finetune == COLA
    )
