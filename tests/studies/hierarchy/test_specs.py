"""Names of models, own rules, checkpoints, and what is refused before any work."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.studies.hierarchy.check import check
from mechprobe.studies.hierarchy.models import fresh_model
from mechprobe.studies.hierarchy.settings import PRESETS, Settings
from mechprobe.studies.hierarchy.specs import checkpoint_steps, grammar_of, read_spec, read_specs
from mechprobe.trees import Grammar

LAPTOP = PRESETS["laptop"]


def test_a_name_says_what_is_trained():
    spec = read_spec(LAPTOP, "masked-k2-heads4-layers5-depth3-q6")
    assert (spec.kind, spec.k, spec.n_heads, spec.n_layers, spec.depth, spec.q) == (
        "masked", 2, 4, 5, 3, 6
    )
    assert spec.variant
    assert not spec.own_grammar
    assert grammar_of(LAPTOP, spec).transition.shape == (6, 6, 6)
    main_ = read_spec(LAPTOP, "root-k0")
    assert (main_.n_layers, main_.n_heads, main_.steps) == (4, 1, LAPTOP.root_steps)
    assert not main_.variant
    assert read_spec(LAPTOP, "root-k1").steps == LAPTOP.root_filtered_steps
    shorter = replace(LAPTOP, variant_steps=7)
    assert read_spec(shorter, "root-k0-layers3").steps == 7
    assert read_spec(shorter, "root-k0").steps == LAPTOP.root_steps


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_can_be_built(preset):
    settings = replace(PRESETS[preset], device="cpu")
    check(settings)
    for spec in read_specs(settings):
        assert fresh_model(settings, spec).cfg.n_layers == spec.n_layers
    assert all("help" in field.metadata for field in fields(Settings))


def test_checkpoints_are_even_in_log_steps_with_both_ends():
    steps = checkpoint_steps(LAPTOP, read_spec(LAPTOP, "root-k0"))
    assert steps[0] == 0
    assert steps[-1] == LAPTOP.root_steps
    assert len(steps) == LAPTOP.n_checkpoints
    ratios = [b / a for a, b in pairwise(steps[2:])]
    assert max(ratios) / min(ratios) < 1.3
    assert checkpoint_steps(LAPTOP, replace(read_spec(LAPTOP, "root-k0"), steps=1)) == [0, 1]


def test_own_rules_are_read_ternary_too(tmp_path):
    table = Grammar.random(3, 2, seed=5, arity=3).transition
    (tmp_path / "rules.json").write_text(json.dumps(table.tolist()))
    settings = replace(LAPTOP, rules=str(tmp_path / "rules.json"), depth=2, models=("root-k0",))
    check(replace(settings, unambiguous=True))
    found = grammar_of(settings, read_spec(settings, "root-k0"))
    assert torch.equal(found.transition, table)
    assert found.n_leaves == 9
    assert fresh_model(settings, read_spec(settings, "root-k0")).cfg.n_ctx == 9


def _rules(tmp_path, table):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(table))
    return ["--rules", str(path)]


HALF = [[[0.5, 0.0], [0.0, 0.5]], [[0.0, 0.5], [0.5, 0.0]]]
SHARED = [[[0.5, 0.5], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.5]]]


@pytest.mark.parametrize(("words", "said"), [
    (["--models", "root-k5"], "k=5 is not possible for depth 4; give k in 0..4"),
    (["--models", "roots-k0"], "'roots-k0' is not understood"),
    (["--models", "root-k0", "root-k0"], "names one twice"),
    (["--models"], "no models given"),
    (["--models", "masked-k0-heads3"], "not a multiple of the 3 heads"),
    (["--models", "masked-k0-heads0"], "no heads or layers"),
    (["--models", "root-k0-layers0"], "no heads or layers"),
    (["--models", "root-k0-heads2-heads4"], "a part twice"),
    (["--models", "root-k0-q900"], "7.3e+08 rules"),
    (["--models", "root-k0-depth10"], "'root-k0-depth10' takes 98 GiB, 40 sequences fit"),
    (["--models", "root-k0-depth13"], "8192 leaves"),
    (["--models", "masked-k0-depth1", "--depth", "1"], "--max-masks is 4"),
    (["--depth", "0"], "--depth is 0"),
    (["--q", "1"], "--q is 1"),
    (["--seed", "-1"], "--seed is -1"),
    (["--lr", "0"], "--lr is 0.0"),
    (["--norm", "none"], "--norm 'none'"),
    (["--positions", "rotary"], "--positions 'rotary'"),
    (["--n-train", "5"], "--n-train is 5, less than --batch 64"),
    (["--device", "abacus"], "device 'abacus' cannot be used"),
    (["--device", "meta"], "device 'meta' cannot be used"),
    (["--rules", "nowhere.json"], "nowhere.json cannot be read"),
    (["--sigma", "-1"], "--sigma is -1.0"),
    (["--preset", "tinny"], "nearest: tiny"),
    (["--grammarseed", "1"], "nearest: --grammar-seed"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_the_command_refuses_in_one_line_and_leaves_nothing_behind(
    capsys, tmp_path, monkeypatch, words, said
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "hierarchy", "--out", "run", *words]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("table", "more", "said"), [
    ([[[0.5, 0.0], [0.0, 0.4]], [[0.0, 0.5], [0.5, 0.0]]], [], "parent 0 sum to 0.9"),
    (SHARED, ["--unambiguous"], "ambiguous"),
    ([[0.5, 0.5], [0.5, 0.5]], [], "rules of shape (2, 2)"),
    ([[[0.5], [0.5, 0.0]]], [], "cannot be read"),
    (HALF, ["--models", "root-k0-q3"], "asks for q=3"),
])
def test_rules_that_are_none_are_refused(capsys, tmp_path, table, more, said):
    words = ["run", "hierarchy", "--out", str(tmp_path / "run"), *_rules(tmp_path, table), *more]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_k_outside_the_tree_is_refused():
    with pytest.raises(InputError, match="k=9"):
        read_spec(LAPTOP, "root-k9")
