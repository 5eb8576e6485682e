"""With all words borrowed, a model reads a sentence as its auxiliary translation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.models.edits import forward
from mechprobe.runs import Run
from mechprobe.studies.abstraction.borrowed import (
    BORROWERS,
    borrowed_table,
    borrowed_unit,
    borrows,
)
from mechprobe.studies.abstraction.data import prepare
from mechprobe.studies.abstraction.models import fresh_model, keep_model, open_model
from mechprobe.studies.abstraction.new_words import (
    UNLIKELY,
    borrow,
    new_prepositions,
    new_words,
    written_words,
)
from mechprobe.studies.abstraction.procedures import SetRun, begin, target_unit
from mechprobe.studies.abstraction.settings import PRESETS
from mechprobe.tasks.abstraction.twins import twin_words

TINY = replace(PRESETS["tiny"], n_train=200, n_test=12, n_ood=12)


@pytest.fixture(scope="module", params=["decoder", "encoder-decoder"])
def made(request):
    settings = replace(TINY, arch=request.param)
    data = prepare(settings, 0)
    return settings, data, fresh_model(settings, data, 5)


def test_all_borrowed_it_says_what_it_says_of_the_translation(made):
    _, data, model = made
    ids = data.words.ids
    rows = data.target["train"].take([60, 61, 62])
    translated = data.auxiliary["train"].take([60, 61, 62])
    chosen = np.arange(3)
    twins = {ids[word]: ids[twin] for word, twin in twin_words(data.tasks).items()}
    written = written_words(data)
    with torch.no_grad():
        theirs = forward(model, translated.batch(chosen))
        before = forward(model, rows.batch(chosen))
        assert not torch.allclose(before, theirs, atol=1e-3)
        borrow(model, twins, written)
        mine = forward(model, rows.batch(chosen))
    words = [word for word in twins if word in written]
    lent = [twins[word] for word in words]
    rest = [i for i in range(len(data.words)) if i not in {*words, *lent}]
    assert len(lent) > 20
    assert torch.allclose(mine[..., rest], theirs[..., rest], atol=1e-5)
    assert torch.allclose(mine[..., words], theirs[..., lent], atol=1e-5)  # as likely written
    assert torch.allclose(mine[..., lent], theirs[..., lent] - UNLIKELY, atol=1e-4)


def test_content_words_learn_alone_and_prepositions_are_given(made, tmp_path):
    settings, data, _ = made
    settings = replace(settings, adapt=("content",), finetune_steps=3)
    given, new = new_prepositions(data), new_words(data)
    name = data.words.words
    assert {name[word]: name[twin] for word, twin in given.items()} == {
        "on": "above", "in": "near", "beside": "under"
    }
    assert set(given) < set(new)
    with Run.open(tmp_path / "run", {"study": "abstraction"}) as run:
        keep_model(run, "auxiliary-0", fresh_model(settings, data, 5))
        at = SetRun(settings, run, 0, _data=data)
        target_unit(at, "auxiliary", "content", "main", "auxiliary-0", keep=True)
        learnt = open_model(settings, data, run, "main")
    before, after = fresh_model(settings, data, 5).state_dict(), learnt.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {"embed.W_E", "unembed.W_U"} <= moved <= {"embed.W_E", "unembed.W_U", "unembed.b_U"}
    still = [i for i in range(len(name)) if i not in new or i in given]
    twins = [given.get(i, i) for i in still]
    assert torch.equal(after["embed.W_E"][still], before["embed.W_E"][twins])
    assert torch.equal(after["unembed.W_U"][:, still], before["unembed.W_U"][:, twins])
    learns = [i for i in new if i not in given]
    changed = (after["embed.W_E"] != before["embed.W_E"])[learns].any(1)
    assert changed.float().mean() > 0.5  # the words that three batches have


@pytest.mark.parametrize("source", [None, "generic-0"])
def test_a_control_is_given_prepositions_where_its_body_has_some_to_lend(made, tmp_path, source):
    """From nothing they are learnt; generic pretraining has the auxiliary task's."""
    settings, data, _ = made
    settings = replace(settings, adapt=("content",), finetune_steps=3)
    with Run.open(tmp_path / "run", {"study": "abstraction"}) as run:
        keep_model(run, "generic-0", fresh_model(settings, data, 5))
        at = SetRun(settings, run, 0, _data=data)
        before = begin(at, source).state_dict()["embed.W_E"]
        target_unit(at, "control", "content", "control", source, keep=True)
        after = open_model(settings, data, run, "control").state_dict()["embed.W_E"]
    given = new_prepositions(data)
    moved = (after != before).any(1)
    assert set(moved.nonzero().flatten().tolist()) <= set(new_words(data))
    lent = torch.equal(after[list(given)], before[list(given.values())])
    assert lent is (source is not None)
    assert moved[list(given)].any()


def test_generic_pretraining_has_the_prepositions_that_are_lent():
    settings = replace(TINY, generic_steps=1, generic_sets=2)
    data = prepare(settings, 0)
    words = {token.lower() for row in data.generic.source for token in row}
    names = data.words.words
    assert {names[lent] for lent in new_prepositions(data).values()} <= words


def test_a_unit_scores_every_condition_and_leaves_the_kept_model(made, tmp_path):
    settings, data, _ = made
    with Run.open(tmp_path / "run", {"study": "abstraction"}) as run:
        keep_model(run, "main", fresh_model(settings, data, 5))
        found = borrowed_unit(SetRun(settings, run, 0, _data=data), "main")
    assert list(found) == ["none", "prefix", "noun", "verb", "preposition", "all"]
    assert all(len(found[name]["ood"]) == 12 for name in BORROWERS)


def test_the_table_has_means_over_sets_and_kinds():
    def outcome(n):
        return {"test": [True, False], "ood": [True] * n + [False] * (4 - n)}

    found = [{name: outcome(k) for name in BORROWERS} for k in (1, 3)]
    kinds = [["agent", "agent", "theme", "theme"], ["theme", "agent", "agent", "theme"]]
    table = borrowed_table(TINY, found, kinds).set_index("borrowed")
    assert table.loc["all", "generalisation"] == 0.5
    assert table.loc["all", "in_distribution"] == 0.5
    assert table.loc["noun", "agent"] == 0.75  # 1 and 0, then 1 and 1
    assert table.loc["noun", "theme"] == 0.25
    assert (table.generalisation_low <= table.generalisation).all()


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, True), ({"adapt": ("full",)}, False), ({"fold_case": False}, False),
     ({"model": "t5-small", "adapt": ("frozen",)}, False)],
)
def test_it_needs_new_words_of_one_token_each(given, told):
    assert borrows(replace(TINY, **given)) is told
