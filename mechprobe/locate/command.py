"""The command ``mechprobe locate``: its options, and what it does with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mechprobe.errors import InputError

BASELINES = ("zero", "mean", "mean_position", "resample", "paired")
METHODS = ("ablate", "patch", "denoise", "attribute", "integrated", "masks", "direct")
STORIES = ("stories260K.bin", "stories260K.bin.xz", "stories260K.bin.gz")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``mechprobe locate``."""
    parser.add_argument("task", metavar="TASK", help="card of a behaviour, such as behaviours/ioi")
    parser.add_argument(
        "--model", metavar="NAME",
        help="hub name, local folder or llama2.c checkpoint (default: GPT-2 where its weights are "
        "on this machine, else models/stories260K.bin in MECHPROBE_DATA)",
    )
    parser.add_argument(
        "--method", nargs="+", choices=METHODS, default=["ablate"], metavar="METHOD",
        help=f"some of {', '.join(METHODS)} (default: ablate)",
    )
    parser.add_argument(
        "--baseline", default="mean", metavar="KIND",
        help="what stands in a closed head's place: zero, mean, mean_position, resample, paired "
        "(default: mean; patch and denoise always take paired)",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="heads of the tested set")
    parser.add_argument("--n", type=int, default=512, metavar="N", help="examples (default: 512)")
    parser.add_argument("--split", default="dev", metavar="NAME", help="train, dev or test")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of examples and nulls")
    parser.add_argument("--device", default=None, metavar="NAME", help="such as cpu or cuda")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write summary, tables, maps there")


def run(given: argparse.Namespace, data_dir: Path | None) -> int:
    """Measure the behaviour, localise it, and print what was found.

    Args:
        data_dir: folder of local models, for when none is named.

    Raises:
        InputError: a behaviour that is not above chance, and whatever else cannot be done.
    """
    if given.n < 4 or given.seed < 0:
        raise InputError(f"--n {given.n} --seed {given.seed}; give 4 examples or more, a seed >= 0")
    if given.baseline not in BASELINES:
        raise InputError(f"--baseline {given.baseline}; give one of {', '.join(BASELINES)}")
    from mechprobe.tasks import LanguageTask, load_task

    task = load_task(given.task, seed=given.seed)
    if isinstance(task, LanguageTask):
        task = load_task(given.task, seed=given.seed, n=given.n)
    from mechprobe.locate.localise import localise
    from mechprobe.models import load_model

    source = given.model or found_model(data_dir)
    print(f"mechprobe: model {source}", file=sys.stderr, flush=True)
    model = load_model(source, device=given.device)
    print(f"mechprobe: {given.task} by {', '.join(given.method)}", file=sys.stderr, flush=True)
    located = localise(
        model, task, given.method, baseline=given.baseline, top=given.top, split=given.split,
        n=given.n, seed=given.seed,
    )
    print(located.summary(), end="")
    if given.out is not None:
        print(f"written: {located.save(given.out)}")
    return 0


def found_model(data_dir: Path | None) -> str:
    """GPT-2's name where the hub's cache holds its weights, else the small checkpoint's path.

    Raises:
        InputError: neither is on this machine.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in ("openai-community/gpt2", "gpt2"):
        for file in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(try_to_load_from_cache(name, file), str):
                return name
    for name in STORIES:
        if data_dir is not None and (path := data_dir / "models" / name).is_file():
            return str(path)
    raise InputError(
        "neither GPT-2 nor the small language model is on this machine; give --model "
        "NAME_OR_FOLDER, train one with `mechprobe pretrain`, or set MECHPROBE_DATA to a "
        "folder with models/stories260K.bin (its card is behaviours/induction-names)"
    )
