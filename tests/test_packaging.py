"""A wheel carries the task cards, and what is installed finds them without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def unpacked_wheel(repo, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=repo, check=True, capture_output=True, timeout=120,
    )
    (wheel,) = out.glob("mechprobe-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_the_wheel_holds_every_card_and_no_test(repo, unpacked_wheel):
    cards = sorted(p.relative_to(repo / "tasks") for p in (repo / "tasks").rglob("*.toml"))
    packed = unpacked_wheel / "mechprobe" / "tasks" / "cards"
    assert cards
    assert sorted(p.relative_to(packed) for p in packed.rglob("*.toml")) == cards
    assert (unpacked_wheel / "mechprobe" / "py.typed").is_file()
    assert {p.name.split("-")[0] for p in unpacked_wheel.iterdir()} == {"mechprobe"}


def test_an_installed_wheel_lists_the_same_tasks_as_the_checkout(unpacked_wheel, tmp_path):
    code = "import mechprobe as mp; print(mp.__file__); print(*mp.list_tasks(), sep='\\n')"

    def ask(**environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **environment},
            capture_output=True, text=True, check=True, timeout=120,
        )
        return done.stdout.splitlines()

    home, *from_wheel = ask(PYTHONPATH=str(unpacked_wheel))
    assert Path(home).is_relative_to(unpacked_wheel)
    _, *from_checkout = ask()
    assert "nli/overlap" in from_wheel
    assert from_wheel == from_checkout
