"""``mechprobe report``: a run's report built again, or two runs side by side."""

from __future__ import annotations

import argparse

from mechprobe.cli.parser import Parser, folder
from mechprobe.errors import InputError


def add_options(parser: Parser) -> None:
    """Give a parser the options of ``mechprobe report``."""
    folders = parser.add_mutually_exclusive_group(required=True)
    folders.add_argument(
        "folder", metavar="DIR", type=folder, nargs="?", help="folder of a finished run"
    )
    folders.add_argument(
        "--compare", metavar=("A", "B"), type=folder, nargs=2,
        help="two runs of one study on one page: verdicts, settings that differ, tables, figures",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=folder,
        help="the page of --compare (default: compare-A-B.html beside A)",
    )


def run(given: argparse.Namespace) -> int:
    """Build the page, and print where it is."""
    from mechprobe.show.compare import compare_runs
    from mechprobe.show.report import build_report

    if given.compare:
        first, second = given.compare
        page = compare_runs(first, second, given.out)
    elif given.out is not None:
        raise InputError("--out is for --compare A B; a run's report stands in its own folder")
    else:
        page = build_report(given.folder)
    print(f"report: {page}")
    return 0
