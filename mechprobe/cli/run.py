"""``mechprobe run``: the options of a study, and a run of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechprobe.cli.options import add_setting
from mechprobe.cli.parser import DATA, Parser, check_folder, folder
from mechprobe.studies import Study


def add_options(parser: Parser, study: Study, words: Sequence[str]) -> None:
    """Give a parser the options of one study; ``words`` choose the preset and pair shown."""
    first = Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=study.default_preset)
    first.add_argument("--pair", default=argparse.SUPPRESS)
    seen = vars(first.parse_known_args(words)[0])
    preset = seen.pop("preset")
    shown = study.settle(preset, seen)
    parser.add_argument(
        "--preset", default=preset, metavar="NAME",
        help=f"{', '.join(study.presets)} (default: {study.default_preset})",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=folder, default=_default_out(study, preset, shown),
        help="run folder; an unfinished run in it is continued (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true",
        help="build everything with random weights, print forwards, memory and hours, and stop",
    )
    parser.add_argument(
        "--record", metavar="DIR", type=folder,
        help="copy summary, settings, tables and pictures there when the run is finished",
    )
    settings = parser.add_argument_group(f"settings, with the values of preset {preset}")
    hints = typing.get_type_hints(study.settings)
    for field in dataclasses.fields(study.settings):
        if field.name != "preset":
            add_setting(settings, field, hints[field.name], getattr(shown, field.name))


def _default_out(study: Study, preset: str, settings: Any) -> Path:
    pair = getattr(settings, "pair", None)  # some studies have one kind of data only
    other = "" if pair == getattr(study.presets[preset], "pair", None) else f"-{pair}"
    return Path("runs") / f"{study.name}-{preset}{other}"


def run(study: Study, given: argparse.Namespace, words: list[str]) -> int:
    """Run a study as the options say, and print where its report is."""
    settings = settings_of(study, given)
    data = getattr(settings, "data_dir", None)
    if "data_dir" not in given and data is not None:
        words = [*words, "--data-dir", data]
        print(f"mechprobe: data from {data} ({DATA}); --data-dir none takes the hub",
              file=sys.stderr)
    if given.dry_run:
        settings = settings if "device" in given else on_this_machine(settings)
        study.check(settings)
        print(study.dry_run(settings))
        return 0
    check_folder("--out", given.out)
    if given.record is not None:
        check_folder("--record", given.record)
        if given.record.is_dir():
            from mechprobe.show.record import check_target

            check_target(given.record)
    study.check(settings)
    from mechprobe.studies.together import run_launched

    page = run_launched(study, settings, given.out, shlex.join(["mechprobe", *words]))
    if page is None:  # one of several processes, and not the first
        return 0
    if given.record is not None:
        from mechprobe.show.report import write_summary

        print(f"record: {write_summary(given.out, given.record)}")
    print(f"report: {page}")
    return 0


def settings_of(study: Study, given: argparse.Namespace) -> Any:
    """The preset, moved to the given pair, with the given options and MECHPROBE_DATA over it."""
    names = {field.name for field in dataclasses.fields(study.settings)} - {"preset"}
    values = {name: value for name, value in vars(given).items() if name in names}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    settings = study.settle(given.preset, values)
    data = os.environ.get(DATA)
    if data and "data_dir" not in given and study.reads_files(settings):
        return dataclasses.replace(settings, data_dir=data)
    return settings


def on_this_machine(settings: Any) -> Any:
    """For a dry run, the CPU in place of a preset's GPU that is not here."""
    import torch

    if not settings.device.startswith("cuda") or torch.cuda.is_available():
        return settings
    print("mechprobe: no CUDA device here; times are this machine's CPU's", file=sys.stderr)
    return dataclasses.replace(settings, device="cpu")
