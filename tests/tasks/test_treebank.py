"""The reader against a naive one on real data and a table of broken files; trees against graphs."""

from __future__ import annotations

import gzip
import lzma
from collections import deque

import networkx
import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.treebank import (
    Sentence,
    ancestors,
    parse_conllu,
    read_conllu,
    tree_depths,
    tree_distances,
)


def row(identity: object, head: object, form: str = "w", deprel: str = "dep") -> str:
    return f"{identity}\t{form}\t_\tNOUN\t_\t_\t{head}\t{deprel}\t_\t_"


def parse(*lines: str) -> list[Sentence]:
    return list(parse_conllu([line + "\n" for line in lines], "toy.conllu"))


def random_tree(n: int, rng: np.random.Generator) -> list[int]:
    """Heads of a tree whose words stand in random order."""
    order = rng.permutation(n)
    heads = np.full(n, -1)
    for place in range(1, n):
        heads[order[place]] = order[rng.integers(place)]
    return heads.tolist()


def test_words_are_read_and_ranges_and_empty_nodes_passed_over():
    first, second = parse(
        "# sent_id = one",
        "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_",
        row(1, 3, "do", "aux"),
        row(2, 3, "n't", "advmod"),
        row(3, 0, "go", "root"),
        "3.1\tgone\t_\tVERB\t_\t_\t_\t_\t3:conj\t_",
        row(4, 3, ".", "punct"),
        "",
        "",
        "# text = Go",
        row(1, 0, "Go", "root"),
    )
    assert first == Sentence(
        ("do", "n't", "go", "."), (2, 2, -1, 2), ("aux", "advmod", "root", "punct"),
        ("NOUN",) * 4, "one",
    )  # fmt: skip
    assert (first.root, first.edges) == (2, [(0, 2), (1, 2), (2, 3)])
    assert (second.words, second.heads, second.name) == (("Go",), (-1,), "")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((row(1, 0), "2\tw\t_"), "line 2: 3 columns where CoNLL-U has 10"),
        ((row(1, 0).replace("\t", " "),), "line 1: 1 columns"),
        ((row(1, 0), row(2, 1).replace("w", "", 1)), "line 2: an empty column"),
        ((row(1, 0), row(3, 1)), "line 2: id '3' where word 2 was expected"),
        ((row(1, 0), row(1, 0)), "line 2: id '1' where word 2 was expected"),
        ((row("x", 0),), "line 1: id 'x' where word 1"),
        ((row("2-3", "_"), row(1, 0)), "line 1: multiword token '2-3' before word 1"),
        ((row("1-1", "_"), row(1, 0)), "line 1: multiword token '1-1'"),
        ((row("1-2", "_"), row(1, 0)), "line 2: a multiword token reaches to word 2, but"),
        ((row(1, 0), row("2.1", "_")), "line 2: empty node '2.1' after word 1"),
        ((row(1, 0), row(2, 3)), "line 2: head '3'; expected a number from 0 .root. to 2"),
        ((row(1, 0), row(2, "_")), "line 2: head '_'; expected"),
        ((row(1, 0), row(2, -1)), "line 2: head '-1'; expected"),
        ((row(1, 0), row(2, "²")), "line 2: head '²'; expected"),
        ((row(1, 0), row(2, 1), row(3, 0)), "line 3: a second root .the first is on line 1."),
        ((row(1, 0), row(2, 3), row(3, 2)), "line [23]: the heads of word [23] lead back to it"),
        ((row(1, 1),), "line 1: .* a cycle that never reaches a root, and there is none"),
        ((row(1, 0), row(2, 3), row(3, 4), row(4, 3)), "line [34]: the heads of word [34] lead"),
        (("# a comment",), "line 1: a sentence without words"),
        ((row(1, 0), "", "", row(1, 2)), "line 4: head '2'"),
    ],
)
def test_a_broken_sentence_is_refused_with_its_line(lines, said):
    with pytest.raises(InputError, match=f"^toy.conllu {said}"):
        parse(*lines)


def test_files_plain_and_packed_read_alike(tmp_path):
    text = ("\ufeff" + "\r\n".join([row(1, 2), row(2, 0), "", row(1, 0)])).encode()
    (tmp_path / "a.conllu").write_bytes(text)
    (tmp_path / "a.conllu.gz").write_bytes(gzip.compress(text))
    (tmp_path / "a.conllu.xz").write_bytes(lzma.compress(text))
    plain = read_conllu(tmp_path / "a.conllu")
    assert [s.heads for s in plain] == [(1, -1), (-1,)]
    assert read_conllu(str(tmp_path / "a.conllu.gz")) == plain
    assert read_conllu(tmp_path / "a.conllu.xz") == plain
    assert read_conllu(tmp_path / "a.conllu", limit=1) == plain[:1]


def test_a_file_that_is_none_is_refused(tmp_path):
    for name, content in {
        "a.conllu.xz": b"no xz",
        "b.conllu.gz": gzip.compress(row(1, 0).encode())[:-9],
        "c.conllu": b"\xff\xfe\x00",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_conllu(tmp_path / name)
    (tmp_path / "empty.conllu").write_bytes(b"\n\n")
    with pytest.raises(InputError, match="holds no sentence"):
        read_conllu(tmp_path / "empty.conllu")
    with pytest.raises(InputError, match="no treebank file"):
        read_conllu(tmp_path / "absent.conllu")
    with pytest.raises(InputError, match="limit 0"):
        read_conllu(tmp_path / "empty.conllu", limit=0)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 65])
def test_distances_and_depths_are_those_of_the_graph(n):
    rng = np.random.default_rng(n)
    heads = random_tree(n, rng)
    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from((i, h) for i, h in enumerate(heads) if h >= 0)
    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    expected = [[lengths[i][j] for j in range(n)] for i in range(n)]
    assert tree_distances(heads).tolist() == expected
    assert tree_depths(heads).tolist() == expected[heads.index(-1)]


def test_ancestors_are_the_words_on_the_way_up():
    heads = random_tree(12, np.random.default_rng(0))
    for word, found in enumerate(ancestors(heads)):
        way = deque([word])
        while heads[way[-1]] >= 0:
            way.append(heads[way[-1]])
        assert sorted(way) == np.flatnonzero(found).tolist()


def test_ewt_is_read_as_a_naive_reader_reads_it(data_dir):
    path = data_dir / "treebank" / "en_ewt-ud-train.conllu.xz"
    if not path.is_file():
        pytest.skip(f"no treebank at {path}")
    found = read_conllu(path, limit=100)
    with lzma.open(path, "rt", encoding="utf-8") as file:
        blocks = file.read().split("\n\n")[:100]
    assert len(found) == len(blocks) == 100
    for sentence, block in zip(found, blocks, strict=True):
        rows = [line.split("\t") for line in block.splitlines() if line[0] != "#"]
        rows = [fields for fields in rows if fields[0].isdigit()]
        assert list(sentence.words) == [fields[1] for fields in rows]
        assert [head + 1 for head in sentence.heads] == [int(fields[6]) for fields in rows]
        assert list(sentence.upos) == [fields[3] for fields in rows]
        assert list(sentence.deprel) == [fields[7] for fields in rows]
        assert f"sent_id = {sentence.name}" in block
        assert (sentence.deprel[sentence.root], len(sentence.edges)) == ("root", len(rows) - 1)


def test_both_treebanks_are_whole(data_dir):
    folder = data_dir / "treebank"
    if not folder.is_dir():
        pytest.skip(f"no treebank at {folder}")
    assert len(read_conllu(folder / "en_ewt-ud-dev.conllu.xz")) == 2001
    assert len(read_conllu(folder / "en_pud-ud-test.conllu.xz")) == 1000
