"""``mechprobe list``: the studies and task cards there are."""

from __future__ import annotations

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

