import math

import numpy as np
import torch

from mechprobe.tasks import accuracy, kl, label_loss, logit_difference

LOGITS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3))).float()


def softmax(row: torch.Tensor) -> list[float]:
    exponentials = [math.exp(v) for v in row.tolist()]
    return [e / sum(exponentials) for e in exponentials]


def test_accuracy_is_whether_the_likeliest_label_is_accepted():
    accept = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]] * 2, dtype=torch.bool)
    expected = [
        float(accept[i, max(range(3), key=LOGITS[i].tolist().__getitem__)]) for i in range(6)
    ]
    assert accuracy(LOGITS, accept).tolist() == expected
    assert 0 < sum(expected) < 6


def test_label_loss_is_minus_log_probability():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    expected = [-math.log(softmax(row)[y]) for row, y in zip(LOGITS, labels, strict=True)]
    torch.testing.assert_close(label_loss(LOGITS, labels), torch.tensor(expected))


def test_kl_by_its_definition_and_in_its_direction():
    full = LOGITS.flip(0) * 2
    expected = [
        sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b), strict=True))
        for a, b in zip(full, LOGITS, strict=True)
    ]
    torch.testing.assert_close(kl(full, LOGITS), torch.tensor(expected))
    assert not torch.allclose(kl(full, LOGITS), kl(LOGITS, full))
    torch.testing.assert_close(kl(LOGITS, LOGITS + 5), torch.zeros(6), atol=1e-6, rtol=0)


def test_kl_keeps_leading_axes_and_gradients_flow():
    masked = LOGITS.clone().requires_grad_()
    value = kl(LOGITS.roll(1, 0).expand(4, 6, 3), masked.expand(4, 6, 3))
    assert value.shape == (4, 6)
    value.sum().backward()
    # d KL / d logits of the masked model is softmax(masked) - softmax(full), four times.
    expected = 4 * (masked.softmax(-1) - LOGITS.roll(1, 0).softmax(-1))
    torch.testing.assert_close(masked.grad, expected.detach())


def test_logit_difference():
    correct, wrong = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 0, 0, 2, 2, 1])
    expected = [LOGITS[i, c] - LOGITS[i, w] for i, (c, w) in enumerate(zip(correct, wrong))]
    torch.testing.assert_close(logit_difference(LOGITS, correct, wrong), torch.stack(expected))
