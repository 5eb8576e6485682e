"""Claims from scores made by hand: held where they should be, and not where they should not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechprobe.probes.sentence_scores import SentenceScore
from mechprobe.studies.claims import FAILED, HELD, UNTESTED
from mechprobe.studies.topology import verdict, verdict_metrics
from mechprobe.studies.topology.bars import bar_table
from mechprobe.studies.topology.gains import condition_table
from mechprobe.studies.topology.results import Results, inequality_table, mean_score
from mechprobe.studies.topology.settings import PRESETS

NAMES = ("resid.0", "resid.1", "resid.2", "resid.3", "attn_out.0")
N = 60
SETTINGS = replace(PRESETS["laptop"], n_boot=200, n_train=500, topology_ranks=(8,))


def score(values, names=NAMES, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    top = 10 * (np.array(values)[:, None] + noise * rng.normal(size=(len(names), N)))
    return SentenceScore(tuple(names), top, np.full(N, 10.0), np.zeros(N, dtype=np.int64))


def results(fitted=(0.02,) * 5, **changed) -> Results:
    values = {
        ("trained", "uuas"): (0.5, 0.6, 0.7, 0.6, 0.4),
        ("untrained", "uuas"): (0.45, 0.44, 0.43, 0.4, 0.2),
        ("trained", "x_ssp"): (0.02, 0.03, 0.04, 0.05, 0.06),
        ("untrained", "x_ssp"): (0.2, 0.2, 0.2, 0.2, 0.2),
        ("trained", "x_ssp-rank-8"): (0.05, 0.05, 0.05, 0.05, 0.05),
        ("untrained", "x_ssp-rank-8"): (0.3, 0.3, 0.3, 0.3, 0.3),
        ("trained", "x_ssp_at_sp"): (0.1, 0.1, 0.1, 0.1, 0.1),
        ("trained", "x_sp"): (1.0, 0.7, 0.4, 0.9, 1.5),
        ("untrained", "x_sp"): (1.1, 1.1, 1.1, 1.2, 1.5),
        ("trained", "x_essp"): (2.0, 2.0, 2.0, 2.0, 2.0),
        ("trained", "upos"): (0.9, 0.9, 0.9, 0.9, 0.9),
        ("trained", "upos-control"): (0.6, 0.6, 0.6, 0.6, 0.6),
        ("untrained", "upos"): (0.7, 0.7, 0.7, 0.7, 0.7),
        ("untrained", "upos-control"): (0.65, 0.65, 0.65, 0.65, 0.65),
    }
    for key, found in changed.pop("values", {}).items():
        values[key] = found
    scores = {}
    for place, ((model, metric), found) in enumerate(values.items()):
        for part in ("dev", "test"):
            scores[model, part, metric] = score(found, seed=2 * place + (part == "dev"))
    chain = {("chain", "test", "uuas"): score((0.45,), ("chain",))}
    flat = dict.fromkeys(NAMES, 0.0)
    losses = {"trained": (0.01,) * 5, "untrained-0": fitted}
    probes = {
        (model, kind): {"flat": {"test": flat}, "streams": NAMES, "rank": rank,
                        "train_loss": losses[model]}
        for model in losses for kind, rank in (
            ("ssp", 32), ("essp", 32), ("ssp-rank-8", 8), ("sp", 32), ("distance", 64)
        )
    }
    return Results(SETTINGS, ("test",), scores, chain, probes, **changed)


def test_trees_are_found_where_they_beat_untrained_and_chain():
    claim = verdict.probes_find_trees(results())
    assert claim.verdict == HELD
    assert "UUAS at resid.2" in claim.numbers
    low = results(values={("untrained", "uuas"): (0.6, 0.6, 0.6, 0.6, 0.6)})
    assert verdict.probes_find_trees(low).verdict == FAILED
    many = results()
    many = Results(
        replace(SETTINGS, n_train=2000), many.parts, many.scores, many.baselines, many.probes
    )
    assert verdict.probes_find_trees(many).verdict == HELD
    near = {("trained", "uuas"): (0.5, 0.55, 0.6, 0.55, 0.4)}
    assert verdict.probes_find_trees(results(values=near)).verdict == HELD
    tough = results(values=near)
    tough = Results(
        replace(SETTINGS, n_train=2000), tough.parts, tough.scores, tough.baselines, tough.probes
    )
    assert verdict.probes_find_trees(tough).verdict == FAILED


def test_selectivity_is_asked_of_the_trained_model_only():
    assert verdict.probes_are_selective(results()).verdict == HELD
    same = {("untrained", "upos-control"): (0.4, 0.4, 0.4, 0.4, 0.4)}
    assert verdict.probes_are_selective(results(values=same)).verdict == FAILED


def test_the_bounds_are_counted_stream_by_stream():
    assert verdict_metrics.lower_bound(results()).verdict == HELD
    one = {("trained", "x_ssp"): (0.02, 0.03, 0.6, 0.05, 0.06)}
    claim = verdict_metrics.lower_bound(results(values=one))
    assert claim.verdict == FAILED
    assert "in 4 of 5" in claim.numbers
    assert verdict_metrics.upper_bound(results()).verdict == HELD
    one = {("trained", "x_essp"): (2.0, 2.0, 0.2, 2.0, 2.0)}
    claim = verdict_metrics.upper_bound(results(values=one))
    assert claim.verdict == FAILED
    assert "in 4 of 5 streams; in 1 X_essp is smaller" in claim.numbers
    table = inequality_table(results(values=one)).set_index("stream")
    assert table.loc["resid.2", "essp_minus_sp"] == pytest.approx(0.2 - 0.4, abs=0.02)


def test_the_layers_are_divided_only_when_the_best_is_inside_and_beyond_the_null():
    assert verdict_metrics.division_of_work(results()).verdict == HELD
    last = {("trained", "x_sp"): (1.0, 0.7, 0.4, 0.3, 1.5)}
    assert verdict_metrics.division_of_work(results(values=last)).verdict == FAILED
    null = {("untrained", "x_sp"): (1.7, 1.1, 0.9, 1.2, 1.5)}
    assert verdict_metrics.division_of_work(results(values=null)).verdict == FAILED


def test_separation_is_asked_on_fitted_and_other_sentences_and_at_every_rank():
    claim = verdict_metrics.separates_training(results())
    assert claim.verdict == HELD
    assert "rank 32: smaller at 4 (resid.0" in claim.numbers
    assert "rank 8: smaller at 4" in claim.numbers
    mixed = {("untrained", "x_ssp"): (0.001, 0.001, 0.2, 0.2, 0.2)}
    assert verdict_metrics.separates_training(results(values=mixed)).verdict == FAILED
    rank = {("untrained", "x_ssp-rank-8"): (0.01, 0.01, 0.01, 0.3, 0.3)}
    claim = verdict_metrics.separates_training(results(values=rank))
    assert claim.verdict == FAILED
    assert "larger at 3 (resid.0, resid.1, resid.2)" in claim.numbers
    claim = verdict_metrics.separates_training(results(fitted=(0.02, 0.005, 0.005, 0.02, 0.02)))
    assert claim.verdict == FAILED
    assert "fitted to, smaller at 2" in claim.numbers


def head(name, change, excess, p, turned_low):
    return {"head": name, "change": change, "change_low": change - 0.01,
            "change_high": change + 0.01, "turned": change - excess, "turned_low": turned_low,
            "excess": excess, "p_corrected": p}


def test_heads_must_fall_below_every_turn_and_surely():
    rows = [head("0.1", -0.2, -0.15, 0.001, -0.06), head("1.2", -0.2, -0.15, 0.2, -0.06),
            head("1.3", -0.05, -0.01, 0.001, -0.06), head("2.0", 0.1, 0.1, 0.001, -0.06)]
    claim = verdict.heads_carry(results(heads={"uuas": {"table": rows}}))
    assert claim.verdict == HELD
    assert claim.numbers.startswith("1 of 4 heads")
    assert "by layer: 0: 1" in claim.numbers
    assert verdict.heads_carry(results(heads={"uuas": {"table": rows[1:]}})).verdict == FAILED
    assert verdict.heads_carry(results()).verdict == UNTESTED


def tuned(plain, pulled, null):
    conditions = {"plain": plain, "resid.2": pulled, "resid.2-reversed": null}
    return [
        {"condition": name, "seed": i, "mcc": value, "collapsed": value == 0, "accuracy": 0.7,
         "probe_loss_before": {"resid.2": 1.0}, "probe_loss_after": {"resid.2": 0.1}}
        for name, values in conditions.items() for i, value in enumerate(values)
    ]  # fmt: skip


def test_regularising_helps_only_over_plain_and_its_null_and_collapses_are_told():
    plain, low = (0.5, 0.52, 0.48), (0.5, 0.51, 0.49)
    better = (0.6, 0.63, 0.59)
    good = verdict.regularising_helps(results(finetuned=tuned(plain, better, low)))
    assert good.verdict == HELD
    assert "fell 10.0-fold" in good.numbers
    any_pull = verdict.regularising_helps(results(finetuned=tuned(plain, better, better)))
    assert any_pull.verdict == FAILED
    assert "backwards 0.000 [0.000, 0.000]" in any_pull.numbers
    wild = verdict.regularising_helps(results(finetuned=tuned(plain, (0.9, 0.0, 0.8), low)))
    assert wild.verdict == FAILED
    assert "1 of 3 collapsed" in wild.numbers
    weak = verdict.regularising_helps(results(finetuned=tuned((0.3, 0.0, 0.0), better, low)))
    assert weak.verdict == UNTESTED
    assert "did not surely learn" in weak.numbers
    gone = verdict.regularising_helps(results(finetuned=tuned((0.0, 0.0), (0.3, 0.4), (0, 0))))
    assert gone.verdict == UNTESTED
    assert verdict.regularising_helps(results()).verdict == UNTESTED


def test_the_table_of_conditions_pairs_by_seed():
    units = tuned((0.5, 0.52, 0.48), (0.9, 0.0, 0.8), (0.4, 0.1, 0.4))
    table = condition_table(units[::-1]).set_index("condition")
    assert table["collapsed"].to_dict() == {"plain": 0, "resid.2": 1, "resid.2-reversed": 0}
    assert table.loc["resid.2", "over plain"] == pytest.approx(np.mean((0.9, 0, 0.8)) - 0.5)
    gains = np.array((0.5, -0.1, 0.4))
    half = 4.302653 * gains.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees, 97.5 %
    low = table.loc["resid.2", "over its null low"]
    assert low == pytest.approx(gains.mean() - half, abs=1e-6)
    assert np.isnan(table.loc["plain", "over plain"])


def test_bars_are_asked_of_minilm_on_ewt_only():
    assert not len(bar_table(results()))
    checks = {"greedy_wrong": 0, "exact_excess": 1e-16, "exact_worse": 0, "planted_x_sp": 0.03,
              "planted_nspr": 0.95, "planted_uuas": 1.0, "weights_changed_by_0": 1,
              "gradient_below": 0.01, "gradient_past": 0.0, "strong_fall": 6.0}
    own = results(checks=checks, finetuned=tuned((0.5, 0.5), (0.6, 0.6), (0.5, 0.5)), values={
        ("trained", "sp_nspr"): (0.6, 0.6, 0.6, 0.75, 0.6),
        ("trained", "sp_root"): (0.6, 0.6, 0.6, 0.5, 0.6),
        ("trained", "upos-control"): (0.5, 0.5, 0.5, 0.5, 0.5),
    })
    ewt = replace(own.settings, encoder="minilm", treebank="ewt", n_train=2_000)
    table = bar_table(replace(own, settings=ewt)).set_index("bar")
    assert table.loc["UUAS at resid.2", "found"] == pytest.approx(0.7, abs=0.02)
    met = table["met"].to_dict()
    assert list(met.values())[:10] == ["yes"] * 3 + ["no"] + ["yes"] * 2 + ["no"] + ["yes"] * 3
    assert dict(list(met.items())[10:]) == {
        "streams that each probe of the model is trained on together": "yes",
        "UUAS at resid.2": "yes", "over untrained": "yes", "over the chain": "yes",
        "UUAS at resid.3: below the chain": "no", "NSpr. of the X_sp probe at resid.3": "yes",
        "root accuracy of the X_sp probe at resid.3": "no", "linear selectivity at resid.3": "yes",
        "the same, untrained": "yes", "fall of L_probe at resid.2": "yes",
    }  # fmt: skip


def test_the_mean_of_untrained_models_is_by_sentence():
    first, second = score((0.1,) * 5, seed=1), score((0.3,) * 5, seed=2)
    both = mean_score([first, second])
    np.testing.assert_allclose(both.value(), (first.value() + second.value()) / 2)
