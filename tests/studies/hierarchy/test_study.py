"""The study end to end at the smallest size: its numbers by hand, and resumed to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mechprobe as mp
from mechprobe.models import load_model
from mechprobe.runs import Run
from mechprobe.show.report import write_summary
from mechprobe.studies.hierarchy import models, study
from mechprobe.studies.hierarchy.cost import dry_run
from mechprobe.studies.hierarchy.results import gather
from mechprobe.studies.hierarchy.sequences import scored_sets
from mechprobe.studies.hierarchy.settings import PRESETS, Settings
from mechprobe.studies.hierarchy.specs import read_spec
from mechprobe.training.tree_tasks import as_batch

SMALL = replace(
    PRESETS["tiny"], q=3, depth=2, d_model=16, d_mlp=24, n_layers=0, max_masks=2, threads=1,
    models=("root-k0", "root-k2", "masked-k0-heads4"), root_steps=60, root_filtered_steps=20,
    masked_steps=40, n_checkpoints=4, n_eval=60, n_attention=40, n_null=120, n_probe=40,
    probe_epochs=2, n_locate=40, mask_seeds=2, mask_steps=4,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "run"
    threads = torch.get_num_threads()
    study.run(SMALL, folder, command="mechprobe run hierarchy")
    torch.set_num_threads(threads)
    return folder


def test_it_leaves_a_report_with_a_verdict_on_every_claim(finished, tmp_path):
    content = json.loads((finished / "report.json").read_text())
    assert (finished / "report.html").stat().st_size > 100_000
    assert len(content["claims"]) >= 15
    for claim in content["claims"]:
        assert claim["verdict"] in ("held", "did not hold", "not testable here")
        assert claim["numbers"]
    assert content["claims"][0]["claim"].startswith("Positive control")
    for section in content["sections"]:
        for shown in [*section["tables"], *section["figures"]]:
            assert (finished / shown["file"]).is_file()
    assert len(content["sections"]) == 7
    text = write_summary(finished, tmp_path / "record").read_text()
    assert str(finished) not in text
    assert "Planted truth" in text


def test_the_divergences_are_those_of_the_saved_model(finished):
    spec = read_spec(SMALL, "masked-k0-heads4")
    (held_out, *_) = scored_sets(SMALL, spec)
    model = load_model(finished / "models" / spec.name / f"step-{spec.steps:08d}")
    with torch.no_grad():
        logits = model(held_out.tokens)
    table = pd.read_csv(finished / "tables" / f"divergence-{spec.name}.csv")
    last = table[(table["step"] == spec.steps) & (table["drawn"] == "held out")]
    for ladder, observers in (("BP_k", held_out.bp), ("B_s", held_out.blocks)):
        for rung in range(3):
            total = 0.0
            for i in range(len(held_out.tokens)):
                said = logits[i, held_out.mask[i].nonzero()[0, 0]].double().softmax(-1)
                for x in range(3):
                    p = float(observers[rung, i, x])
                    total += p * np.log(p / float(said[x])) if p > 0 else 0.0
            mine = last[(last["ladder"] == ladder) & (last["rung"] == rung)]["kl"].item()
            assert mine == pytest.approx(total / len(held_out.tokens), rel=1e-5, abs=1e-7)


def test_accuracy_is_counted_and_sequences_are_steps_times_batch(finished):
    spec = read_spec(SMALL, "root-k0")
    sets = {scored.name: scored for scored in scored_sets(SMALL, spec)}
    model = load_model(finished / "models" / spec.name / f"step-{spec.steps:08d}")
    table = pd.read_csv(finished / "tables" / f"accuracy-{spec.name}.csv")
    last = table[table["step"] == spec.steps].set_index("drawn")
    for name, scored in sets.items():
        with torch.no_grad():
            right = model(as_batch(scored.tokens).tokens).argmax(1) == scored.answer
        assert last.loc[name, "accuracy"] == pytest.approx(float(right.double().mean()))
    assert (last["sequences"] == spec.steps * SMALL.batch).all()
    assert (last.loc["k=0", "BP_0"]) == 1.0


def test_the_untrained_model_is_the_start_of_the_trajectory(finished):
    spec = read_spec(SMALL, "root-k0")
    kept = load_model(finished / "models" / spec.name / "step-00000000")
    fresh = models.fresh_model(SMALL, spec)
    for name, value in fresh.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value)


def test_exact_parts_are_exact_and_planted_measures_true(finished):
    with Run.open(finished, json.loads((finished / "config.json").read_text())["settings"]) as run:
        results = gather(SMALL, run)
    assert results.exact["enumeration"] < 1e-10
    assert results.exact["construction"] < 1e-8
    assert results.exact["sampler"] < 0.02
    assert results.exact["oracle"] < 0.01
    assert results.planted["agrees"].all(), results.planted[~results.planted["agrees"]]
    assert set(results.models) == set(SMALL.models)
    assert results.main("masked", 0).spec.name == "masked-k0-heads4"
    assert results.models["masked-k0-heads4"].agreement is not None
    assert results.models["root-k2"].probes is None


def test_training_that_was_stopped_goes_on_to_the_same_weights(finished, tmp_path, monkeypatch):
    spec, whole = read_spec(SMALL, "root-k0"), models.TreeTask.loss

    def breaking(self, model, step):
        if step == 33:
            raise KeyboardInterrupt
        return whole(self, model, step)

    config = json.loads((finished / "config.json").read_text())["settings"]
    monkeypatch.setattr(models.TreeTask, "loss", breaking)
    monkeypatch.setattr(models, "MOST_STEPS_LOST", 10)
    with Run.open(tmp_path / "torn", config) as run:
        with pytest.raises(KeyboardInterrupt):
            run.unit("train-root-k0", lambda: models.train(SMALL, spec, run))
        monkeypatch.setattr(models.TreeTask, "loss", lambda *a: calls.append(a[2]) or whole(*a))
        calls: list[int] = []
        run.unit("train-root-k0", lambda: models.train(SMALL, spec, run))
    assert calls == list(range(30, 60))
    name = f"models/root-k0/step-{spec.steps:08d}/model.safetensors"
    assert (tmp_path / "torn" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.slow
def test_stopped_in_training_and_continued_every_table_has_the_same_bytes(
    finished, tmp_path, monkeypatch
):
    whole = models.TreeTask.loss

    def breaking(self, model, step):
        if step == 33:
            raise KeyboardInterrupt
        return whole(self, model, step)

    monkeypatch.setattr(models.TreeTask, "loss", breaking)
    with pytest.raises(KeyboardInterrupt):
        study.run(SMALL, tmp_path / "torn")
    assert not (tmp_path / "torn" / "report.html").exists()
    monkeypatch.setattr(models.TreeTask, "loss", whole)
    study.run(SMALL, tmp_path / "torn")
    theirs = sorted((finished / "tables").glob("*.csv"))
    assert len(theirs) > 15
    for path in theirs:
        assert (tmp_path / "torn" / "tables" / path.name).read_bytes() == path.read_bytes()


def test_a_run_with_other_settings_is_not_continued(finished):
    with pytest.raises(mp.InputError, match="grammar_seed: 0 -> 1"):
        study.run(replace(SMALL, grammar_seed=1), finished)


def test_a_dry_run_names_steps_and_costs_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = dry_run(SMALL)
    assert "training steps" in text
    assert "root-k0, probes on 40" in text
    assert "masked-k0-heads4, inference" in text
    assert "not counted: exact parts" in text
    assert f"training sequences: {SMALL.batch * 120:,}" in text
    assert "hours" in text
    assert list(tmp_path.iterdir()) == []


SHORT: Settings = replace(SMALL, root_steps=10, masked_steps=10, n_checkpoints=3)


@pytest.mark.slow
def test_a_ternary_grammar_runs_without_the_construction(tmp_path):
    study.run(replace(SHORT, arity=3), tmp_path / "run")
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    found = {claim["claim"]: claim["verdict"] for claim in content["claims"]}
    (built,) = (v for c, v in found.items() if c.startswith("Exact inference fits"))
    assert built == "not testable here"
    assert any("own block of 3^s leaves" in claim for claim in found)
    assert "q = 3, depth 2, arity 3" in content["notes"][0]
    exact = pd.read_csv(tmp_path / "run" / "tables" / "bars.csv").query("exact")
    assert len(exact) == 3
    assert exact["met"].all()
    blocks = pd.read_csv(tmp_path / "run" / "tables" / "attention-masked-k0-heads4.csv")
    assert blocks.query("height == 2")["uniform"].unique() == pytest.approx([6 / 9])


@pytest.mark.slow
def test_rules_of_the_users_own_run_although_they_leave_child_tuples_out(tmp_path):
    rules = [[[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0.2], [0, 0.8, 0], [0, 0, 0]],
             [[0, 0, 0], [0.3, 0, 0.3], [0.4, 0, 0]]]
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    settings = replace(SHORT, rules=str(tmp_path / "rules.json"), q=7, unambiguous=True)
    study.run(settings, tmp_path / "run")
    tables = tmp_path / "run" / "tables"
    exact = pd.read_csv(tables / "bars.csv").query("exact")
    assert len(exact) == 4
    assert exact["met"].all()
    kl = pd.read_csv(tables / "divergence-root-k2.csv")
    assert np.isfinite(kl["kl"]).all()
    assert set(pd.read_csv(tables / "samples-to-level.csv")["q"]) == {3}
    notes = json.loads((tmp_path / "run" / "report.json").read_text())["notes"]
    assert "rules of rules.json; q = 3" in notes[0]
    assert "leave child tuples out" in notes[-1]


@pytest.mark.slow
def test_the_tiny_preset_runs_to_its_report(tmp_path):
    folder = mp.run_study("hierarchy", "tiny", tmp_path / "run", threads=1)
    stairs = pd.read_csv(folder / "tables" / "staircases.csv")
    root = stairs[(stairs["model"] == "root-k0") & (stairs["step"] > 0)]["closest"].tolist()
    assert root[0] == 3
    assert root[-1] < 3
    filtered = stairs[stairs["model"] == "root-k3"]["closest"].tolist()
    assert filtered[-1] == 3
