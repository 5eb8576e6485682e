"""The command ``mechprobe``: list what there is, run a study, build a report again."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shlex
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mechprobe import __version__
from mechprobe.errors import InputError
from mechprobe.locate import command as locate_command
from mechprobe.studies import STUDIES, Study, choose, nearest, option
from mechprobe.studies.mask_speed import command as bench_command

DATA = "MECHPROBE_DATA"
COMMANDS = ("list", "run", "report", "locate", "selfcheck", "pretrain", "bench")
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
    match given.command:
        case "list":
            return list_all()
        case "report":
            return report(given.folder)
        case "selfcheck":
            return selfcheck(given)
        case "locate":
            folder = os.environ.get(DATA)
            if given.out is not None:
                check_folder("--out", given.out)
            return locate_command.run(given, Path(folder) if folder else None)
        case "pretrain":
            return pretrain(given)
        case "bench":
            return bench_command.run(given)
    assert study is not None
    return run(study, given, words)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


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
            _add_run_options(options, study, words)
    trains = commands.add_parser(
        "pretrain", help="train a small language model on text files", allow_abbrev=False
    )
    _add_pretrain_options(trains)
    again = commands.add_parser("report", help="build report.html again from a run folder")
    again.add_argument("folder", metavar="DIR", type=_folder, help="folder of a finished run")
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
    checks.add_argument(
        "--cases", metavar="DIR", type=_folder,
        help=f"folder of compiled case folders (default: planted/ in {DATA}, where that is set)",
    )
    checks.add_argument("--seed", type=int, default=0, help="of examples, models and masks")
    checks.add_argument(
        "--trained", action=argparse.BooleanOptionalAction, default=True,
        help="also train a small induction model (about half a minute)",
    )
    checks.add_argument(
        "--record", metavar="DIR", type=_folder,
        help="also write the table (summary.md) and every method on every case (detail.csv) here",
    )
    return top


def pretrain(given: argparse.Namespace) -> int:
    """Train a language model, or go on with one, and print the perplexity at its checkpoints."""
    from mechprobe.training.pretrain import check_pretrain, pretrain
    from mechprobe.training.pretrain_settings import PretrainSettings

    names = {field.name for field in dataclasses.fields(PretrainSettings)}
    values = {name: value for name, value in vars(given).items() if name in names}
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


def _add_pretrain_options(parser: Parser) -> None:
    from mechprobe.training.pretrain_settings import PretrainSettings

    parser.add_argument(
        "--out", metavar="DIR", type=_folder,
        help="folder of the training; an unfinished one is continued (default: runs/lm-SIZE)",
    )
    settings = parser.add_argument_group("settings")
    hints = typing.get_type_hints(PretrainSettings)
    for field in dataclasses.fields(PretrainSettings):
        _add_setting(settings, field, hints[field.name], field.default)


def selfcheck(given: argparse.Namespace) -> int:
    """Print what every localiser finds on planted circuits; 1 if the default finder misses one."""
    from mechprobe.planted import selfcheck as checks

    folder = given.cases
    if folder is None and os.environ.get(DATA):
        place = Path(os.environ[DATA]) / "planted"
        folder = place if place.is_dir() else None
    if given.seed < 0:
        raise InputError(f"--seed is {given.seed}; give 0 or more")
    cases = checks.collect_cases(folder, given.seed, trained=given.trained)
    detail = checks.selfcheck(cases, seed=given.seed)
    if given.record is not None:
        print(f"record: {checks.record(detail, given.seed, given.record)}")
    print(checks.as_markdown(checks.summary(detail)))
    rows = [{str(k): v for k, v in row.items()} for row in detail.to_dict("records")]
    mine = [row for row in rows if row["method"] == checks.FINDER]
    missed = [row for row in mine if not row["exact"]]
    for row in missed:
        print("missed: {case}, {set}: truth {truth}; found".format(**row),
              row["found"] or row["refused"])
    print(checks.conclusion(detail))
    return 1 if len(missed) else 0


def _add_run_options(parser: Parser, study: Study, words: Sequence[str]) -> None:
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
        "--out", metavar="DIR", type=_folder, default=_default_out(study, preset, shown),
        help="run folder; an unfinished run in it is continued (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true",
        help="build everything with random weights, print forwards, memory and hours, and stop",
    )
    parser.add_argument(
        "--record", metavar="DIR", type=_folder,
        help="copy summary, settings, tables and pictures there when the run is finished",
    )
    settings = parser.add_argument_group(f"settings, with the values of preset {preset}")
    hints = typing.get_type_hints(study.settings)
    for field in dataclasses.fields(study.settings):
        if field.name != "preset":
            _add_setting(settings, field, hints[field.name], getattr(shown, field.name))


def _add_setting(group: Any, field: dataclasses.Field, hint: Any, value: Any) -> None:
    """One option; absent from the parsed values when it is not given."""
    kind, many, optional = _kind(hint)
    text = f"{field.metadata['help']} (default: {_shown(value)})".replace("%", "%%")
    common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
    if kind is bool:
        group.add_argument(option(field.name), action=argparse.BooleanOptionalAction, **common)
    else:
        convert = _converter(kind, optional)
        metavar = {int: "N", float: "X"}.get(kind, "TEXT")
        extra = {"nargs": "*"} if many else {}
        group.add_argument(option(field.name), type=convert, metavar=metavar, **common, **extra)


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """Of a field's type: the plain type, whether it is a tuple of them, whether None is one."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        kind, many, _ = _kind(inner[0])
        return kind, many, True
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True, False
    return hint, False, False


def _converter(kind: type, optional: bool) -> Callable[[str], Any]:
    expected = {int: "a whole number", float: "a finite number"}.get(kind, "text")

    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
        if kind is float and not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return convert


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "empty"
    return "none" if value is None else str(value)


def _default_out(study: Study, preset: str, settings: Any) -> Path:
    pair = getattr(settings, "pair", None)  # some studies have one kind of data only
    other = "" if pair == getattr(study.presets[preset], "pair", None) else f"-{pair}"
    return Path("runs") / f"{study.name}-{preset}{other}"


def _strange(word: str, study: Study | None) -> str:
    if not word.startswith("-") or study is None:
        return f"unexpected argument {word!r}; see mechprobe --help"
    known = [*OWN, *(option(f.name) for f in dataclasses.fields(study.settings))]
    return f"unknown option {word!r}; {nearest(word.partition('=')[0], known)}"


def list_all() -> int:
    """Print the studies with their presets, and the task cards, one line each."""
    from mechprobe.tasks.cards import list_tasks, read_card

    print("studies, and their presets:")
    for study in STUDIES.values():
        print(f"  {study.name}: {study.summary} [{', '.join(study.presets)}]")
    print("task cards:")
    for name in list_tasks():
        print(f"  {name}: {read_card(name).get('title', '')}")
    return 0


def run(study: Study, given: argparse.Namespace, words: list[str]) -> int:
    """Run a study as the options say, and print where its report is."""
    settings = settings_of(study, given)
    folder = getattr(settings, "data_dir", None)
    if "data_dir" not in given and folder is not None:
        words = [*words, "--data-dir", folder]
        print(f"mechprobe: data from {folder} ({DATA}); --data-dir none takes the hub",
              file=sys.stderr)
    if given.dry_run:
        settings = settings if "device" in given else _on_this_machine(settings)
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
    page = study.run(settings, given.out, command=shlex.join(["mechprobe", *words]))
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
    folder = os.environ.get(DATA)
    if folder and "data_dir" not in given and study.reads_files(settings):
        return dataclasses.replace(settings, data_dir=folder)
    return settings


def _on_this_machine(settings: Any) -> Any:
    """For a dry run, the CPU in place of a preset's GPU that is not here."""
    import torch

    if not settings.device.startswith("cuda") or torch.cuda.is_available():
        return settings
    print("mechprobe: no CUDA device here; times are this machine's CPU's", file=sys.stderr)
    return dataclasses.replace(settings, device="cpu")


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def check_folder(name: str, folder: Path) -> None:
    """Raise InputError, before any work, where a folder cannot be made or written."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{name} {folder}: {place} is a file; give a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{name} {folder}: {place} cannot be written; give another folder")


def report(folder: Path) -> int:
    """Build the report of a run again, and print where it is."""
    from mechprobe.show.report import build_report

    print(f"report: {build_report(folder)}")
    return 0
