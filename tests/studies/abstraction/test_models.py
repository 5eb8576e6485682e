"""Models of the study: on the run's device, and long enough for every pair and for beams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mechprobe.models.edits import forward
from mechprobe.models.generate_beams import beam_exact_matches
from mechprobe.studies.abstraction.cost import random_model
from mechprobe.studies.abstraction.data import SetData
from mechprobe.studies.abstraction.models import fresh_model, longest
from mechprobe.studies.abstraction.settings import PRESETS
from mechprobe.tasks.abstraction import SequencePairs, load_abstraction
from mechprobe.tasks.word_ids import word_ids

TINY = PRESETS["tiny"]


def data_of(sources: int, targets: int, arch: str) -> SetData:
    """Two pairs of these lengths as the only ones."""
    tasks = load_abstraction("abstraction/mini", n_train=8, n_words=2, n_dev=0, n_test=0, n_ood=0)
    pairs = SequencePairs((("a",) * sources, ("b",)), (("b",) * targets, ("a",)), ("", ""), "toy")
    only = replace(tasks, target={"train": pairs}, auxiliary={}, contrast={})
    return SetData(only, word_ids([("a", "b")]), arch == "decoder", None)


@pytest.mark.parametrize("arch", ["decoder", "encoder-decoder"])
def test_a_model_computes_where_the_run_asks(arch):
    """"meta" stands in for a GPU: nothing may be computed on the CPU."""
    settings = replace(TINY, arch=arch, device="meta")
    data = data_of(4, 3, arch)
    for model in (fresh_model(settings, data, 0), random_model(settings)):
        assert {p.device.type for p in model.parameters()} == {"meta"}
        logits = forward(model, data.target["train"].batch([0, 1]))
        assert logits.device.type == "meta"
        assert model.cfg.device == "meta"


@pytest.mark.parametrize("targets", range(19, 23))  # one of them fills the positions exactly
@pytest.mark.parametrize("positions", ["rotary", "standard"])
def test_beams_have_room_behind_the_longest_pair(targets, positions):
    settings = replace(TINY, positions=positions)
    data = data_of(10, targets, "decoder")
    assert longest(data) % 16 == 0
    model = fresh_model(settings, data, 0)
    assert not beam_exact_matches(model, data.target["train"], 2).any()
