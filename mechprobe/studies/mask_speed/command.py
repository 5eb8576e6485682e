"""``mechprobe bench masks``: its options, and what it does with them. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from mechprobe.errors import InputError

SHAPES = ("small", "minilm", "bert-base", "gpt2", "sweep")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``mechprobe bench``."""
    parser.add_argument("what", choices=["masks"], help="gate vectors")
    parser.add_argument(
        "--shapes", nargs="*", choices=SHAPES, default=["small", "sweep"],
        help="models to time (default: small sweep; the others take many minutes)",
    )
    parser.add_argument("--closed", nargs="+", type=float, default=[0.0, 0.25, 0.5, 0.7],
                        help="shares of heads and MLPs closed")  # fmt: skip
    parser.add_argument(
        "--members", nargs="*", type=int, default=[],
        help="numbers of members by which the first shape is timed alone",
    )
    parser.add_argument("--layers", nargs="*", type=int, default=[],
                        help="depths at which the first shape is timed")  # fmt: skip
    parser.add_argument(
        "--search", type=Path, metavar="RUN",
        help="also time whole searches, complete published ones too (hours), on the first model of "
        "this heuristic-core run",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/mask-search"), metavar="DIR",
        help="where searches are kept and resumed (default: runs/mask-search)",
    )
    parser.add_argument(
        "--published", type=int, default=3, metavar="N",
        help="complete published searches, a seed each (default: 3)",
    )
    parser.add_argument(
        "--readme", type=Path, metavar="FILE",
        help="also write the table between its <!-- masks --> marks here",
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="add to the record here, and write masks.md from it")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Measure what the options say, and print (and keep) the page."""
    if given.repeats < 1 or given.threads < 1:
        raise InputError("--repeats and --threads are 1 or more")
    if any(not 0 <= share < 1 for share in given.closed):
        raise InputError(f"--closed takes shares from 0 to below 1, got {given.closed}")
    if any(number < 1 for number in (*given.members, *given.layers)):
        raise InputError("--members and --layers take numbers of 1 or more")
    if given.readme is not None and given.out is None:
        raise InputError("--readme shows a record; give --out too")
    import torch

    from mechprobe.studies.mask_speed.measure import measure
    from mechprobe.studies.mask_speed.record import Record

    if given.device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"--device {given.device}, but torch finds no CUDA device here; give cpu")
    torch.set_num_threads(given.threads)
    record = Record(given.out, given.device, given.repeats)
    measure(
        given.shapes, given.repeats, given.device, closed=given.closed, members=given.members,
        layers=given.layers, on_rows=record.add,
    )
    if given.search is not None:
        from mechprobe.studies.mask_speed.laptop import Laptop
        from mechprobe.studies.mask_speed.search import compare_searches

        compare_searches(
            Laptop(given.search), given.work, n_published=given.published, repeats=given.repeats,
            done=record.searched,
        )
    print(record.page())
    if given.readme is not None:
        record.show_in(given.readme)
    return 0
