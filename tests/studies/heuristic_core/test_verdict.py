"""Each claim's verdict and wording: held, did not hold, not testable here."""

from __future__ import annotations

import pandas as pd
import pytest

from mechprobe.studies.heuristic_core import verdict
from mechprobe.studies.heuristic_core.verdict import FAILED, HELD, UNTESTED

SPREAD = {
    "subnetworks": 12.0, "full_in_domain": 0.90, "in_domain_low": 0.88, "in_domain_high": 0.91,
    "full_out_of_domain": 0.6, "out_of_domain": 0.3, "out_of_domain_low": 0.1,
    "out_of_domain_high": 0.45, "out_of_domain_sd": 0.11, "range": 0.35, "sampling_sd": 0.01,
    "p_excess": 0.0001, "gap": 0.33, "gap_low": 0.3, "gap_high": 0.36,
}  # fmt: skip


def test_words():
    assert verdict.percent(0.1234) == "12.3"
    assert verdict.p_value(0.0004) == "p < .001"
    assert verdict.p_value(0.0123) == "p = 0.012"
    assert (HELD, FAILED, UNTESTED) == ("held", "did not hold", "not testable here")
    assert verdict.judge(True) == HELD
    assert verdict.judge(False) == FAILED
    assert verdict.judge(True, 0.049, 0.05) == HELD
    assert verdict.judge(False, 0.05, 0.05) == UNTESTED


def test_a_claim_becomes_plain_text():
    claim = verdict.spread_claim(SPREAD, 0.5)
    said = claim.as_dict()
    assert set(said) == {"claim", "verdict", "numbers", "paper", "files"}
    assert said.pop("files") == []
    assert all(isinstance(text, str) and text for text in said.values())


@pytest.mark.parametrize(
    ("low", "outside", "expected"),
    [(0.70, 0.4, HELD), (0.55, 0.4, FAILED), (0.70, 0.05, FAILED), (0.70, 0.95, FAILED)],
)
def test_the_control(low, outside, expected):
    inside = {"estimate": 0.75, "low": low, "high": 0.8}
    claim = verdict.control_claim(inside, outside, 0.5, "QQP: 91.2")
    assert claim.paper == "QQP: 91.2"
    assert claim.verdict == expected
    for number in ("in domain 75.0", f"[{100 * low:.1f}, 80.0]", "against 50.0", "10 to 90"):
        assert number in claim.numbers


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, HELD),
        ({"in_domain_low": 0.86}, FAILED),
        ({"range": 0.19}, FAILED),
        ({"p_excess": 0.02}, FAILED),
        ({"gap_low": -0.01}, FAILED),
    ],
)
def test_the_spread(change, expected):
    claim = verdict.spread_claim(SPREAD | change, 0.5)
    assert claim.verdict == expected
    assert claim.claim.startswith("At 50% sparsity")
    for number in ("12 subnetworks", "to 91.0 (full model 90.0)", "10.0 to 45.0", "sd 11.0"):
        assert number in claim.numbers


def overlaps(observed, p_free, p_layered):
    rows = [
        ("core size", "any layer", observed, 0.4, p_free),
        ("core size", "same layers", observed, 1.2, p_layered),
        ("mean Jaccard", "any layer", 0.9, 0.3, 0.9),
        ("mean Jaccard", "same layers", 0.9, 0.3, 0.9),
    ]
    return pd.DataFrame(rows, columns=["statistic", "null", "observed", "expected", "p"])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((9, 1e-6, 0.002), HELD), ((9, 1e-6, 0.02), FAILED), ((9, 0.02, 1e-6), FAILED),
     ((0, 1e-6, 1e-6), FAILED)],
)  # fmt: skip
def test_the_shared_core(numbers, expected):
    claim = verdict.shared_claim(overlaps(*numbers), 144, 0.7, 12)
    assert claim.verdict == expected
    assert "at 70% sparsity" in claim.claim
    assert f"{numbers[0]} of 144 heads are in all 12; by chance 0.40" in claim.numbers


@pytest.mark.parametrize(
    ("p", "sets", "expected"),
    [(0.048, 20, HELD), (0.2, 20, FAILED), (0.05, 19, UNTESTED), (0.5, 5, UNTESTED)],
)
def test_the_core_is_needed(p, sets, expected):
    row = {"p": p, "sets": sets, "in_domain": 0.8, "in_domain_low": 0.7, "in_domain_high": 0.9}
    contrast = {"in_domain_difference": -0.25, "in_domain_ci_low": -0.3, "in_domain_ci_high": -0.2}
    claim = verdict.needed_claim(row, 0.55, 0.9, contrast)
    assert "core minus random -25.0 points [-30.0, -20.0]" in claim.numbers
    assert claim.verdict == expected
    assert f"{sets} random sets closed 80.0 (70.0 to 90.0)" in claim.numbers
    assert f"smallest possible {1 / (1 + sets):.3f}" in claim.numbers


@pytest.mark.parametrize(
    ("keep_in", "keep_out", "p", "expected"),
    [(0.85, 0.1, 0.048, HELD), (0.85, 0.49, 0.048, FAILED),
     (0.4, 0.1, 0.048, FAILED), (0.85, 0.52, 0.048, FAILED),
     (0.85, 0.1, 0.1, FAILED)],
)  # fmt: skip
def test_the_core_is_shallow(keep_in, keep_out, p, expected):
    random = {"sets": 20, "in_domain": 0.7, "out_of_domain": 0.3, "p": p}
    keep = {"in_domain": keep_in, "in_domain_ci_low": 0.0, "in_domain_ci_high": 1.0,
            "out_of_domain": keep_out, "out_of_domain_ci_low": keep_out - 0.03,
            "out_of_domain_ci_high": keep_out + 0.03}  # fmt: skip
    claim = verdict.shallow_claim(keep, 0.9, 0.6, random)
    assert claim.verdict == expected
    ends = f"[{100 * keep_out - 3:.1f}, {100 * keep_out + 3:.1f}]"
    assert f"out of domain {100 * keep_out:.1f} {ends} (full 60.0)" in claim.numbers
    said = f"20 random sets, as many in each layer, keep 70.0 in domain (p = {p:.3f}, smallest"
    assert said in claim.numbers
    few = verdict.shallow_claim(keep, 0.9, 0.6, random | {"sets": 19, "p": 0.05})
    assert few.verdict == UNTESTED


@pytest.mark.parametrize(
    ("difference", "p", "smallest", "expected"),
    [(0.2, 0.01, 0.001, HELD), (-0.2, 0.01, 0.001, FAILED), (0.2, 0.3, 0.001, FAILED),
     (0.2, 0.25, 0.25, UNTESTED)],
)  # fmt: skip
def test_the_core_compares_words(difference, p, smallest, expected):
    row = {"core": 0.1 + difference, "rest": 0.1, "difference": difference, "p": p,
           "low": difference - 0.01, "high": difference + 0.01}  # fmt: skip
    claim = verdict.overlap_attention_claim(row, smallest)
    assert claim.verdict == expected
    assert "other heads 10.0" in claim.numbers
    assert f"smallest possible {smallest:.3f}" in claim.numbers


@pytest.mark.parametrize(
    ("observed", "p", "smallest", "expected"),
    [(0.9, 0.001, 1e-4, HELD), (0.9, 0.05, 1e-4, FAILED), (0.2, 0.001, 1e-4, FAILED),
     (1.0, 0.3, 0.3, UNTESTED)],
)  # fmt: skip
def test_the_core_comes_early(observed, p, smallest, expected):
    claim = verdict.early_claim(observed, 0.5, p, smallest, 500, 3)
    assert claim.verdict == expected
    assert "at step 500" in claim.numbers
    assert f"3 subnetworks keep {100 * observed:.1f} %" in claim.numbers


@pytest.mark.parametrize(("n", "expected"), [(0, FAILED), (2, HELD)])
def test_further_heads(n, expected):
    largest = {"head": "2.3", "out_of_domain_change": -0.2, "out_of_domain_low": -0.25,
               "out_of_domain_high": -0.15, "in_domain_change": -0.01, "in_domain_low": -0.02,
               "in_domain_high": 0.0}  # fmt: skip
    claim = verdict.extra_heads_claim(n, 9, largest)
    assert claim.verdict == expected
    assert f"removing {n} of 9 non-core heads" in claim.numbers
    assert "largest: 2.3, -20.0 points [-25.0, -15.0] out of domain, -1.0 " in claim.numbers


@pytest.mark.parametrize(
    ("core", "p", "sets", "expected"),
    [((0.4, 0.3), 0.048, 20, HELD), ((0.4, -0.1), 0.048, 20, FAILED),
     ((0.4, 0.3), 0.2, 20, FAILED), ((0.4, 0.3), 0.05, 19, UNTESTED),
     ((0.0, 0.0), 1.0, 20, UNTESTED)],
)  # fmt: skip
def test_the_further_heads_depend_on_the_core(core, p, sets, expected):
    drop, low = core
    claim = verdict.dependence_claim(
        {"drop": drop, "low": low, "high": 0.5},
        {"drop": 0.1, "low": 0.0, "high": 0.2, "p": p, "sets": sets},
        {"drop": 1.5, "low": 1.2, "high": 1.8}, 7,
    )
    assert claim.verdict == expected
    assert f"by {drop:.2f} nats [{low:.2f}, 0.50]" in claim.numbers
    assert "the 7 further heads" in claim.numbers


def test_nothing_is_judged_without_the_positive_control():
    claims = [verdict.Claim("control", FAILED, "x", "y"), verdict.Claim("other", HELD, "z", "y")]
    control, other = verdict.without_control(claims)
    assert control == claims[0]
    assert (other.verdict, other.claim) == (UNTESTED, "other")
    assert "the positive control did not hold; z" in other.numbers


@pytest.mark.parametrize(
    ("low", "full", "expected"),
    [(0.1, 0.5, HELD), (0.0, 0.5, FAILED), (-0.2, 0.5, FAILED), (0.1, 0.05, UNTESTED)],
)
def test_the_size_out_of_domain(low, full, expected):
    sizes = {"in_domain": 0.5, "in_domain_low": 0.5, "in_domain_high": 0.7, "out_of_domain": 0.9,
             "out_of_domain_low": 0.7, "out_of_domain_high": 1.0, "difference": 0.4, "low": low,
             "high": 0.5}  # fmt: skip
    claim = verdict.size_claim(sizes, "30%, 50%", full)
    assert "50.0 % [50.0, 70.0] of the sites in domain, 90.0 % [70.0, 100.0]" in claim.numbers
    assert claim.verdict == expected
    assert "30%, 50%" in claim.numbers
    assert ("undefined" in claim.numbers) == (expected == UNTESTED)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, HELD),
        ({"out_of_domain": 0.4, "out_of_domain_high": 0.5}, FAILED),
        ({"range": 0.5}, FAILED),
        ({"out_of_domain_high": 0.35}, FAILED),
    ],
)
def test_sparser_ones_fail(change, expected):
    high = SPREAD | {
        "out_of_domain": 0.02, "out_of_domain_low": 0.0, "out_of_domain_high": 0.04, "range": 0.04,
    } | change  # fmt: skip
    test = {"difference": -0.28, "low": -0.3, "high": -0.26, "p": 0.001, "p_smallest": 0.001}
    assert verdict.sparser_claim(SPREAD, high, test | {"p": 0.2}, 0.5, 0.7).verdict == FAILED
    assert verdict.sparser_claim(SPREAD, high, test | {"high": 0.1}, 0.5, 0.7).verdict == FAILED
    few = test | {"p_smallest": 0.05}
    assert verdict.sparser_claim(SPREAD, high, few, 0.5, 0.7).verdict == UNTESTED
    claim = verdict.sparser_claim(SPREAD, high, test, 0.5, 0.7)
    assert claim.verdict == expected
    assert claim.claim == "At 70% sparsity subnetworks uniformly generalise less than at 50%"
    assert "none at 70% as good as the mean at 50%" in claim.numbers  # what was asked is said
    assert "at 50%: 10.0 to 45.0" in claim.numbers
