"""Parallel corpora: lines side by side, and what does not fit together."""

import gzip

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.parallel import load_parallel


def test_lines_become_pairs(tmp_path):
    (tmp_path / "de.txt").write_text("das Haus\nein grüner Baum\n", encoding="utf-8")
    with gzip.open(tmp_path / "en.txt.gz", "wt", encoding="utf-8") as file:
        file.write("the house\na green tree\n")
    pairs = load_parallel(tmp_path / "de.txt", tmp_path / "en.txt.gz", prefix="Form one:")
    assert pairs.source == (("Form", "one:", "das", "Haus"),
                            ("Form", "one:", "ein", "grüner", "Baum"))
    assert pairs.target == (("the", "house"), ("a", "green", "tree"))
    assert pairs.group == ("corpus", "corpus")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"a\nb\n", b"a\n", "source has 2 lines, target 1; give as many of each"),
        (b"", b"", "0 lines"),
        (b"a\n\nb\n", b"a\nb\nc\n", "source line 2 is empty"),
        (b"\xff\xfe", b"a\n", "cannot read .*source"),
        (None, b"a\n", "cannot read .*source .*No such file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, source, target, message):
    for name, content in (("source", source), ("target", target)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_parallel(tmp_path / "source", tmp_path / "target")
    assert "\n" not in str(refused.value)
