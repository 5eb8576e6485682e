"""Each form of language card: what is asked, what is right, and which tokenizers it is for."""

from __future__ import annotations

import re

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.tasks import load_task
from mechprobe.tasks.language.greater_than import later_preferred, later_probability


def answers(asked, tokenizer, which="answer"):
    """What should follow each prompt, as text."""
    ids = asked.targets[which].max(1).values
    return [str(tokenizer.decode([int(i)])).strip() for i in ids]


def test_who_gets_is_the_one_named_once(gpt2_tokenizer, text):
    asked = load_task("behaviours/ioi", n=80).encode(gpt2_tokenizer)
    names = load_task("behaviours/ioi").card["names"]
    first = 0
    rights, givers = (answers(asked, gpt2_tokenizer, which) for which in ("answer", "wrong"))
    for row, (right, giver) in enumerate(zip(rights, givers, strict=True)):
        said = re.findall(r"[A-Za-z]+", text(gpt2_tokenizer, asked.inputs, row))
        people = [word for word in said if word in names]
        assert len(people) == 3
        assert people[2] == giver
        assert sorted(people[:2]) == sorted([right, giver])
        first += people[0] == giver
        others = re.findall(r"[A-Za-z]+", text(gpt2_tokenizer, asked.corrupt, row))
        strangers = [word for word in others if word in names]
        assert len(set(strangers)) == 3
        assert not set(strangers) & set(people)
    assert 20 < first < 60  # both orders


def test_names_of_several_tokens_are_left_out_and_too_few_are_refused(stories, word_tokenizer):
    with pytest.raises(InputError, match=r"2 of 48 words are one token.*'Mary' is '▁M' 'ar' 'y'"):
        load_task("behaviours/ioi").encode(stories.tokenizer)
    names = load_task("behaviours/ioi").card["names"][:9]
    tokenizer = word_tokenizer("and " + " ".join(names))
    asked = load_task("behaviours/ioi", n=50).encode(tokenizer)
    assert set(answers(asked, tokenizer)) <= set(names)
    with pytest.raises(InputError, match="counterfactual 'other'; give one of 'other names'"):
        load_task("behaviours/ioi", counterfactual="other").encode(tokenizer)


def test_a_span_ends_later_and_chance_is_the_share_of_later_years(gpt2_tokenizer, text):
    asked = load_task("behaviours/greater-than", n=60).encode(gpt2_tokenizer)
    right, wrong = (answers(asked, gpt2_tokenizer, which) for which in ("answer", "wrong"))
    for row in range(60):
        said = text(gpt2_tokenizer, asked.inputs, row)
        (century, year), again = re.search(r"(\d\d)(\d\d)", said).groups(), said[-2:]
        assert again == century
        assert int(asked.targets["start"][row, 0]) == int(year)
        assert int(right[row]) > int(year) >= int(wrong[row])
        assert float(asked.targets["chance"][row, 0]) == pytest.approx((99 - int(year)) / 100)
        assert f"{century}01" in text(gpt2_tokenizer, asked.corrupt, row)


def test_the_years_metrics_by_hand(gpt2_tokenizer):
    asked = load_task("behaviours/greater-than", n=5).encode(gpt2_tokenizer)
    width, years = asked.inputs.tokens.shape[1], asked.targets["years"][0]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, width, len(gpt2_tokenizer), generator=generator).double()
    got = later_probability(logits, asked.targets)
    best = later_preferred(logits, asked.targets)
    for row in range(5):
        last = int(asked.inputs.attention_mask[row].sum()) - 1
        start = int(asked.targets["start"][row, 0])
        p = logits[row, last].softmax(-1)
        by_hand = sum(float(p[years[y]]) * (1 if y > start else -1) for y in range(100))
        assert float(got[row]) == pytest.approx(by_hand, rel=1e-6)
        likeliest = max(range(100), key=lambda y, p=p: float(p[years[y]]))
        assert float(best[row]) == float(likeliest > start)


def test_years_of_one_digit_a_token_are_refused(stories):
    with pytest.raises(InputError, match="cuts ' 1732' into '▁' '1' '7' '3' '2'; the task needs"):
        load_task("behaviours/greater-than").encode(stories.tokenizer)


def test_a_random_string_begins_again_and_in_the_counterfactual_does_not():
    asked = load_task("behaviours/induction", n=40, period=7, again=3).encode(None, d_vocab=30)
    clean, corrupt = asked.inputs.tokens, asked.corrupt.tokens
    assert clean.shape == (40, 10)
    assert torch.equal(clean[:, :3], clean[:, 7:])
    assert torch.equal(corrupt[:, 7:], clean[:, 7:])
    for row in range(40):
        string = clean[row, :7].tolist()
        assert len(set(string)) == 7
        assert not set(string) & set(corrupt[row, :7].tolist())
        assert int(asked.targets["answer"][row, -1]) == string[3]
        assert int(asked.targets["wrong"][row, -1]) in {*string} - {string[2], string[3]}
    assert (asked.targets["chance"] == pytest.approx(1 / 7))


def test_random_tokens_are_no_special_ones(gpt2_tokenizer):
    asked = load_task("behaviours/induction", n=200).encode(gpt2_tokenizer, d_vocab=50257)
    assert not torch.isin(
        asked.inputs.tokens[:, 1:], torch.tensor(gpt2_tokenizer.all_special_ids)
    ).any()


@pytest.mark.parametrize(
    ("settings", "d_vocab", "message"),
    [
        ({"again": 20}, 100, "again=20 of period=20; the string must begin again"),
        ({"again": 0}, 100, "again=0 of period=20"),
        ({}, 30, "strings of 20 from 30 tokens; give a period of 3 or more, at most 15 here"),
        ({}, None, "random tokens need a tokenizer, or d_vocab"),
    ],
)
def test_strings_that_cannot_be_asked_are_refused(settings, d_vocab, message):
    with pytest.raises(InputError, match=message):
        load_task("behaviours/induction", **settings).encode(None, d_vocab=d_vocab)


def test_a_name_goes_on_as_it_was_told(stories, text):
    tokenizer = stories.tokenizer
    asked = load_task("behaviours/induction-names", n=50).encode(tokenizer)
    right, wrong = (answers(asked, tokenizer, which) for which in ("answer", "wrong"))
    for row in range(50):
        told, other = (text(tokenizer, b, row) for b in (asked.inputs, asked.corrupt))
        begun = told.split()[-1]
        assert other.endswith(begun)
        assert re.search(rf"\b{begun}{right[row]}\w*\b", told)
        assert not re.search(rf"\b{begun}{wrong[row]}\w*\b", told)
        assert re.search(rf"\b{begun}{wrong[row]}\w*\b", other)


def test_names_of_one_token_cannot_be_asked_about(gpt2_tokenizer):
    with pytest.raises(InputError, match=r"2 pairs of names begin .*; take behaviours/induction"):
        load_task("behaviours/induction-names").encode(gpt2_tokenizer)
