"""From cards, prompts and behaviours to what a localiser measures; blind metrics are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import behaviour_of, full_logits
from mechprobe.models import build_classifier, build_decoder, forward
from mechprobe.tasks import PromptTask, load_task
from mechprobe.tasks.batches import encode_pairs, word_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)
CLEAN = RNG.integers(0, 20, (40, 6))
ANSWERS, WRONG = RNG.integers(0, 20, (2, 40))


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=8, d_vocab=20, init_std=0.5,
        dtype=torch.float64,
    )


@pytest.fixture(scope="module")
def task():
    return load_task("nli/overlap", n_train=40, n_dev=30, n_ood=2)


@pytest.fixture(scope="module")
def classifier(task):
    words = task.split("train")
    tokenizer = word_tokenizer([*words.first, *words.second])
    return build_classifier(
        task.labels, tokenizer, n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=40, init_std=0.5
    )


def prompts(**settings):
    return PromptTask(CLEAN, answers=ANSWERS, wrong=WRONG, **settings)


def test_prompts_become_what_the_model_says_of_them(decoder):
    found = behaviour_of(decoder, prompts())
    logits = full_logits(decoder, found)
    expected = decoder(torch.tensor(CLEAN))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    batch = found.batches(64)[0]
    values = found.measure(logits, batch)
    rows = np.arange(40)
    last = expected[:, -1].detach().numpy()
    np.testing.assert_allclose(values, last[rows, ANSWERS] - last[rows, WRONG], atol=1e-12)


def test_at_most_n_examples_the_same_for_the_same_seed(decoder):
    small = behaviour_of(decoder, prompts(), n=10)
    assert len(small) == 10
    again = behaviour_of(decoder, prompts(), n=10)
    assert torch.equal(small.inputs.tokens, again.inputs.tokens)
    other = behaviour_of(decoder, prompts(), n=10, seed=1)
    assert not torch.equal(small.inputs.tokens, other.inputs.tokens)
    assert len(behaviour_of(decoder, prompts(), n=None)) == 40


def test_another_metric_can_be_asked_for(decoder):
    found = behaviour_of(decoder, prompts())
    for given in (prompts(), found):
        assert behaviour_of(decoder, given, metric="probability").metric_name == "probability"
    divergence = behaviour_of(decoder, prompts(), metric="kl")
    torch.testing.assert_close(divergence.targets["full_logits"], full_logits(decoder, found))
    batch = divergence.batches(64)[0]
    own = divergence.measure(full_logits(decoder, divergence), batch)
    torch.testing.assert_close(own, torch.zeros(40, dtype=torch.float64), rtol=0, atol=1e-12)


def test_ragged_prompts_get_logits_where_they_have_tokens(decoder, random_batch):
    from mechprobe.tasks import Behaviour

    found = Behaviour("ragged", random_batch(3, 7, 5), lambda logits, _: logits[:, 0, 0], "first")
    logits = full_logits(decoder, found)
    for row, n in enumerate((3, 7, 5)):
        alone = decoder(found.inputs.tokens[row : row + 1, :n])
        torch.testing.assert_close(logits[row, :n], alone[0], rtol=0, atol=1e-12)


def test_a_card_of_sentence_pairs(classifier, task):
    found = behaviour_of(classifier, task, n=20)
    examples = task.split("dev").sample(20, 0)
    (batch,) = encode_pairs(examples, classifier.tokenizer, 40).batches(20)
    with torch.no_grad():
        logits = forward(classifier, batch)
    right = logits[torch.arange(20), batch.labels]
    other = logits[torch.arange(20), 1 - batch.labels]
    own = found.batches(64)[0]
    values = found.measure(full_logits(classifier, found)[own.index], own)
    assert torch.equal(own.index, batch.index)
    torch.testing.assert_close(values, right - other, rtol=0, atol=1e-5)
    named = behaviour_of(classifier, "nli/overlap", n=5, metric="accuracy")
    assert (named.name, named.metric_name, len(named)) == ("nli/overlap:dev", "accuracy", 5)


def test_tasks_that_do_not_fit_the_model_are_refused(decoder, classifier, task):
    with pytest.raises(InputError, match="nli/overlap is about sentence pairs; give a classifier"):
        behaviour_of(decoder, task)
    other = build_classifier(
        ("a", "b"), classifier.tokenizer, n_layers=1, n_heads=1, d_model=4, n_ctx=40
    )
    with pytest.raises(InputError, match="the model gives a, b, task nli/overlap has entail"):
        behaviour_of(other, task)
    with pytest.raises(InputError, match="example 0 has 9 tokens, the model reads at most 8"):
        behaviour_of(decoder, PromptTask(np.ones((2, 9), int), answers=np.array([1, 2])))
    with pytest.raises(InputError, match="example 1 has token 20, the model knows 0 to 19"):
        behaviour_of(decoder, PromptTask(np.array([[1, 2], [3, 20]]), answers=np.array([1, 2])))


@pytest.mark.parametrize(
    "metric",
    [
        lambda logits: torch.ones(len(logits)),
        lambda logits, targets: targets["answer"].clamp(min=0).sum(1).float(),
    ],
)
def test_a_metric_that_does_not_depend_on_the_model_is_refused(decoder, metric):
    with pytest.raises(InputError, match="'<lambda>' does not depend on the model"):
        behaviour_of(decoder, prompts(), metric=metric)


@pytest.mark.parametrize("metric", ["accuracy", "exact_match"])
def test_a_model_that_is_always_wrong_still_has_an_accuracy(metric):
    """Noise hardly ever makes it right among 5000 tokens, yet the metric is no constant."""
    decoder = build_decoder(n_layers=1, n_heads=1, d_model=4, n_ctx=8, d_vocab=5000)
    task = PromptTask(np.array([[1, 2, 3]]), answers=np.array([4321]), metric=metric)
    assert behaviour_of(decoder, task).metric_name == metric


def test_one_example_of_one_classifier_has_an_accuracy(classifier, task):
    for seed in range(8):
        assert len(behaviour_of(classifier, task, n=1, seed=seed, metric="accuracy")) == 1


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "NaN"), (torch.inf, "infinite")])
def test_a_metric_that_is_no_number_names_the_example(decoder, value, word):
    def broken(logits, targets):
        out = logits[:, -1, 0].clone()
        out[targets["answer"][:, -1] == int(ANSWERS[17])] = value
        return out

    first = int(np.flatnonzero(ANSWERS == ANSWERS[17])[0])
    with pytest.raises(InputError, match=f"metric 'broken' is {word} on example {first};"):
        behaviour_of(decoder, prompts(), metric=broken)


def test_a_metric_gives_one_number_an_example(decoder):
    with pytest.raises(InputError, match=r"gave shape \[32, 6\] for 32 examples; it must give one"):
        behaviour_of(decoder, prompts(), metric=lambda logits: logits[..., 0])


def test_a_users_metric_may_be_true_or_false(decoder):
    found = behaviour_of(decoder, prompts(), metric=lambda logits: logits[:, -1, 3] > 0)
    values = found.measure(full_logits(decoder, found), found.batches(64)[0])
    assert set(values.tolist()) == {0.0, 1.0}
