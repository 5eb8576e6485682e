"""A command that only talks starts at once: no torch before there is work for it."""

import os
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "transformer_lens", "datasets", "pandas", "matplotlib", "scipy")
TALK = (["--help"], ["list"], ["run", "heuristic-core", "--help"])


def _python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )


def test_importing_mechprobe_imports_nothing_heavy():
    done = _python(f"import sys, mechprobe; print(sorted(set({HEAVY}) & set(sys.modules)))")
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", TALK, ids=" ".join)
def test_talking_commands_do_not_import_torch(arguments):
    code = (
        "import sys\nfrom mechprobe.cli import main\n"
        f"try:\n    status = main({arguments!r})\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        f"heavy = sorted(set({HEAVY}) & set(sys.modules))\n"
        "print('status', status or 0, heavy, file=sys.stderr)"
    )
    done = _python(code)
    assert done.stderr.splitlines()[-1] == "status 0 []"
    assert done.stdout.strip()


@pytest.mark.parametrize("arguments", TALK, ids=" ".join)
def test_talking_commands_take_less_than_a_second(arguments):
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "mechprobe", *arguments],
            capture_output=True, check=True, timeout=120, env={**os.environ, "COLUMNS": "100"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, and the best of three: a busy machine must not fail the test.
    assert min(seconds() for _ in range(3)) < 1.0
