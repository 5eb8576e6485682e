"""The command ``mechprobe``: its words, and the part that does what they say."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mechprobe import __version__
from mechprobe.cli import listing, pretrain, report, run, selfcheck, sweep
from mechprobe.cli.options import refuse_huge_numbers
from mechprobe.cli.parser import DATA, Parser, check_folder
from mechprobe.errors import InputError
from mechprobe.locate import command as locate_command
from mechprobe.studies import STUDIES, Study, choose, nearest, option
from mechprobe.studies.mask_speed import command as bench_command

COMMANDS = (
    "list", "run", "sweep", "gather", "report", "locate", "selfcheck", "pretrain", "bench",
)
OWN = ("--preset", "--out", "--dry-run", "--record", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 when stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(words)
    except InputError as error:
        print("mechprobe: error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmechprobe: stopped; what is finished is kept, and the same command goes on from "
              "there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # ``mechprobe list | head``: nobody reads on, and that is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def dispatch(words: list[str]) -> int:
    """Do what the words say; raises InputError for words or files that cannot work."""
    study = None
    if words and not words[0].startswith("-"):
        choose(words[0], dict.fromkeys(COMMANDS), "command")
    if words[:1] == ["run"] and len(words) > 1 and not words[1].startswith("-"):
        study = choose(words[1], STUDIES, "study")
    given, strange = build_parser(study, words[2:]).parse_known_args(words)
    if strange:
        raise InputError(_strange(strange[0], study))
    refuse_huge_numbers(vars(given))
    if getattr(given, "out", None) is not None:
        given.out = given.out.expanduser()
    match given.command:
        case "list":
            return listing.list_all()
        case "report":
            return report.run(given)
        case "sweep":
            return sweep.run(given, words)
        case "gather":
            return sweep.gather(given, words)
        case "selfcheck":
            return selfcheck.run(given)
        case "locate":
            _check_out(given.out)
            data = os.environ.get(DATA)
            return locate_command.run(given, Path(data) if data else None)
        case "pretrain":
            return pretrain.run(given)
        case "bench":
            _check_out(given.out)
            return bench_command.run(given)
    assert study is not None
    return run.run(study, given, words)


def build_parser(study: Study | None = None, words: Sequence[str] = ()) -> Parser:
    """The parser; a study's options show the values of the preset and pair in ``words``."""
    top = Parser(
        prog="mechprobe", allow_abbrev=False,
        description="Open and close components of a frozen transformer and measure what happens.",
    )
    top.add_argument("--version", action="version", version=f"mechprobe {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("list", help="studies with their presets, and task cards")
    runs = commands.add_parser("run", help="run a study, or go on with a run that was stopped")
    studies = runs.add_subparsers(dest="study", metavar="STUDY", required=True)
    for known in STUDIES.values():
        options = studies.add_parser(
            known.name, help=known.summary, description=f"{known.name}: {known.summary}.",
            usage="%(prog)s [--preset NAME] [--out DIR] [options]", allow_abbrev=False,
        )
        if study is not None and known == study:
            run.add_options(options, study, words)
    sweep.add_options(commands.add_parser(
        "sweep", help="run a study over seeds and settings, on many processes or machines",
        allow_abbrev=False,
    ))
    sweep.add_gather_options(commands.add_parser(
        "gather", help="put the shares of a sweep together: reports, and tables of all its runs",
        allow_abbrev=False,
    ))
    trains = commands.add_parser(
        "pretrain", help="train a small language model on text files", allow_abbrev=False
    )
    pretrain.add_options(trains)
    report.add_options(commands.add_parser(
        "report", help="build report.html again, or put two runs side by side", allow_abbrev=False
    ))
    locate_command.add_options(commands.add_parser(
        "locate", help="which heads of a language model are behind a behaviour",
        allow_abbrev=False,
    ))
    bench_command.add_options(commands.add_parser(
        "bench", help="time the engine beside what one would use instead", allow_abbrev=False
    ))
    checks = commands.add_parser(
        "selfcheck", help="run every localiser on circuits whose truth is known", allow_abbrev=False
    )
    selfcheck.add_options(checks)
    return top


def _check_out(out: Path | None) -> None:
    if out is not None:
        check_folder("--out", out)


def _strange(word: str, study: Study | None) -> str:
    if not word.startswith("-") or study is None:
        return f"unexpected argument {word!r}; see mechprobe --help"
    known = [*OWN, *(option(f.name) for f in dataclasses.fields(study.settings))]
    return f"unknown option {word!r}; {nearest(word.partition('=')[0], known)}"
