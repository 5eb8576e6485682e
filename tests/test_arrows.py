"""Imports point downwards, and only mechprobe/models knows TransformerLens (DESIGN, section 2)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mechprobe"

FLOORS = (
    {"cli", "__main__"},
    {"show", "planted", "studies"},
    {"locate"},
    {"gates", "probes", "training"},
    {"models"},
    {"sites", "stats", "figures", "runs", "tasks", "trees"},
    {"errors"},
)
SIDEWAYS = {
    ("__main__", "cli"),
    ("studies", "planted"),
    ("studies", "show"),
    ("figures", "sites"),
}
FLOOR_OF = {room: depth for depth, rooms in enumerate(FLOORS) for room in rooms}
NAMELESS = {"utils", "util", "helpers", "common", "base", "misc", "core"}

FORBIDDEN_MODULES = {
    "triton": "kernels are Triton-free",
    "pickle": "results are safetensors and JSON",
    "dill": "results are safetensors and JSON",
    "cloudpickle": "results are safetensors and JSON",
    "joblib": "results are safetensors and JSON",
    "matplotlib.pyplot": "figures are built without pyplot's global state",
}
FORBIDDEN_CALLS = {
    "torch.compile": "a compiled hooked model ignores hooks added later",
    "torch.save": "results are safetensors and JSON",
}


def violations(room: str, source: str) -> list[str]:
    """What is wrong with the imports and calls of one file of a room."""
    tree = ast.parse(source)
    found = []
    for line, module, name in _imports(tree):
        if module.split(".")[0] == "mechprobe":
            found += [f"{line}: {text}" for text in _arrow(room, module, name)]
        for prefix, why in FORBIDDEN_MODULES.items():
            if _inside(module, prefix) or f"{module}.{name}" == prefix:
                found.append(f"{line}: {prefix} is not used here: {why}")
        if _inside(module, "transformer_lens") and room != "models":
            found.append(f"{line}: only mechprobe/models imports transformer_lens")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_CALLS:
            found.append(f"{node.lineno}: {called} is not used here: {FORBIDDEN_CALLS[called]}")
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{node.lineno}: torch.load needs weights_only=True")
        if called.endswith("load") and given.get("allow_pickle") == "True":
            found.append(f"{node.lineno}: allow_pickle=True runs code from a file")
    return found


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, module and imported name of every import, also of import_module("...")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                yield node.lineno, "mechprobe.<relative>" if node.level else module, alias.name
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            yield node.lineno, node.args[0].value, ""


def _arrow(room: str, module: str, name: str) -> Iterator[str]:
    parts = module.split(".")
    target = parts[1] if len(parts) > 1 else name
    if target == "__version__":
        return
    if target not in FLOOR_OF:
        yield f"{room} imports {module} ({name}): import a name from the room it lives in"
    elif target != room and (room, target) not in SIDEWAYS and FLOOR_OF[target] <= FLOOR_OF[room]:
        yield f"{room} imports {target}, which is not on a lower floor"


def _files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_import_points_downwards():
    files = _files()
    assert len(files) > 10
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{text}"
        for path in files
        for text in violations(_room(path), path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_floor_and_a_name():
    rooms = {_room(path) for path in _files()}
    assert rooms <= set(FLOOR_OF), f"no floor for {sorted(rooms - set(FLOOR_OF))}"
    names = {path.stem for path in _files()} | {path.parent.name for path in _files()}
    assert not names & NAMELESS


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("tasks", "from mechprobe.models import load_model"),
        ("models", "import mechprobe.gates.reference"),
        ("gates", "from mechprobe.training.fit import fit"),
        ("locate", "from mechprobe.studies import heuristic_core"),
        ("locate", "def f():\n    from mechprobe import studies"),
        ("stats", "import importlib\nimportlib.import_module('mechprobe.runs')"),
        ("locate", "from mechprobe import load_model"),
        ("gates", "from . import baselines"),
        ("gates", "from transformer_lens.hook_points import HookPoint"),
        ("runs", "import pickle"),
        ("figures", "from matplotlib import pyplot as plt"),
        ("gates", "import triton.language as tl"),
        ("training", "import torch\nstep = torch.compile(step)"),
        ("runs", "import torch\nstate = torch.load('x.pt')"),
        ("runs", "import numpy as np\nnp.load('x.npy', allow_pickle=True)"),
    ],
)
def test_a_wrong_file_is_found(room, source):
    assert len(violations(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("studies", "from mechprobe.show.report import build_report\nimport mechprobe.planted"),
        ("models", "import transformer_lens\nfrom mechprobe.tasks.batches import Batch"),
        ("runs", "from mechprobe import __version__\nfrom mechprobe.errors import InputError"),
        ("runs", "import torch\nstate = torch.load('x.pt', weights_only=True)"),
        ("figures", "from matplotlib.figure import Figure\nfrom mechprobe.sites import Site"),
        ("cli", "from importlib import import_module\nimport_module('mechprobe.studies')"),
    ],
)
def test_a_right_file_passes(room, source):
    assert violations(room, source) == []
