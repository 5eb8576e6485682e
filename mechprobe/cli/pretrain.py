"""``mechprobe pretrain``: train a small language model on text files."""

from __future__ import annotations

import argparse
import dataclasses
import os
import typing
from pathlib import Path
from typing import Any

from mechprobe.cli.options import add_setting
from mechprobe.cli.parser import DATA, Parser, check_folder, folder


def add_options(parser: Parser) -> None:
    """Give a parser the options of ``mechprobe pretrain``."""
    from mechprobe.training.pretrain_settings import PretrainSettings

    parser.add_argument(
        "--out", metavar="DIR", type=folder,
        help="folder of the training; an unfinished one is continued (default: runs/lm-SIZE)",
    )
    settings = parser.add_argument_group("settings")
    hints = typing.get_type_hints(PretrainSettings)
    for field in dataclasses.fields(PretrainSettings):
        add_setting(settings, field, hints[field.name], field.default)


def run(given: argparse.Namespace) -> int:
    """Train a language model, or go on with one, and print the perplexity at its checkpoints."""
    from mechprobe.training.pretrain import check_pretrain, pretrain
    from mechprobe.training.pretrain_settings import PretrainSettings

    names = {field.name for field in dataclasses.fields(PretrainSettings)}
    values: dict[str, Any] = {k: v for k, v in vars(given).items() if k in names}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    if "text" not in values and os.environ.get(DATA):
        values["text"] = (str(Path(os.environ[DATA]) / "text"),)
    settings = PretrainSettings(**values)
    check_pretrain(settings)
    out = given.out or Path("runs") / f"lm-{settings.size}"
    check_folder("--out", out)
    done = pretrain(settings, out)
    print(done.perplexity.to_string(index=False))
    print(f"model: {done.path(done.steps[-1])}")
    return 0
