"""What all language cards share: equal lengths, answers at the end, splits, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.sites import Site
from mechprobe.tasks import LanguageTask, list_tasks, load_task
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.cards import load_pairs, read_card

CARDS = [name for name in list_tasks() if name.startswith("behaviours/")]
GPT2 = ("GPT2LMHeadModel", (12, 12, 768))


def tokenizer_for(name, gpt2_tokenizer, stories):
    return stories.tokenizer if name.endswith("names") else gpt2_tokenizer


def test_the_three_behaviours_are_there():
    assert {"behaviours/ioi", "behaviours/greater-than", "behaviours/induction"} <= set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_pairs_are_equally_long_and_differ_and_are_asked_at_their_last_token(
    name, gpt2_tokenizer, stories
):
    tokenizer = tokenizer_for(name, gpt2_tokenizer, stories)
    asked = load_task(name, n=60).encode(tokenizer)
    assert len(asked) == 60
    clean, corrupt = asked.inputs, asked.corrupt
    assert torch.equal(clean.attention_mask, corrupt.attention_mask)
    assert ((clean.tokens != corrupt.tokens).any(1)).all()
    last = clean.attention_mask.sum(1) - 1
    rows = torch.arange(60)
    assert torch.equal(clean.tokens[rows, last], corrupt.tokens[rows, last])
    for target in ("answer", "wrong"):
        ids = asked.targets[target]
        assert ((ids != UNSCORED).sum(1) == 1).all()
        assert (ids[rows, last] >= 0).all()
    assert (asked.targets["answer"][rows, last] != asked.targets["wrong"][rows, last]).all()
    assert ((asked.targets["chance"] > 0) & (asked.targets["chance"] < 1)).all()
    assert (clean.tokens[:, 0] == tokenizer.bos_token_id).all()


@pytest.mark.parametrize("name", CARDS)
def test_a_seed_and_a_split_decide_the_examples(name, gpt2_tokenizer, stories):
    tokenizer = tokenizer_for(name, gpt2_tokenizer, stories)

    def rows(seed: int, split: str) -> set[tuple[int, ...]]:
        inputs = load_task(name, n=40, seed=seed).encode(tokenizer, split).inputs
        return {tuple(row.tolist()) for row in inputs.tokens}

    assert rows(0, "dev") == rows(0, "dev")
    assert rows(0, "dev") != rows(1, "dev")
    assert not rows(0, "dev") & rows(0, "test") or not name.endswith("names")
    assert rows(0, "dev") != rows(0, "train")


@pytest.mark.parametrize("name", CARDS)
def test_expected_heads_are_heads_of_gpt2_and_have_a_source(name):
    task = load_task(name)
    assert task.expected("LlamaForCausalLM", (5, 8, 64)) == []
    for expected in task.expected(*GPT2):
        assert expected.model == "GPT-2 small"
        assert "20" in expected.source
        sites = [Site.parse(head) for head in expected.all()]
        assert sites
        assert all(s.kind == "head" and s.layer < 12 and s.index < 12 for s in sites)
        assert len(set(sites)) == sum(map(len, expected.heads.values()))


def test_the_name_movers_of_wang_et_al_are_listed():
    (expected,) = load_task("behaviours/ioi").expected(*GPT2)
    assert expected.heads["name movers"] == ("9.9", "9.6", "10.0")
    assert len(expected.all()) == 26


def test_what_cannot_be_asked_is_refused(tmp_path, gpt2_tokenizer):
    task = load_task("behaviours/ioi")
    assert isinstance(task, LanguageTask)
    with pytest.raises(InputError, match="no split 'ood'; behaviours/ioi has train, dev, test"):
        task.encode(gpt2_tokenizer, "ood")
    with pytest.raises(InputError, match="is text and the model has no tokenizer"):
        task.encode(None)
    with pytest.raises(InputError, match="holds prompts for language models, not labelled pairs"):
        load_pairs("behaviours/ioi")
    with pytest.raises(InputError, match="has no setting 'period'; it has n, counterfactual"):
        load_task("behaviours/ioi", period=3)
    card = tmp_path / "mine.toml"
    card.write_text('kind = "language"\nform = "poem"\nsource = "me"\n')
    with pytest.raises(InputError, match="has form 'poem'; expected one of ioi, greater-than"):
        load_task(card)
    card.write_text('kind = "language"\nform = "ioi"\nsource = "me"\nnames = ["Mary"]\n')
    with pytest.raises(InputError, match="of form 'ioi' lacks templates, places, objects"):
        load_task(card)


def test_every_word_list_has_each_word_once():
    for name in CARDS:
        for value in read_card(name).values():
            if isinstance(value, list) and value and isinstance(value[0], str | int):
                assert len(set(value)) == len(value), (name, value)


def test_a_users_own_card_is_asked_like_ours(tmp_path, word_tokenizer, text):
    words = "Ada Bea Cal Dan Eve Fay Gus Hal"
    card = tmp_path / "mine.toml"
    card.write_text(
        'kind = "language"\nform = "ioi"\nsource = "me"\ntemplates = ["and {A} saw {B} {S} and"]\n'
        f'names = {words.split()!r}\nplaces = ["x"]\nobjects = ["y"]\n'
        '[settings]\nn = 30\ncounterfactual = "swapped"\n'
    )
    tokenizer = word_tokenizer(f"and saw {words}")
    asked = load_task(card).encode(tokenizer)
    for row in range(30):
        _, a, _, b, s, _ = text(tokenizer, asked.inputs, row).split()
        _, c, _, d, t, _ = text(tokenizer, asked.corrupt, row).split()
        assert (a, b) == (c, d)
        assert {s, t} == {a, b}
        answer = asked.targets["answer"][row, -1]
        assert tokenizer.decode([int(answer)]) == t  # who does not give in the clean prompt
    assert np.unique(asked.targets["answer"][:, -1].numpy()).size > 4
