"""Settings that cannot work are refused in one line, before any work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from mechprobe.errors import InputError
from mechprobe.studies import STUDIES
from mechprobe.studies.abstraction.check import check, check_inputs
from mechprobe.studies.abstraction.settings import PRESETS

TINY = PRESETS["tiny"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_sets": 0}, "--n-sets is 0; give 1 or more"),
        ({"points": -1}, "--points is -1; give 0 or more"),
        ({"finetune_lr": 0.0}, "--finetune-lr is 0.0; give more than 0"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0"),
        ({"n_heads_eval": 2}, "--n-heads-eval is 2; give 4 or more"),
        ({"probe": "both"}, "--probe is 'both'; one of mod, com"),
        ({"contrast": "none"}, "--contrast is 'none'; one of other_grammar"),
        ({"arch": "encoder"}, "--arch is 'encoder'; one of decoder"),
        ({"positions": "learned"}, "--positions is 'learned'; one of rotary"),
        ({"adapt": ()}, "--adapt is empty"),
        ({"adapt": ("full", "full")}, "--adapt is full full; give each at most once"),
        ({"baselines": ("paired",)}, "--baselines is paired"),
        ({"mutations": ("wordy",)}, "--mutations is wordy; give each at most once, of postpos"),
        ({"adapt": ("content",), "fold_case": False}, "--adapt content needs one token a word"),
        ({"constrained": True}, "--constrained is for beam search"),
        ({"d_model": 30}, "d_model 30 is not a multiple of n_heads 4"),
        ({"d_model": 36}, "heads of even width; 36 over 4 heads is 9"),
        ({"data_dir": "/nowhere/at/all"}, "no data folder /nowhere/at/all"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"model": "./nowhere", "adapt": ("full",)}, r"no model folder \./nowhere"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as refused:
        check(replace(TINY, **given))
    assert "\n" not in str(refused.value)


@pytest.fixture
def card(repo, tmp_path):
    """The bundled card in a file of the user's, one text exchanged for another."""
    text = (repo / "tasks/abstraction/mini.toml").read_text(encoding="utf-8")

    def change(old: str, new: str) -> str:
        assert text.count(old) >= 1
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return str(path)

    return change


def test_a_card_that_does_not_parse_is_refused_with_line_and_column(card):
    path = card('verbs = "transitive"', 'verbs = "transitive')
    with pytest.raises(InputError, match=r"line \d+, column \d+"):
        check_inputs(replace(TINY, card=path))


def test_words_that_overlap_are_refused(card):
    path = card('on = "above"', 'on = "dog"')
    with pytest.raises(InputError, match=r"the word 'dog'; expected a word that is used nowhere"):
        check_inputs(replace(TINY, card=path))


@pytest.mark.parametrize(
    ("card", "message"),
    [("abstraction/none", "abstraction/none"),
     ("abstraction/released", "reads local files and has no copy on the hub")],
)
def test_a_card_that_cannot_be_read_is_refused(card, message):
    with pytest.raises(InputError, match=message):
        check_inputs(replace(TINY, card=card))


def test_the_bundled_presets_pass_as_far_as_they_can_here():
    check(TINY)
    check_inputs(TINY)
    check(replace(PRESETS["paper"], device="cpu"))  # the hub is not asked
    check(replace(PRESETS["full"], device="cpu"))
    study = STUDIES["abstraction"]
    assert study.default_preset == "laptop"
    assert study.reads_files(PRESETS["paper"])
    assert not study.reads_files(PRESETS["laptop"])
    check(PRESETS["laptop"])


def test_the_dry_run_adds_up_what_a_preset_costs():
    text = STUDIES["abstraction"].dry_run(replace(TINY, threads=1))
    lines = {line[:34].strip(): line[34:].split() for line in text.splitlines()}
    assert lines["auxiliary and contrast steps"][0] == str(2 * TINY.auxiliary_steps)
    steps = 3 * TINY.finetune_steps + 3 * TINY.point_steps
    assert lines["target task steps"][0] == str(steps)
    # 5 batches; 6 models of the target task twice, 2 first tasks and 2 points, 6 times borrowed
    assert lines["scoring"][0] == str(5 * (6 * 2 + 2 + 2 + 6))
    passes = [int(row[0].replace(",", "")) for name, row in lines.items()
              if len(row) == 3 and name not in ("work", "total")]
    assert int(lines["total"][0].replace(",", "")) == sum(passes)


def test_a_pretrained_model_of_another_kind_is_refused(tmp_path):
    config = GPT2Config(vocab_size=20, n_positions=32, n_embd=8, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    given = replace(TINY, model=str(tmp_path), adapt=("full",))
    with pytest.raises(InputError, match=r"is no encoder-decoder but a HookedTransformer"):
        check_inputs(replace(given, arch="encoder-decoder"))
    with pytest.raises(InputError, match="--adapt words needs one token a word"):
        check(replace(given, adapt=("words",)))


def test_words_for_later_sets_are_asked_for_before_the_first(repo, tmp_path):
    text = (repo / "tasks/abstraction/mini.toml").read_text(encoding="utf-8")
    path = tmp_path / "few.toml"
    codas = list("bdfgklmnprst")
    path.write_text(
        text[: text.index("onsets = ")] + f'onsets = ["b"]\nvowels = ["a", "e"]\ncodas = {codas}\n',
        encoding="utf-8",
    )
    few = replace(TINY, card=str(path))
    check_inputs(few)
    for more in ({"n_sets": 9}, {"generic_steps": 5}):
        with pytest.raises(InputError, match=r"different words, \d+ are needed; add onsets"):
            check_inputs(replace(few, **more))


def test_files_have_no_words_for_generic_pretraining():
    given = replace(TINY, card="abstraction/released", generic_steps=10)
    with pytest.raises(InputError, match="--generic-steps is 10, and abstraction/released has no"):
        check_inputs(given)
