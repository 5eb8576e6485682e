"""The released data: every line comes out of our converter, realisers and builder as released."""

import gzip
import json
import lzma
import subprocess
import sys
from itertools import islice

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import load_abstraction
from mechprobe.tasks.abstraction.cogs import target_of
from mechprobe.tasks.abstraction.derivation import Word
from mechprobe.tasks.abstraction.released import _part

# Run in a process of its own: checking every call of the realisers takes minutes.
ALL_LINES = """
import gzip, json, sys
from mechprobe.tasks import load_abstraction
from mechprobe.tasks.abstraction.cogs import cogs_lexicon, read_cogs, target_of
folder = sys.argv[1]
def lines(name):
    with gzip.open(f"{folder}/abstraction/{name}.json.gz", "rt", encoding="utf-8") as file:
        return [(row["input"], row["output"]) for row in map(json.loads, file)]
def same(pairs, name):
    made = [(" ".join(s), " ".join(t)) for s, t in zip(pairs.source, pairs.target, strict=True)]
    return sum(a != b for a, b in zip(made, lines(name), strict=True))
from pathlib import Path
rows = read_cogs(Path(folder) / "compositional/cogs_train.tsv.xz")
released = lines("finetune_shared")
converted = [(f"Form one: {s}", " ".join(target_of(form))) for s, form in rows]
found = {"cogs": len(rows), "converted": sum(a != b for a, b in zip(converted, released))}
found["prepositions"] = sorted(cogs_lexicon(rows).prepositions)
for number in (1, 2, 3):
    tasks = load_abstraction("abstraction/released", data_dir=folder, lexicon_set=number)
    auxiliary = tasks.auxiliary["train"]
    found[f"auxiliary {number}"] = len(auxiliary), same(auxiliary, f"Mod_set{number}_pretrain")
found["target"] = same(tasks.target["train"], "finetune_shared")
found["mod"] = same(tasks.target["ood"], "Mod_test"), sorted(set(tasks.target["ood"].group))
found["shared"] = "subject" in tasks.target["train"].group
com = load_abstraction("abstraction/released", probe="com", data_dir=folder)
found["com"] = same(com.target["ood"], "Com_test"), len(com.auxiliary["train"])
blocks = com.auxiliary["train"].group[len(released):]
found["blocks"] = all(len(set(blocks[i : i + 10])) == 1 for i in range(0, len(blocks), 10))
few = load_abstraction("abstraction/released", data_dir=folder, n_train=300, n_dev=9, n_test=9)
known = few.target["train"].source_types()
found["few"] = all(few.target[s].source_types() <= known for s in ("dev", "test", "ood"))
found["few"] &= 0 < len(few.target["ood"]) < 1000 and len(few.target["dev"]) == 9
print(json.dumps(found))
"""


@pytest.mark.slow
def test_all_released_lines_come_out_as_released(data_dir):
    run = subprocess.run(
        [sys.executable, "-c", ALL_LINES, str(data_dir)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(run.stdout) == {
        "cogs": 24155,
        "converted": 0,
        "prepositions": ["beside", "in", "on"],
        "auxiliary 1": [34155, 0],
        "auxiliary 2": [34155, 0],
        "auxiliary 3": [34155, 0],
        "target": 0,
        "mod": [0, ["subject"]],
        "shared": False,
        "com": [0, 34175],
        "blocks": True,
        "few": True,
    }


def test_the_converter_reproduces_released_targets(data_dir):
    with lzma.open(data_dir / "compositional/cogs_train.tsv.xz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in islice(file, 1000)]
    with gzip.open(data_dir / "abstraction/finetune_shared.json.gz", "rt") as file:
        released = [json.loads(line) for line in islice(file, 1000)]
    for row, line in zip(rows, released, strict=True):
        assert line == {"input": f"Form one: {row[0]}", "output": " ".join(target_of(row[1]))}


def test_what_is_held_out_has_words_of_the_items_trained_on_alone():
    words = {split: list(map(Word, "abcdefgh")) for split in ("train", "dev", "test", "ood")}
    blocks = [Word(f"{word}{k}") for word in "abcdefgh" for k in range(2)]
    sizes = {"n_train": 3, "n_dev": 8, "n_test": 1, "n_ood": 8}

    def source(tree):
        return (tree.word,)

    part = _part(words, blocks, sizes, 0, source)
    trained = [tree.word for tree in part.train]
    assert len(trained) == 3
    assert [tree.word for tree in part.dev] == [tree.word for tree in part.ood] == trained
    assert len(part.test) == 1
    assert [tree.word for tree in part.blocks] == [f"{w}{k}" for w in trained for k in range(2)]
    other = words | {"dev": [Word("z")]}
    with pytest.raises(InputError, match="no item of dev has only words of the 3 training items"):
        _part(other, blocks, sizes, 0, source)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="reads local files and has no copy on the hub; give data"):
        load_abstraction("abstraction/released")
    with pytest.raises(InputError, match=r"cogs_train\.tsv\.xz"):
        load_abstraction("abstraction/released", data_dir=tmp_path)
