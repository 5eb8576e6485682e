"""The pages under docs: links lead somewhere, every public name has its place in the API."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

import mechprobe as mp


@pytest.fixture
def generate(repo):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    spec = spec_from_file_location("generate", repo / "docs" / "generate.py")
    assert spec is not None
    module = module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def test_every_link_between_pages_leads_to_a_page_or_a_record(repo):
    pages = repo / "docs" / "pages"
    for page in pages.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            made = {"results/index.md", "api/index.md"}
            record = repo / "benchmarks" / target if target.startswith("results/") else None
            assert target in made or (record or pages / target).is_file(), (page.name, target)


def test_files_and_functions_that_pages_name_are_there(repo):
    text = (repo / "docs" / "pages" / "extend.md").read_text(encoding="utf-8")
    for path in re.findall(r"`(mechprobe/[\w/]+\.py|tests/\w+|mechprobe/\w+)`", text):
        assert (repo / path).exists(), path
    snippets = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, "extend.md", "exec"), {})


def test_every_public_name_is_in_the_api_once(generate):
    text = "\n".join(content for _, content in generate.api())
    listed = re.findall(r"^::: mechprobe\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in mp.__all__ if name != "__version__")


def test_every_record_is_a_page_with_a_title(generate, repo):
    pages = dict(generate.results())
    records = [*repo.glob("benchmarks/results/*/summary.md"), *repo.glob("benchmarks/results/*.md")]
    assert len(pages) == len(records) + 1
    assert all(page.startswith("# ") for page in pages.values())


@pytest.mark.slow
def test_the_site_is_built_and_asks_no_network(generate, repo, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file",
         str(repo / "docs" / "mkdocs.yml"), "--site-dir", str(tmp_path)],
        check=True, timeout=600,
    )  # fmt: skip
    api = (tmp_path / "api" / "locate.html").read_text(encoding="utf-8")
    assert 'id="mechprobe.ablate"' in api
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe)[^>]*src="(https?:)?//', text), page
        assert not re.search(r'<link[^>]*rel="(stylesheet|preconnect)"[^>]*href="(https?:)?/', text)
