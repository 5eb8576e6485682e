"""Notebooks are committed without outputs, paired with a script that says the same."""

import json

import jupytext
import pytest


@pytest.fixture(scope="module")
def notebooks(repo):
    return sorted((repo / "notebooks").glob("*.ipynb"))


def test_each_has_its_script_and_no_outputs(notebooks, repo):
    scripts = {path.stem for path in (repo / "notebooks").glob("*.py")}
    assert scripts >= {
        "tour", "abstraction", "heuristic_core", "hierarchy", "task_space", "topology",
        "your_own_model", "hooks_to_gates",
    }
    assert scripts == {path.stem for path in notebooks}
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name


def test_notebook_and_script_say_the_same(notebooks):
    for path in notebooks:
        one, other = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
        cells = [[(c.cell_type, c.source) for c in book.cells] for book in (one, other)]
        assert cells[0] == cells[1], f"run `jupytext --sync {path.name}` in notebooks/"


def test_each_asks_a_question_and_answers_it(notebooks):
    for path in notebooks:
        words = [c.source for c in jupytext.read(path).cells if c.cell_type == "markdown"]
        assert "**Question.**" in words[0], path.name
        assert "**Answer.**" in words[-1], path.name
