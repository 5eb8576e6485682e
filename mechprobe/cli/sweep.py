"""``mechprobe sweep`` and ``mechprobe gather``: a study over a grid of settings."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import typing
from pathlib import Path
from typing import Any

from mechprobe.cli.options import read_values, refuse_huge_numbers
from mechprobe.cli.parser import DATA, Parser, check_folder, folder
from mechprobe.cli.run import on_this_machine
from mechprobe.errors import InputError
from mechprobe.studies import STUDIES, Study, choose

ENGINES = ("local", "ray")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def add_options(parser: Parser) -> None:
    """Give a parser the options of ``mechprobe sweep``."""
    parser.add_argument("study", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--preset", metavar="NAME", help="of the study (default: its default)")
    parser.add_argument(
        "--seeds", metavar="A..B", type=read_seeds, default=None,
        help="seeds of the runs: 0..4, or 0,3,7 (default: the preset's)",
    )
    parser.add_argument(
        "--set", metavar="NAME=V1,V2", action="append", default=[], dest="axes",
        help="values of a setting, separated by commas; a run for every combination; a setting "
        "that is a list takes words: 'sparsities=0.3 0.5,0.7' has two values",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=folder,
        help="folder of the sweep, a run folder for each run in it; finished units in it are not "
        "computed again (default: runs/sweep-STUDY-PRESET)",
    )
    parser.add_argument(
        "--shard", metavar="I/N", type=read_shard,
        help="compute the I-th of N shares (1 to N) and make no report; then mechprobe gather",
    )
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print runs, units, forwards, memory and hours, and stop",
    )
    _add_engine(parser)


def add_gather_options(parser: Parser) -> None:
    """Give a parser the options of ``mechprobe gather``."""
    parser.add_argument("folder", metavar="DIR", type=folder, help="folder of the sweep")
    parser.add_argument(
        "sources", metavar="SHARE", type=folder, nargs="*",
        help="folders of shares that were computed elsewhere; their units are copied into DIR",
    )
    _add_engine(parser)


def run(given: argparse.Namespace, words: list[str]) -> int:
    """Run a sweep, or a share of it; 1 when something failed."""
    from mechprobe.studies.sweep.cost import dry_run
    from mechprobe.studies.sweep.gather import join_tables
    from mechprobe.studies.sweep.plan import Plan
    from mechprobe.studies.sweep.sweep import run_sweep

    study: Study = choose(given.study, STUDIES, "study")
    preset = study.default_preset if given.preset is None else given.preset
    plan = Plan(study, tuple(jobs(study, preset, given)))
    engine = _engine(given)
    if given.dry_run:
        local = [(job, on_this_machine(job.settings)) for job in plan.jobs]
        for _, settings in local:
            study.check(settings)
        print(dry_run(study, local, engine.workers, given.shard))
        return 0
    out = given.out or Path("runs") / f"sweep-{study.name}-{preset}"
    check_folder("--out", out)
    command = shlex.join(["mechprobe", *words])
    errors = run_sweep(plan, out, engine, command=command, part=given.shard)
    if given.shard is None and not errors:
        join_tables(plan, out)
    return _told(errors, out, given.shard)


def gather(given: argparse.Namespace, words: list[str]) -> int:
    """Put the shares of a sweep together; 1 when something failed."""
    from mechprobe.studies.sweep.gather import gather
    from mechprobe.studies.sweep.plan import read_plan

    plan = read_plan(given.folder)
    errors = gather(
        plan, given.folder, _engine(given), sources=given.sources,
        command=shlex.join(["mechprobe", *words]),
    )
    return _told(errors, given.folder, None)


def jobs(study: Study, preset: str, given: argparse.Namespace) -> list[Any]:
    """The runs that the options ask for."""
    from mechprobe.studies.sweep.grid import grid

    hints = typing.get_type_hints(study.settings)
    axes: dict[str, Any] = {} if given.seeds is None else {"seed": given.seeds}
    for text in given.axes:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise InputError(f"--set {text!r} has no '='; write NAME=V1,V2")
        if name in axes:
            raise InputError(f"{name} is given twice; put all its values into one --set")
        axes[name] = read_values(hints[name], name, values) if name in hints else (values,)
    refuse_huge_numbers(axes)
    return grid(study, preset, axes, data_dir=os.environ.get(DATA))


def read_seeds(text: str) -> tuple[int, ...]:
    """Seeds written as a range with both ends, or with commas."""
    if found := _RANGE.fullmatch(text):
        first, last = int(found[1]), int(found[2])
        if last - first >= 100_000:
            raise argparse.ArgumentTypeError(f"{text!r} is more than 100,000 seeds")
        seeds = tuple(range(first, last + 1))
    else:
        seeds = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
        seeds = seeds if len(seeds) == text.count(",") + 1 else ()
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds; write 0..4 or 0,3,7")
    return seeds


def read_shard(text: str) -> tuple[int, int]:
    """Which of how many shares, both from 1."""
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise argparse.ArgumentTypeError(f"{text!r} is no share; write 1/4, 2/4, ... 4/4")


def _add_engine(parser: Parser) -> None:
    parser.add_argument("--workers", metavar="N", type=int, default=1,
                        help="processes at a time (default: 1)")  # fmt: skip
    parser.add_argument(
        "--engine", choices=ENGINES, default="local",
        help="local processes, or Ray (extra cluster; default: local)",
    )
    parser.add_argument("--address", metavar="ADDRESS", default="local",
                        help="of a Ray cluster that is there; local starts Ray here")  # fmt: skip
    parser.add_argument("--gpus", metavar="X", type=float, default=0.0,
                        help="GPUs of each Ray worker; 0.5 lets two share one")  # fmt: skip


def _engine(given: argparse.Namespace) -> Any:
    from mechprobe.studies.sweep.sweep import Engine

    if given.workers < 1 or not 0 <= given.gpus < float("inf"):
        raise InputError(f"--workers {given.workers} --gpus {given.gpus:g}; give 1 worker or more, "
                         "and 0 GPUs or more")
    if given.engine == "local" and (given.gpus or given.address != "local"):
        raise InputError("--gpus and --address are for --engine ray; local processes take the "
                         "study's --set device=cuda")
    return Engine(given.engine, given.workers, given.address, given.gpus)


def _told(errors: dict[str, str], out: Path, part: tuple[int, int] | None) -> int:
    for key, error in errors.items():
        print(f"mechprobe: failed: {key}: {error}", file=sys.stderr)
    if errors:
        print(f"mechprobe: error: {len(errors)} units failed or were left out; what is finished is "
              f"kept, and what the workers printed is in {out / 'logs'}", file=sys.stderr)
        return 1
    if part is not None:
        print(f"share {part[0]} of {part[1]} is there; when all are: mechprobe gather {out}")
    else:
        print(f"tables of all runs: {out / 'tables'}; each run's report: {out}/*/report.html")
    return 0
