"""``import mechprobe as mp``: every public name is there, typed and documented."""

import ast
import inspect
import tomllib
from importlib.metadata import version
from itertools import chain

import pytest

import mechprobe


@pytest.mark.parametrize("name", mechprobe.__all__)
def test_a_public_name_is_there_and_documented(name):
    value = getattr(mechprobe, name)
    if name == "__version__":
        assert value == version("mechprobe")
        return
    assert value.__module__.startswith("mechprobe.")
    assert value.__name__ == name
    assert inspect.getdoc(value)


@pytest.mark.parametrize("name", sorted(set(mechprobe.__all__) - {"__version__"}))
def test_a_public_function_is_fully_annotated(name):
    value = getattr(mechprobe, name)
    if inspect.isclass(value):
        return
    signature = inspect.signature(value)
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not bare
    assert signature.return_annotation is not signature.empty


def test_what_a_type_checker_sees_is_what_is_exported(repo):
    tree = ast.parse((repo / "mechprobe" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"mechprobe.{home}" for name, home in mechprobe._HOME.items()}
    assert seen == homes
    assert set(mechprobe.__all__) == {"__version__", *homes}


def test_dir_lists_names_not_yet_imported():
    assert set(mechprobe.__all__) <= set(dir(mechprobe))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mechprobe' has no attribute 'find_circuit'"):
        _ = mechprobe.find_circuit


def test_constraints_meet_every_requirement(repo):
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {}
    for line in (repo / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, exact = line.partition("==")
            assert exact, f"constraints.txt: {line!r} is not an exact version"
            pinned[name.lower().replace("_", "-")] = exact
    extras = project["optional-dependencies"].values()
    for text in chain(project["dependencies"], *extras):
        need = packaging.Requirement(text)
        exact = pinned.get(need.name.lower())
        assert exact is not None, f"{need.name} has no line in constraints.txt"
        assert need.specifier.contains(exact), f"{text} does not allow {exact}"


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'ablte'; did you mean 'ablate'"):
        mechprobe.ablte  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'zzqqxx'$"):
        mechprobe.zzqqxx  # noqa: B018
