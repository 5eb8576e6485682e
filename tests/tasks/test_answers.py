"""Every named metric against a loop over examples and positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.tasks.answers import LABEL_METRICS, METRICS, UNSCORED, find_metric, last_position

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5, 6, 7, generator=GENERATOR, dtype=torch.float64)
FULL = torch.randn(5, 6, 7, generator=GENERATOR, dtype=torch.float64)
ANSWER = torch.randint(0, 7, (5, 6), generator=GENERATOR)
ANSWER[torch.rand(5, 6, generator=GENERATOR) < 0.4] = UNSCORED
ANSWER[:, 2] = LOGITS[:, 2].argmax(-1)  # some answers are right
ANSWER[3, [0, 1, 3, 4, 5]] = UNSCORED  # and one example is right wherever it is scored
WRONG = torch.randint(0, 7, (5, 6), generator=GENERATOR)


def softmax(row):
    weights = [math.exp(v) for v in row]
    return [w / sum(weights) for w in weights]


def at_position(name, row, full, answer, wrong):
    """One metric at one position, from lists of numbers."""
    p, q = softmax(full), softmax(row)
    return {
        "logit_difference": row[answer] - row[wrong],
        "probability": q[answer],
        "log_probability": math.log(q[answer]),
        "accuracy": float(max(range(len(row)), key=row.__getitem__) == answer),
        "exact_match": float(max(range(len(row)), key=row.__getitem__) == answer),
        "preference": float(row[answer] > row[wrong]),
        "kl": -sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
    }[name]


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_means_over_the_scored_positions(name):
    targets = {"answer": ANSWER, "wrong": WRONG, "full_logits": FULL}
    values = METRICS[name](LOGITS, targets)
    assert values.shape == (5,)
    for i in range(5):
        scored = [
            at_position(name, LOGITS[i, t].tolist(), FULL[i, t].tolist(), int(ANSWER[i, t]),
                        int(WRONG[i, t]))
            for t in range(6) if ANSWER[i, t] != UNSCORED
        ]  # fmt: skip
        expected = min(scored) if name == "exact_match" else sum(scored) / len(scored)
        assert float(values[i]) == pytest.approx(expected, abs=1e-12)
    if name in ("accuracy", "exact_match"):
        assert 0 < float(values.mean()) < 1


@pytest.mark.parametrize("name", METRICS)
def test_targets_may_be_wider_than_a_batch_cut_to_its_longest_row(name):
    answer = ANSWER.clone()
    answer[:, 4:] = UNSCORED
    targets = {"answer": answer, "wrong": WRONG, "full_logits": FULL}
    cut = METRICS[name](LOGITS[:, :4], targets)
    torch.testing.assert_close(cut, METRICS[name](LOGITS, targets))


def test_without_a_wrong_answer_the_best_other_counts():
    values = METRICS["logit_difference"](LOGITS, {"answer": ANSWER})
    for i in range(5):
        scored = []
        for t in range(6):
            if (a := int(ANSWER[i, t])) != UNSCORED:
                row = LOGITS[i, t].tolist()
                scored.append(row[a] - max(row[:a] + row[a + 1 :]))
        assert float(values[i]) == pytest.approx(sum(scored) / len(scored), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_one_row_of_logits_an_example_works_alike(name):
    logits, full, ids = LOGITS[:, 0], FULL[:, 0], WRONG[:, 1]
    values = METRICS[name](logits, {"answer": ids, "wrong": WRONG[:, 2], "full_logits": full})
    for i in range(5):
        expected = at_position(
            name, logits[i].tolist(), full[i].tolist(), int(ids[i]), int(WRONG[i, 2])
        )
        assert float(values[i]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_label_metrics_accept_several_labels(name):
    logits, full = LOGITS[:, 0, :3], FULL[:, 0, :3]
    accept = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0]]).bool()
    values = LABEL_METRICS[name](logits, {"accept": accept, "full_logits": full})
    for i in range(5):
        p, q = softmax(full[i].tolist()), softmax(logits[i].tolist())
        right = sum(v for v, ok in zip(q, accept[i].tolist(), strict=True) if ok)
        expected = {
            "logit_difference": math.log(right / (1 - right)),
            "probability": right,
            "accuracy": float(accept[i, int(logits[i].argmax())]),
            "kl": -sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
        }[name]
        assert float(values[i]) == pytest.approx(expected, abs=1e-9)


def test_a_users_function_takes_logits_or_logits_and_targets():
    def mine(logits):
        return logits[:, -1, 0]

    def scaled(logits, scale=2.0):
        return scale * logits[:, -1, 0]

    def with_targets(logits, targets):
        return logits[:, -1, 0] + targets["bonus"]

    def optional(logits, targets=None):
        return logits[:, -1, 0] + targets["bonus"]

    targets = {"bonus": torch.arange(5.0)}
    for function, expected in (
        (mine, LOGITS[:, -1, 0]), (scaled, 2 * LOGITS[:, -1, 0]),
        (with_targets, LOGITS[:, -1, 0] + targets["bonus"]),
        (optional, LOGITS[:, -1, 0] + targets["bonus"]),
    ):  # fmt: skip
        name, metric = find_metric(function)
        assert name == function.__name__
        torch.testing.assert_close(metric(LOGITS, targets), expected)
    assert find_metric(torch.sigmoid)[1](LOGITS, {}).shape == LOGITS.shape


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="no metric 'logit_diff'; one of logit_difference, prob"):
        find_metric("logit_diff")


def test_the_last_position_is_the_last_real_token():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    target = last_position(torch.tensor([5, 6, 7]), mask)
    expected = np.full((3, 4), UNSCORED)
    expected[[0, 1, 2], [2, 0, 3]] = 5, 6, 7
    np.testing.assert_array_equal(target.numpy(), expected)
