"""A wheel carries the task cards, and what is installed finds them without the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import mechprobe as mp


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


@pytest.fixture(scope="module")
def clean_environment(unpacked_wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel installed; its dependencies are this one's."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    (wheel,) = unpacked_wheel.parent.glob("mechprobe-*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=120
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install",
         "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True, timeout=300,
    )
    (site,) = home.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but its own .pth files, the editable mechprobe's among
    # them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home


def _in(home: Path, folder: Path, *words: str) -> str:
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MECHPROBE_DATA")}
    done = subprocess.run(
        [str(home / "bin" / words[0]), *words[1:]], cwd=folder, env=plain, text=True,
        capture_output=True, timeout=1_200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_wheel_works_far_from_the_checkout(clean_environment, tmp_path):
    where = _in(clean_environment, tmp_path, "python", "-c", "import mechprobe; "
                "print(mechprobe.__file__)").strip()  # fmt: skip
    assert Path(where).is_relative_to(clean_environment)
    listed = _in(clean_environment, tmp_path, "mechprobe", "list")
    assert listed == _in(clean_environment, tmp_path, "python", "-m", "mechprobe", "list")
    assert all(f"\n  {name}: " in listed for name in mp.list_tasks())
    version = _in(clean_environment, tmp_path, "python", "-m", "mechprobe", "--version")
    assert version == _in(clean_environment, tmp_path, "mechprobe", "--version")
    code = "import mechprobe as mp; print(len(mp.load_task('nli/overlap', n_train=8, n_dev=4, " \
           "n_ood=2).split('train')))"
    assert _in(clean_environment, tmp_path, "python", "-c", code) == "8\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_study_runs_from_the_installed_wheel(clean_environment, tmp_path):
    words = ("--preset", "tiny", "--threads", "1", "--models", "root-k0", "--root-steps", "20",
             "--n-eval", "40", "--out", "run")  # fmt: skip
    told = _in(clean_environment, tmp_path, "mechprobe", "run", "hierarchy", *words)
    assert told.splitlines()[-1] == "report: run/report.html"
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
