"""Prompts as text and as tokens; every bad input is refused by name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models import load_llama2c
from mechprobe.tasks import PromptTask, Task
from mechprobe.tasks.answers import METRICS, UNSCORED

WORDS = ["<s>", "the", "cat", "dog", "sat", "ran", "on", "mat", "<pad>"]
IDS = {word: i for i, word in enumerate(WORDS)}


def word_tokenizer(bos=True):
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", **({"bos_token": "<s>"} if bos else {})
    )


def ids(text):
    return [IDS[word] for word in text.split()]


CLEAN = ["the cat sat", "the dog", "on the mat the cat"]
CORRUPT = ["the dog sat", "the cat", "on the mat the dog"]


def test_ragged_texts_are_padded_on_the_right_and_scored_at_their_last_token():
    task = PromptTask(CLEAN, CORRUPT, answers=["on", "ran", "sat"], wrong=["ran", "sat", "ran"])
    found = task.encode(word_tokenizer())
    for row, (text, other) in enumerate(zip(CLEAN, CORRUPT, strict=True)):
        n = len(text.split()) + 1
        assert found.inputs.tokens[row].tolist() == [0, *ids(text), *[8] * (6 - n)]
        assert found.corrupt.tokens[row].tolist() == [0, *ids(other), *[8] * (6 - n)]
        assert found.inputs.attention_mask[row].tolist() == [1] * n + [0] * (6 - n)
        for name, words in (("answer", ["on", "ran", "sat"]), ("wrong", ["ran", "sat", "ran"])):
            expected = [UNSCORED] * 6
            expected[n - 1] = IDS[words[row]]
            assert found.targets[name][row].tolist() == expected
    assert (found.name, found.metric_name) == ("prompts", "logit_difference")


def test_the_beginning_of_sequence_token_stands_there_once():
    tokenizer = word_tokenizer()
    with_one = PromptTask(["<s> the cat", "the cat"], answers=["sat", "sat"])
    assert with_one.encode(tokenizer).inputs.tokens.tolist() == [[0, 1, 2], [0, 1, 2]]
    without = PromptTask(["the cat"], answers=["sat"], prepend_bos=False)
    assert without.encode(tokenizer).inputs.tokens.tolist() == [[1, 2]]
    plain = PromptTask(["the cat"], answers=["sat"])
    assert plain.encode(word_tokenizer(bos=False)).inputs.tokens.tolist() == [[1, 2]]
    asked = PromptTask(["the cat"], answers=["sat"], prepend_bos=True)
    with pytest.raises(InputError, match="no beginning-of-sequence token; set prepend_bos=False"):
        asked.encode(word_tokenizer(bos=False))


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_tokens_need_no_tokenizer(kind):
    clean, corrupt = kind([[1, 2, 3], [4, 5, 6]]), kind([[1, 2, 7], [4, 5, 7]])
    found = PromptTask(clean, corrupt, answers=kind([2, 5])).encode()
    assert found.inputs.tokens.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.targets["answer"].tolist() == [[UNSCORED, UNSCORED, 2], [UNSCORED, UNSCORED, 5]]
    everywhere = [[UNSCORED, 2, 3], [4, UNSCORED, UNSCORED]]
    found = PromptTask(clean, corrupt, answers=kind(everywhere)).encode()
    assert found.targets["answer"].tolist() == everywhere


def test_kl_needs_no_answers_and_a_users_metric_neither():
    tokens = np.array([[1, 2, 3]])
    found = PromptTask(tokens, metric="kl").encode()
    assert found.targets["answer"].tolist() == [[UNSCORED, UNSCORED, 0]]
    mine = PromptTask(tokens, metric=lambda logits: logits[:, -1, 3]).encode()
    assert not mine.targets
    with pytest.raises(InputError, match="metric 'probability' needs answers; give them"):
        PromptTask(tokens, metric="probability").encode()


def test_pairs_of_different_length_are_refused():
    task = PromptTask(CLEAN, ["the dog sat", "the", "on the mat the dog"], answers=["on"] * 3)
    with pytest.raises(InputError, match="example 1 has 3 tokens, its counterfactual 2"):
        task.encode(word_tokenizer())


def test_clean_equal_to_corrupt_warns_once_for_all():
    task = PromptTask(CLEAN, [CORRUPT[0], *CLEAN[1:]], answers=["on"] * 3)
    with pytest.warns(UserWarning, match=r"2 of 3 clean prompts equal .* \(first: 1\)"):
        task.encode(word_tokenizer())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clean": "the cat", "answers": ["sat"]}, "clean is one text; give a list of texts"),
        ({"clean": ["the cat"], "answers": "sat"}, "'answer' is one text; give one a prompt"),
        ({"clean": ["the cat", ""], "answers": ["sat", "on"], "prepend_bos": False},
         "an empty clean prompt"),
        ({"clean": [], "answers": []}, "an empty clean prompt"),
        ({"clean": ["the cat"], "answers": ["sat on"]},
         "the answer 'sat on' is 2 tokens; give answers of one token"),
        ({"clean": ["the cat"], "answers": ["sat", "on"]}, "2 of 'answer' for 1 prompts"),
        ({"clean": ["the cat"], "answers": np.array([[4, 5]])},
         r"'answer' has shape \[1, 2\], the prompts \[1, 3\]"),
        ({"clean": ["the cat"], "answers": np.full((1, 3), UNSCORED)}, "0 is scored nowhere"),
        ({"clean": ["the cat", "the"], "answers": np.array([[1, 2, 3], [1, 2, 3]])},
         "example 1 is scored past its last token; put -100 there"),
        ({"clean": ["the cat"], "answers": ["sat"], "metric": "logits"}, "no metric 'logits'"),
    ],
)  # fmt: skip
def test_bad_prompts_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PromptTask(**settings).encode(word_tokenizer())


def test_text_without_a_tokenizer_is_refused():
    with pytest.raises(InputError, match="text needs a tokenizer and the model has none"):
        PromptTask(["the cat"], answers=["sat"]).encode()
    with pytest.raises(InputError, match="text needs a tokenizer and the model has none"):
        PromptTask(np.array([[1, 2]]), answers=["sat"]).encode()


def test_a_task_from_pairs_is_the_same():
    task = Task.from_pairs(CLEAN, CORRUPT, answers=["on"] * 3, metric="probability")
    assert task == PromptTask(CLEAN, CORRUPT, answers=["on"] * 3, metric="probability")


def test_an_answer_after_a_space_is_the_token_it_is_inside_a_text(data_dir):
    """Tokenizers of Llama's kind put a space of their own before a text."""
    tokenizer = load_llama2c(data_dir / "models" / "stories260K.bin.xz").tokenizer
    found = PromptTask(["The cat"], None, [" was"], [" very"]).encode(tokenizer)
    ids = [int(found.targets[name][0, -1]) for name in ("answer", "wrong")]
    assert tokenizer.convert_ids_to_tokens(ids) == ["\u2581was", "\u2581very"]
    whole = tokenizer("The cat was", add_special_tokens=False)["input_ids"]
    assert whole[-1] == ids[0]
    with pytest.raises(InputError, match="the answer ' Melanie' is 6 tokens"):
        PromptTask(["The cat"], None, [" Melanie"]).encode(tokenizer)


TOKENS = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clean": TOKENS[0]}, r"clean tokens have shape \[3\]; give one row a prompt, \[n, pos\]"),
        ({"clean": TOKENS.astype(float)}, "clean tokens: dtype float64; give token ids"),
        ({"clean": torch.tensor(TOKENS).float()}, "clean tokens: dtype torch.float32; give"),
        ({"clean": TOKENS.tolist()}, "clean prompts hold list, not text; give texts, or tokens as"),
        ({"corrupt": TOKENS[:, :2]}, "example 0 has 3 tokens, its counterfactual 2 .2 such"),
        ({"corrupt": TOKENS[:1]}, "2 examples, 1 counterfactuals; give one each"),
        ({"corrupt": TOKENS > 2}, "corrupt tokens: dtype bool; give"),
        ({"answers": np.array([1])}, "1 of 'answer' for 2 prompts; give one each"),
        ({"answers": [1, 2]}, "'answer' holds int, not text; give texts, or ids as one integer"),
        ({"wrong": np.array([1.0, 2.0])}, "'wrong': dtype float64; give token ids as integers"),
        ({"wrong": np.ones((2, 1, 1), int)}, r"'wrong' has shape \[2, 1, 1\]; give ids"),
        ({"answers": None}, "metric 'logit_difference' needs answers; give them, or metric='kl'"),
        ({"metric": "logits"}, "no metric 'logits'; one of logit_difference"),
    ],
)  # fmt: skip
def test_what_needs_no_tokenizer_is_refused_at_once(settings, message):
    given = {"clean": TOKENS, "corrupt": TOKENS[::-1].copy(), "answers": np.array([1, 2])}
    with pytest.raises(InputError, match=message) as refused:
        PromptTask(**(given | settings))
    assert "\n" not in str(refused.value)


def test_the_help_of_from_pairs_shows_its_arguments():
    shown = inspect.signature(Task.from_pairs).parameters
    own = inspect.signature(PromptTask).parameters
    assert [(p.name, p.default) for p in shown.values()] == [
        (p.name, p.default) for p in own.values()
    ]
    said = str(Task.from_pairs.__doc__)
    assert all(f"{name}:" in said for name in shown)
    assert all(f'"{name}"' in said for name in METRICS)
