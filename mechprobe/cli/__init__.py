"""The command ``mechprobe``: list what there is, run a study, build a report again."""

from mechprobe.cli.dispatch import build_parser, main
from mechprobe.cli.parser import DATA
from mechprobe.cli.run import settings_of

__all__ = ["DATA", "build_parser", "main", "settings_of"]
