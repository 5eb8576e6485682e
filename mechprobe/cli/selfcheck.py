"""``mechprobe selfcheck``: every localiser on circuits whose truth is known."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mechprobe.cli.parser import DATA, Parser, check_folder, folder
from mechprobe.errors import InputError


def add_options(parser: Parser) -> None:
    """Give a parser the options of ``mechprobe selfcheck``."""
    parser.add_argument(
        "--cases", metavar="DIR", type=folder,
        help=f"folder of compiled case folders (default: planted/ in {DATA}, where that is set)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of examples, models and masks")
    parser.add_argument(
        "--trained", action=argparse.BooleanOptionalAction, default=True,
        help="also train a small induction model (about half a minute)",
    )
    parser.add_argument(
        "--record", metavar="DIR", type=folder,
        help="also write the table (summary.md) and every method on every case (detail.csv) here",
    )


def run(given: argparse.Namespace) -> int:
    """Print what every localiser finds on planted circuits; 1 if the default finder misses one."""
    from mechprobe.planted import selfcheck as checks

    cases_of = given.cases
    if cases_of is None and os.environ.get(DATA):
        place = Path(os.environ[DATA]) / "planted"
        cases_of = place if place.is_dir() else None
    if given.seed < 0:
        raise InputError(f"--seed is {given.seed}; give 0 or more")
    if given.record is not None:
        check_folder("--record", given.record)
    cases = checks.collect_cases(cases_of, given.seed, trained=given.trained)
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
