"""Studies refuse a card or data that changed since; bad input fails before a folder is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.models.build import build_decoder
from mechprobe.models.save import save_model
from mechprobe.studies import STUDIES
from mechprobe.tasks import cards
from mechprobe.tasks.treebank_grammar import generate_treebank
from tests.studies.topology.test_data import as_conllu

pytestmark = pytest.mark.usefixtures("one_thread")
RULES = "[[[0.5, 0], [0, 0.5]], [[0, 0.5], [0.5, 0]]]"


def _open(name: str, settings, folder: Path) -> None:
    with STUDIES[name].opened(settings, folder):
        pass


def _refused(name: str, settings, folder: Path) -> str:
    with pytest.raises(InputError) as found:
        _open(name, settings, folder)
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("put them back to go on with it, or give another folder")
    return str(found.value)


@pytest.fixture
def edit_card(tmp_path, monkeypatch):
    """Replaces a word in a copy of a card that stands in for it."""
    folder, ours = tmp_path / "cards", cards.card_folder()
    for path in ours.rglob("*.toml"):
        copy = folder / path.relative_to(ours)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(cards, "card_folder", lambda: folder)

    def edit(name: str, old: str, new: str) -> None:
        path = folder / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("name", "card", "old", "new", "said"),
    [
        ("heuristic-core", "nli/overlap", '"judge/was"', '"umpire/was"',
         "(card words.noun.list: without 'judge/was', with 'umpire/was'; train: '60 rows, sha256"),
        ("abstraction", "abstraction/mini", '"rose"', '"lamp"',
         "(card nouns.thing: without 'rose', with 'lamp'; target train: '"),
        ("task-space", "minimal_pairs/english", '"boat/boats"', '"raft/rafts"',
         "(card words.thing.list: without 'boat/boats', with 'raft/rafts'"),
    ],
)  # fmt: skip
def test_an_edited_card_is_refused_on_resume(
    micro, edit_card, tmp_path, name, card, old, new, said
):
    for _ in range(2):
        _open(name, micro(name), tmp_path / "run")
    edit_card(card, old, new)
    assert said in _refused(name, micro(name), tmp_path / "run")
    edit_card(card, new, old)
    _open(name, micro(name), tmp_path / "run")


def test_an_edited_treebank_is_refused_on_resume(micro, tmp_path):
    file, sentences = tmp_path / "mine.conllu", generate_treebank(70, seed=4)
    file.write_text(as_conllu(sentences), encoding="utf-8")
    settings = replace(micro("topology"), treebank=str(file))
    for _ in range(2):
        _open("topology", settings, tmp_path / "run")
    first, *others = sentences
    changed = replace(first, words=("zebra", *first.words[1:]))
    file.write_text(as_conllu([changed, *others]), encoding="utf-8")
    said = _refused("topology", settings, tmp_path / "run")
    assert said.count(" rows, sha256 ") >= 2  # what one sentence is in, before and now


def test_edited_rules_are_refused_on_resume(micro, tmp_path):
    rules = tmp_path / "rules.json"
    settings = replace(micro("hierarchy"), rules=str(rules), q=2)
    rules.write_text(RULES)
    for _ in range(2):
        _open("hierarchy", settings, tmp_path / "run")
    rules.write_text(RULES.replace("[0.5, 0]]]", "[0.4, 0.1]]]"))
    assert "(rules: '2 rows, sha256 " in _refused("hierarchy", settings, tmp_path / "run")


def test_edited_text_is_refused_on_resume(micro, tmp_path):
    text = tmp_path / "text.txt"
    settings = replace(micro("task-space"), text=(str(text),), vocabulary="bpe", n_ctx=99)
    text.write_text("The boy sleeps. The girl laughs.\n")
    for _ in range(2):
        _open("task-space", settings, tmp_path / "run")
    text.write_text("The boy sleeps. The girl laughed.\n")
    said = _refused("task-space", settings, tmp_path / "run")
    assert "(text 1 text.txt: '33 bytes, sha256 " in said
    assert "-> '34 bytes, sha256 " in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["heuristic-core", "--encoder", "./none"], "no model in ./none"),
        (["topology", "--encoder", "./none"], "no model in ./none"),
        (["topology", "--encoder", "BAD"], "'BAD'"),
        (["task-space", "--models", "BAD"], "'BAD'"),
        (["topology", "--encoder", "{decoder}"], "has no fast tokenizer"),
        (["topology", "--treebank", "none.conllu"], "no treebank 'none.conllu'"),
        (["abstraction", "--model", "./none", "--adapt", "full"], "no model folder ./none"),
        (["abstraction", "--model", "{decoder}", "--arch", "encoder-decoder", "--adapt", "full"],
         "is no encoder-decoder"),
        (["abstraction", "--card", "none.toml"], "no card at none.toml"),
        (["hierarchy", "--rules", "none.json"], "none.json cannot be read"),
        (["task-space", "--models", "./none"], "no model ./none"),
        (["task-space", "--models", "{decoder}"], "has no tokenizer"),
        (["task-space", "--text", "none"], "no text in none"),
    ],
)  # fmt: skip
def test_bad_input_leaves_no_run_folder(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    decoder = build_decoder(n_layers=1, n_heads=1, d_model=8, d_vocab=20, n_ctx=64)
    save_model(decoder, tmp_path / "decoder")
    name, *more = (word.format(decoder=tmp_path / "decoder") for word in words)
    assert main(["run", name, "--preset", "tiny", *more, "--out", "run"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error
    assert error.startswith("mechprobe: error: ")
    assert not (tmp_path / "run").exists()
