"""The compiled cases, and every data set they have."""

import pytest

CASES = [
    ("reverse", "main"), ("induction", "main"), ("or_gate", "main"), ("decoy", "main"),
    ("heuristic_core", "main"), ("heuristic_core", "ood"), ("two_task", "main"),
    ("two_task", "task_T"),
]  # fmt: skip


@pytest.fixture(scope="session")
def folder(data_dir):
    planted = data_dir / "planted"
    if not planted.is_dir():
        pytest.skip(f"no planted cases at {planted}; set MECHPROBE_DATA to a folder with them")
    return planted


@pytest.fixture(params=CASES, ids="-".join)
def named_case(request):
    """A case's name and data set, one after the other."""
    return request.param
