"""Gains from outcomes: estimates by hand, intervals that hold the truth, paired by example."""

from __future__ import annotations

import numpy as np
import pytest

from mechprobe.studies.abstraction.effects import (
    first_table,
    gain_table,
    item_kinds,
    kind_gains,
    kind_table,
    probes,
    procedure_table,
    set_table,
)
from mechprobe.tasks import SequencePairs


def test_gains_are_differences_of_means_and_their_intervals_hold_the_truth(settings, found):
    tried = probes(settings, found)
    table = gain_table(settings, tried)
    table = table[~table.difference.str.endswith("(full)")].set_index(["adapt", "test"])
    truth = {("full", "E1"): 0.0, ("full", "E2"): 0.1, ("frozen", "E1"): 0.6, ("frozen", "E2"): 0.4}
    for key, true in truth.items():
        adapt, over = key[0], {"E1": "control", "E2": "contrast"}[key[1]]
        by_hand = np.mean([
            np.mean(found[f"target-auxiliary-{adapt}-{i}"]["ood"])
            - np.mean(found[f"target-{over}-{adapt}-{i}"]["ood"]) for i in range(3)
        ])
        assert table.loc[key, "gain"] == pytest.approx(by_hand)
        assert table.loc[key, "low"] - 0.03 < true < table.loc[key, "high"] + 0.03
    assert table.loc[("frozen", "E1"), "sets_above_0"] == 3


def test_a_frozen_body_is_also_held_against_those_that_learn_all_weights(settings, found):
    table = gain_table(settings, probes(settings, found))
    row = table.set_index("difference").loc["MainExp - ControlExp (full)"]
    assert (row["adapt"], row["test"]) == ("frozen", "E1")
    assert row["gain"] == pytest.approx(np.mean([
        np.mean(found[f"target-auxiliary-frozen-{i}"]["ood"])
        - np.mean(found[f"target-control-full-{i}"]["ood"]) for i in range(3)
    ]))
    assert row["gain"] == pytest.approx(0.5, abs=0.05)
    other = table.set_index("difference").loc["MainExp - ContrastExp (full)"]
    assert (other["adapt"], other["test"]) == ("frozen", "E2")
    assert other["gain"] == pytest.approx(0.6, abs=0.05)


def test_gains_by_kind_are_those_of_its_items(settings, found):
    kinds = [["agent", "theme"] * 200, ["theme"] * 300 + ["agent"] * 100, ["agent"] * 400]
    table = kind_gains(settings, probes(settings, found), kinds)
    assert set(table.kind) == {"agent"}  # the third set has no theme
    row = table.set_index(["adapt", "test"]).loc[("full", "E2")]

    def right(start, i):
        outcome = np.array(found[f"target-{start}-full-{i}"]["ood"], float)
        return outcome[[kind == "agent" for kind in kinds[i]]].mean()

    by_hand = np.mean([right("auxiliary", i) - right("contrast", i) for i in range(3)])
    assert row["gain"] == pytest.approx(by_hand)


def test_tables_have_every_procedure(settings, found):
    tried = probes(settings, found)
    table = procedure_table(settings, tried)
    assert len(table) == 6
    assert (table.generalisation_low <= table.generalisation).all()
    assert len(set_table(settings, found, tried)) == 18
    first = first_table(settings, found)
    assert len(first) == 6
    assert first.in_distribution.tolist() == pytest.approx([0.97] * 6)


def test_kinds_of_items_are_counted_apart(settings, found):
    kinds = ["agent", "theme or recipient"] * 200
    for i in range(3):
        found[f"target-control-full-{i}"]["ood"] = [kind == "agent" for kind in kinds]
    table = kind_table(probes(settings, found), [kinds] * 3)
    mine = table[(table.adapt == "full") & (table.procedure == "ControlExp")]
    assert dict(zip(mine.kind, mine.generalisation, strict=True)) == {
        "agent": 1, "theme or recipient": 0
    }
    assert mine["items"].tolist() == [600, 600]


def test_the_kind_of_an_item_says_whether_the_agent_s_slot_has_a_phrase():
    pairs = SequencePairs(
        (("x",),) * 4,
        tuple(tuple(t.split()) for t in (
            "RUN ( ON ( DOG , MAT ) , NONE , NONE )", "SEE ( NONE , ON ( DOG , MAT ) , NONE )",
            "GIVE ( TOM , CUP , IN ( DOG , BOX ) )",
            "SEE ( IN ( MIA , BOX ) , ON ( DOG , MAT ) , NONE )",  # by Mia in a box
        )), ("depth_3", "subject", "subject", "subject"), "toy",
    )
    other = "theme or recipient"
    assert item_kinds(pairs, "mod") == ["agent", other, other, "agent"]
    assert item_kinds(pairs, "com") == ["depth_3", "subject", "subject", "subject"]


def test_pairs_are_compared_example_by_example(settings, found):
    same = dict(found)
    for i in range(3):
        same[f"target-control-full-{i}"] = found[f"target-auxiliary-full-{i}"]
    ends = probes(settings, same)[0].gain("auxiliary", "control", "ood", settings)
    assert (ends.estimate, ends.low, ends.high) == (0, 0, 0)
