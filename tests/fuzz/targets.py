"""What is fuzzed: each reader of files, a small good file of its kind, and what breaks parsers."""

from __future__ import annotations

import gzip
import json
import lzma
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mechprobe.locate.scores import Scores
from mechprobe.locate.subnetwork import Subnetwork
from mechprobe.models import load_model, save_model
from mechprobe.sites import SiteGrid
from mechprobe.tasks.abstraction.cogs import read_cogs, target_of
from mechprobe.tasks.abstraction.released import read_pairs
from mechprobe.tasks.blimp import load_blimp
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.corpus import read_sentences
from mechprobe.tasks.files import Columns, pick_columns, read_fields
from mechprobe.tasks.treebank import read_conllu
from mechprobe.tasks.treebank_grammar import read_grammar

TOKENS = (
    b"\x00", b"\xff", b"\t", b"\n", b"\r", b'"', b"{", b"}", b"[", b"]", b"null", b"-1", b"1e999",
    b"NaN", b"99999999999999999999", b"_", b"#", b"\xe2\x80\xa8", b",", b":", b"true", b"\\u0000",
    b"1-2\t", b"3.1\t", b"\x1a", b"=",
)  # fmt: skip
"""Pieces that mean something to one format or another."""

TABLE = b"premise\thypothesis\tlabel\nA b.\tC d.\tyes\nE f.\tG h.\tno\n"
LINES = b'{"premise": "a b", "hypothesis": "c", "label": "yes"}\n'
TREE = (
    b"# sent_id = 1\n# text = Dogs bark.\n"
    b"1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t_\t_\n"
    b"3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_\n\n"
)
PAIR = {
    "sentence_good": "There was a dog.", "sentence_bad": "There was each dog.", "pairID": "0",
    "field": "semantics", "linguistics_term": "quantifiers", "UID": "quantifiers_1",
}  # fmt: skip
COGS = b"A cat ran .\tcat ( x _ 1 ) AND run . agent ( x _ 2 , x _ 1 )\tin_distribution\n"
RELEASED = b'{"input": "Form one: The dog ran .", "output": "RUN ( DOG , NONE , NONE )"}\n'
CARD = b"""kind = "files"
title = "Mine"
labels = ["yes", "no"]
[settings]
n = 10
[[splits.train]]
source = "rows"
take = "n"
[sources.rows]
first = "premise"
second = "hypothesis"
label = "label"
labels = { yes = "yes", no = "no" }
[sources.rows.local]
files = ["rows.tsv"]
"""
GRAMMAR = b"""start = "S"
[settings]
min_words = 2
max_words = 12
min_depth = 1
max_depth = 6
[rules]
S = ["1 N:nsubj V*"]
[words]
N = { upos = "NOUN", list = ["dogs", "cats"] }
V = { upos = "VERB", list = ["bark", "sleep"] }
"""
BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 10,
}  # fmt: skip
COLUMNS = Columns("premise", "hypothesis", "label", None, {"yes": "yes", "no": "no"})


@dataclass(frozen=True)
class Target:
    """One reader: ``read`` takes a folder in which ``name`` has the bytes that are tried.

    Attributes:
        good: bytes that it reads, or refuses for a reason beside their form.
    """

    name: str
    good: bytes
    read: Callable[[Path], object]

    def __call__(self, folder: Path, data: bytes) -> object:
        (folder / self.name).write_bytes(data)
        return self.read(folder)


def targets() -> Mapping[str, Target]:
    """Every reader by name; small files are made for those that read what mechprobe writes."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = load_model({
            "kind": "decoder", "n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 8,
            "n_ctx": 8, "d_vocab": 10,
        })  # fmt: skip
        save_model(model, folder)
        model_files = {path.name: path.read_bytes() for path in folder.iterdir()}
        scores = Scores(
            "m", ("0.0", "0.1"), np.ones((2, 8)), np.arange(4), np.arange(4, 8), "metric", "mean",
            forwards=1, grid=SiteGrid(1, 2),
        )  # fmt: skip
        scores.save(folder)
        kept = (folder / "scores.safetensors").read_bytes()
        gates = np.ones(4, dtype=np.float32)
        one = Subnetwork(
            sites=SiteGrid(1, 3), soft=gates, binary=gates.astype(bool), log_alpha=gates,
            sparsity_target=0.0, sparsity=0.0, seed=0, settings={}, scores={},
        )  # fmt: skip
        one.save(folder / "subnetwork.safetensors")
        subnetwork = (folder / "subnetwork.safetensors").read_bytes()

    def open_model(changed: str) -> Callable[[Path], object]:
        def read(folder: Path) -> object:
            for name, data in model_files.items():
                if name != changed:
                    (folder / name).write_bytes(data)
            return load_model(folder)

        return read

    def table(name: str, quoting: str | None) -> Callable[[Path], object]:
        return lambda folder: pick_columns(
            list(read_fields(folder / name, quoting, True)), COLUMNS, name
        )

    found = {
        "tsv": Target("a.tsv", TABLE, table("a.tsv", "none")),
        "csv": Target("a.csv", TABLE.replace(b"\t", b","), table("a.csv", None)),
        "jsonl": Target("a.jsonl", LINES, table("a.jsonl", None)),
        "gzip": Target("a.tsv.gz", gzip.compress(TABLE, mtime=0), table("a.tsv.gz", "none")),
        "xz": Target("a.tsv.xz", lzma.compress(TABLE), table("a.tsv.xz", "none")),
        "conllu": Target("a.conllu", TREE, lambda at: read_conllu(at / "a.conllu")),
        "blimp": Target("a.jsonl", json.dumps(PAIR).encode(), lambda at: load_blimp(at)),
        "cogs": Target(
            "a.tsv", COGS, lambda at: [target_of(form) for _, form in read_cogs(at / "a.tsv")]
        ),
        "released": Target("a.json", RELEASED, lambda at: read_pairs(at / "a.json")),
        "text": Target("a.txt", b"One line here.\n", lambda at: read_sentences([at / "a.txt"])),
        "card": Target("a.toml", CARD, lambda at: read_card(at / "a.toml")),
        "grammar": Target("a.toml", GRAMMAR, lambda at: read_grammar(at / "a.toml")),
        "scores": Target("scores.safetensors", kept, lambda at: Scores.load(at).table()),
        "subnetwork": Target("a.safetensors", subnetwork, lambda at: Subnetwork.load(
            at / "a.safetensors"
        )),
        "hugging face config": Target("config.json", json.dumps(BERT).encode(), load_model),
    }  # fmt: skip
    return found | {
        f"model, {name}": Target(name, data, open_model(name)) for name, data in model_files.items()
    }
