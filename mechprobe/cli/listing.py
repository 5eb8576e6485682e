"""``mechprobe list`` and ``mechprobe report``: what there is, and a report built again."""

from __future__ import annotations

from pathlib import Path

from mechprobe.studies import STUDIES


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


def report(folder: Path) -> int:
    """Build the report of a run again, and print where it is."""
    from mechprobe.show.report import build_report

    print(f"report: {build_report(folder)}")
    return 0
