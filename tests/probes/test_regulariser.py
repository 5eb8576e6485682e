"""L_probe against a plain loop over sentences; what is pulled and what is not."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.probes.pseudo_labels import pseudo_labels
from mechprobe.probes.regulariser import TopologyRegulariser

GENERATOR = torch.Generator().manual_seed(0)
B = torch.randn(6, 4, generator=GENERATOR)
VECTORS = torch.randn(3, 5, 6, generator=GENERATOR)
TOKENS = torch.tensor([[2, 7, 8, 9, 3], [2, 7, 7, 3, 0], [2, 9, 3, 0, 0]])
MASK = (TOKENS != 0).long()
LABELS = torch.tensor([1, 0, 1])


@pytest.mark.parametrize("labels", ["exact", "greedy"])
@pytest.mark.parametrize("pulled", [1, None])
def test_the_loss_is_the_papers_sum_over_words(labels, pulled):
    extra = TopologyRegulariser(B, labels=labels, pulled=pulled, special=(2, 3, 0))
    total, count = 0.0, 0
    for row in range(3):
        places = [i for i in range(5) if int(TOKENS[row, i]) not in (0, 2, 3)]
        count += len(places)
        nu = (VECTORS[row, places] @ B).square().sum(-1)
        level = pseudo_labels(nu, torch.ones(len(nu), dtype=torch.bool), labels)
        if pulled is None or LABELS[row] == pulled:
            total += (nu - level).square().sum().item()
    assert extra(VECTORS, TOKENS, MASK, LABELS).item() == pytest.approx(total / count, rel=1e-5)


def test_the_null_pulls_towards_the_levels_read_backwards():
    extra = TopologyRegulariser(B, special=(2, 3, 0), reverse=True)
    total, count = 0.0, 0
    for row in range(3):
        places = [i for i in range(5) if int(TOKENS[row, i]) not in (0, 2, 3)]
        count += len(places)
        nu = (VECTORS[row, places] @ B).square().sum(-1)
        level = pseudo_labels(nu, torch.ones(len(nu), dtype=torch.bool)).flip(0)
        total += (nu - level).square().sum().item() * int(LABELS[row])
    assert extra(VECTORS, TOKENS, MASK, LABELS).item() == pytest.approx(total / count, rel=1e-5)


def test_only_pulled_sentences_feel_it_and_only_a_trained_probe_moves():
    vectors = VECTORS.clone().requires_grad_()
    frozen = TopologyRegulariser(B, special=(2, 3, 0))
    frozen(vectors, TOKENS, MASK, LABELS).backward()
    assert vectors.grad is not None
    felt = vectors.grad.abs().sum(-1) > 0
    words = MASK.bool() & (TOKENS != 2) & (TOKENS != 3)
    assert (felt == (words & (LABELS == 1)[:, None])).all()
    assert not [p for p in frozen.parameters() if p.requires_grad]
    trained = TopologyRegulariser(B, trained=True)
    trained(VECTORS, TOKENS, MASK, LABELS).backward()
    assert trained.b.grad is not None
    assert trained.b.grad.any()


def test_a_probe_that_cannot_work_is_refused():
    with pytest.raises(InputError, match=r"got shape \[6\]"):
        TopologyRegulariser(B[:, 0])
    with pytest.raises(InputError, match="'best' are unknown"):
        TopologyRegulariser(B, labels="best")
