"""Pages made from the repository: the recorded results, and the API by room from its docstrings.

A hook of mkdocs (``docs/mkdocs.yml``); ``make docs`` runs it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "results"
SHOWN = (".png", ".csv", ".json")
ROOMS = {
    "models": "Models", "tasks": "Tasks", "gates": "Gates", "locate": "Localisers and circuits",
    "training": "Training", "studies": "Studies", "show": "Seeing circuits",
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, content in [*results(), *api()]:
        files.append(File.generated(config, name, content=content))
    for path in sorted(RECORDS.rglob("*")):
        if path.suffix in SHOWN:
            name = f"results/{path.relative_to(RECORDS).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def results() -> Iterator[tuple[str, str]]:
    """A page for every record, and their list with the command that made each."""
    rows = []
    for path in sorted([*RECORDS.glob("*/summary.md"), *RECORDS.glob("*.md")]):
        text = path.read_text(encoding="utf-8")
        title = re.sub(r"^#\s*", "", text.splitlines()[0])
        name = path.relative_to(RECORDS).as_posix()
        command = re.search(r"^((?:MECHPROBE_DATA=\S+ )?mechprobe \S.*)$", text, re.MULTILINE)
        rows.append(f"| [{title}]({name}) | {f'`{command[1]}`' if command else ''} |")
        yield f"results/{name}", text
    table = "\n".join(["| record | made by |", "|---|---|", *rows])
    yield "results/index.md", f"# Results\n\n{table}\n"


def api() -> Iterator[tuple[str, str]]:
    """A page for every room with the public names that live there, and their list."""
    homes = public_names()
    lines = ["# API", "", "Every public name is an attribute of `mechprobe`.", ""]
    for room, title in ROOMS.items():
        names = [name for name, home in homes.items() if home.split(".")[0] == room]
        if room == "tasks":
            names += [name for name, home in homes.items() if home in ("errors", "sites")]
        links = ", ".join(f"[`{name}`]({room}.md#mechprobe.{name})" for name in names)
        lines += [f"**[{title}]({room}.md)**: {links}", ""]
        blocks = "\n\n".join(f"::: mechprobe.{name}" for name in names)
        yield f"api/{room}.md", f"# {title}\n\n{blocks}\n"
    yield "api/index.md", "\n".join(lines)


def public_names() -> Mapping[str, str]:
    """Name to home, as ``mechprobe/__init__.py`` lists them; read, not imported."""
    tree = ast.parse((ROOT / "mechprobe" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME":
            return dict(sorted(ast.literal_eval(node.value).items(), key=lambda i: i[0].lower()))
    raise LookupError("mechprobe/__init__.py has no _HOME")
