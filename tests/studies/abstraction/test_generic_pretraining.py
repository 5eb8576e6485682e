"""Gain after generic pretraining of a made-up run, whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from mechprobe.studies.abstraction.generic_pretraining import generic_table
from mechprobe.studies.abstraction.verdict import generic_claims
from mechprobe.studies.claims import FAILED, HELD, UNTESTED


@pytest.fixture
def pretrained(found):
    """Frozen: main always right, control never; all weights: both right on the same half."""
    half = [k % 2 == 0 for k in range(400)]
    for i in range(3):
        found[f"target-auxiliary-after-generic-frozen-{i}"] = {"ood": [True] * 400}
        found[f"target-control-after-generic-frozen-{i}"] = {"ood": [False] * 400}
        for start in ("auxiliary", "control"):
            found[f"target-{start}-after-generic-full-{i}"] = {"ood": half}
    return found


def test_the_gain_is_compared_with_that_of_random_weights(settings, pretrained):
    table = generic_table(settings, pretrained).set_index(["adapt", "start"])

    def share(name: str) -> float:
        return float(np.mean([pretrained[f"target-{name}-{i}"]["ood"] for i in range(3)]))

    for adapt, after in (("frozen", (1.0, 0.0)), ("full", (0.5, 0.5))):
        random = (share(f"auxiliary-{adapt}"), share(f"control-{adapt}"))
        told = table.loc[adapt]
        assert told.loc["pretrained", ["main", "control"]].tolist() == list(after)
        assert told.loc["random", ["main", "control"]].tolist() == pytest.approx(random)
        gains = after[0] - after[1], random[0] - random[1]
        assert told.loc[["pretrained", "random"], "delta"].tolist() == pytest.approx(gains)
        row = told.loc["difference"]
        assert row["delta"] == pytest.approx(gains[0] - gains[1])
        assert row["main"] == pytest.approx(after[0] - random[0])
        assert row["low"] < row["delta"] < row["high"]


def test_each_way_to_learn_is_judged_by_its_difference(settings, pretrained):
    frozen, full = sorted(generic_claims(generic_table(settings, pretrained)),
                          key=lambda claim: claim.verdict == FAILED)
    assert (frozen.verdict, full.verdict) == (HELD, FAILED)
    assert "(main 100.0, control 0.0)" in frozen.numbers
    assert "with the embeddings alone" in frozen.claim
    (none,) = generic_claims(None)
    assert none.verdict == UNTESTED
