"""Sequences that a model is scored on, also under rules that leave some strings out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mechprobe.studies.hierarchy.sequences import held_out, score, scored_sets
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.studies.hierarchy.specs import grammar_of, read_spec
from mechprobe.studies.hierarchy.write import notes
from mechprobe.training.tree_tasks import seeded
from mechprobe.trees import belief_propagation, divergences

GAPPED = [[[0.5, 0.5], [0.0, 0.0]], [[0.2, 0.0], [0.0, 0.8]]]
"""Under these rules the pair (1, 0) never occurs."""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "gapped.json").write_text(json.dumps(GAPPED))
    return replace(
        PRESETS["tiny"], rules=str(tmp_path / "gapped.json"), depth=2, n_eval=200, max_masks=2,
    )


@pytest.mark.parametrize("name", ["root-k0", "masked-k0", "root-k2"])
def test_an_observer_to_whom_a_string_is_impossible_knows_nothing(settings, name):
    spec = read_spec(settings, name)
    grammar = grammar_of(settings, spec)
    seen = 0
    for scored in scored_sets(settings, spec):
        for observers in (scored.bp, scored.blocks):
            if observers is not None:
                torch.testing.assert_close(
                    observers.sum(-1), torch.ones(observers.shape[:2], dtype=torch.float64)
                )
        if scored.mask is None:
            impossible = belief_propagation(grammar, scored.tokens).log_evidence == -torch.inf
            assert (scored.bp[0][impossible] == 0.5).all()
            assert scored.bp[2][impossible].ne(0.5).any() or not impossible.any()
            seen += int(impossible.sum())
    assert seen > 20 or spec.kind == "masked"


def test_impossible_strings_do_not_bring_an_observer_nearer(settings):
    """A model that is BP_2 is closest to BP_2 on data of k = 2, few of which BP_0 allows."""
    spec = read_spec(settings, "root-k2")
    own = held_out(settings, spec, 300, 2)
    scored = score(grammar_of(settings, spec), "root", "", own.leaves, own.root, seeded("cpu", 0))
    kl = divergences(scored.bp, scored.bp[2].clamp_min(1e-12).log()).mean(1)
    assert kl.argmin() == 2
    assert kl[0] > 0.1


def test_notes_are_of_the_rules_in_force(settings, tmp_path):
    text = " ".join(notes(settings))
    assert "rules of gapped.json; q = 2, depth 2, arity 2" in text
    assert "leave child tuples out" in text
    assert str(tmp_path) not in text
    random = " ".join(notes(replace(PRESETS["tiny"], arity=3, depth=2)))
    assert "seed 0; q = 4, depth 2, arity 3" in random
    assert "leave child tuples out" not in random
