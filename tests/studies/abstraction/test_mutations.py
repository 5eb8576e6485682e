"""Retained gain and kinds of mutation of a made-up run, whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechprobe.studies.abstraction.mutations import kind_of_mutation_table, mutation_table


def share(found, name: str) -> float:
    """Exact match in generalisation, mean of the sets."""
    return float(np.mean([found[f"target-{name.format(i)}"]["ood"] for i in range(3)]))


def test_retained_gain_is_relative_to_the_unchanged_task(settings, found):
    table = mutation_table(settings, found).set_index("mutation")
    control = share(found, "control-frozen-{}")
    whole = share(found, "auxiliary-frozen-{}") - control
    for mutation in settings.mutations:
        delta = share(found, f"mutated-{mutation}-{{}}-frozen") - control
        row = table.loc[mutation]
        assert row["delta"] == pytest.approx(delta)
        assert row["low"] < delta < row["high"]
        assert row["rho"] == pytest.approx(delta / whole)
        assert row["rho_low"] < delta / whole < row["rho_high"]
    assert table.loc["postpositions", ["side", "level"]].tolist() == ["source", "low"]
    assert table.loc["nested_complements", ["side", "level"]].tolist() == ["target", "high"]


def test_kinds_are_compared_item_by_item(settings, found):
    table = kind_of_mutation_table(settings, found).set_index("kind")
    first = share(found, "mutated-postpositions-{}-frozen")
    second = share(found, "mutated-nested_complements-{}-frozen")
    for kind, names in (("level", ["low", "high"]), ("side", ["source", "target"])):
        row = table.loc[kind]
        assert row[["first", "second"]].tolist() == names
        assert row["difference"] == pytest.approx(first - second)
        assert row["low"] < first - second < row["high"]


def test_a_kind_that_was_not_run_is_left_out(settings, found):
    only = replace(settings, mutations=("postpositions",))
    assert kind_of_mutation_table(only, found).empty


def test_without_a_gain_nothing_is_retained(settings, found):
    for i in range(settings.n_sets):
        found[f"target-auxiliary-frozen-{i}"] = found[f"target-control-frozen-{i}"]
    assert mutation_table(settings, found)[["rho", "rho_low", "rho_high"]].isna().all(axis=None)
    assert kind_of_mutation_table(settings, found)["rho_first"].isna().all()
