"""Long work in one process; prints the memory it holds on the way, KiB, as a JSON list.

Called as ``soak.py search STEPS FOLDER``, a mask search that logs and saves as a study's does, or
``soak.py loads N FOLDER``, a Hugging Face folder and one of ``save_model`` opened and run in turn.
"""

import json
import sys
from pathlib import Path

import torch

from mechprobe.gates.baselines import mean_baseline
from mechprobe.locate.mask_settings import held_settings
from mechprobe.locate.masks import Member, train_masks
from mechprobe.models import build_classifier, build_decoder, forward, load_model, site_grid
from mechprobe.models.save import save_model
from mechprobe.runs import Run
from mechprobe.tasks.batches import Batch

EVERY = 100  # steps between two looks


def resident() -> int:
    """KiB that this process holds in memory (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def some_batch(rows: int, length: int, seed: int = 0) -> Batch:
    tokens = torch.randint(0, 50, (rows, length), generator=torch.Generator().manual_seed(seed))
    one, index = torch.ones_like(tokens), torch.arange(rows)
    return Batch(tokens, 0 * one, one, index % 2, index)


def search(steps: int, folder: Path) -> list[int]:
    """Resident memory every 100 steps of a search."""
    model = build_classifier(("no", "yes"), None, n_layers=2, n_heads=2, d_model=16, n_ctx=8,
                             d_vocab=50)  # fmt: skip
    grid, batches = site_grid(model), [some_batch(8, 8, seed) for seed in range(4)]
    members, held = [Member(seed, 0.5) for seed in range(3)], []
    with Run.open(folder / "run", {"study": "soak"}) as run:

        def on_step(step: int, report: dict[str, list[float]]) -> None:
            if step % 10 == 0:
                run.log("masks", step, loss=report["loss"][0])
            if step % EVERY == 0:
                held.append(resident())

        train_masks(
            model, batches, members, grid, mean_baseline(model, batches, grid),
            held_settings(steps), store=run.checkpoint("masks"), on_step=on_step,
        )
    return held


def loads(n: int, folder: Path) -> list[int]:
    """Resident memory after each opened model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layers": 4, "n_heads": 4, "d_model": 128, "d_vocab": 500, "n_ctx": 32}
    save_model(build_decoder(**sizes), folder / "ours")
    config = GPT2Config(
        n_layer=4, n_head=4, n_embd=128, vocab_size=500, n_positions=32, bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder / "theirs")
    held, batch = [], some_batch(2, 8)
    for i in range(n):
        model = load_model(folder / ("ours", "theirs")[i % 2])
        with torch.no_grad():
            forward(model, batch)
        del model
        held.append(resident())
    return held


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, count, place = sys.argv[1:]
    print(json.dumps({"search": search, "loads": loads}[kind](int(count), Path(place))))
