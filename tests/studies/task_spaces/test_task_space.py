"""The task-space study: a small run end to end, its numbers recomputed, kills, refusals."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.models import load_model
from mechprobe.runs import Run
from mechprobe.studies import STUDIES
from mechprobe.studies.claims import HELD, UNTESTED
from mechprobe.studies.task_spaces import spaces, write
from mechprobe.studies.task_spaces import study as room
from mechprobe.studies.task_spaces.check import check
from mechprobe.studies.task_spaces.cost import counted_points, dry_run
from mechprobe.studies.task_spaces.models import (
    Point,
    held_out_rows,
    load_pairs,
    training_text,
)
from mechprobe.studies.task_spaces.regime import chosen_tasks
from mechprobe.studies.task_spaces.settings import PRESETS, Settings
from mechprobe.studies.task_spaces.tables import cost_of_gain, regime, within_budget
from mechprobe.tasks.pair_tokens import encode_minimal_pairs
from mechprobe.training.pair_scores import score_pairs, task_accuracy

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: Settings = dataclasses.replace(
    PRESETS["tiny"], n_pairs=40, n_text=2_500, train_steps=24, n_checkpoints=2, steps=2, batch=8,
    regime_tasks=1, regime_lrs=(0.01,), n_null=60, n_boot=40, threads=1,
    paradigms=("agreement_copula", "agreement_verb", "npi_ever", "npi_any", "anaphor_gender"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ts"
    return room.run(SMALL, out, command="mechprobe run task-space").parent


def test_a_run_ends_in_a_report_with_every_claim(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    content = json.loads((finished / "report.json").read_text())
    assert len(content["claims"]) == 14
    assert all(claim["claim"] in page.replace("&#x27;", "'") for claim in content["claims"][:2])
    assert [claim["claim"] for claim in content["claims"] if not claim["files"]] == []
    for section in content["sections"]:
        for shown in (*section["tables"], *section["figures"]):
            assert (finished / shown["file"]).stat().st_size > 50
    assert "http" not in page.split("<body>")[1].split("Machine")[0].replace("http-equiv", "")


def test_its_accuracies_are_those_of_the_saved_model(finished):
    pairs = load_pairs(SMALL)
    model = load_model(finished / "lm-0.1M" / "models" / "step-000024")
    encoded = encode_minimal_pairs(pairs.part("evaluate"), model.tokenizer)
    margins = score_pairs(model, encoded).margins()
    with Run.open(finished, {"study": "task-space", **dataclasses.asdict(SMALL)}) as run:
        table = run.read_table("tables/accuracy.csv")
        arrays = run.read_arrays("arrays/0.1M-step-24/gradients.safetensors")
        row = run.read_arrays("arrays/0.1M-step-24/task-003.safetensors")
    np.testing.assert_allclose(table["0.1M-step-24"], task_accuracy(margins, encoded))
    np.testing.assert_allclose(arrays["before"], margins, atol=1e-3)
    assert row["after"].shape == (len(encoded),)
    assert row["perplexity"] > 1
    assert np.diag(arrays["overlap"]).tolist() == [1.0] * 5
    shares = arrays["heads"].sum((1, 2)) + arrays["mlps"].sum(1) + arrays["embeddings"]
    np.testing.assert_allclose(shares + arrays["rest"], 1.0)


def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    unit, calls = spaces.tuned_unit, []

    def killed(at, task, run):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return unit(at, task, run)

    monkeypatch.setattr(spaces, "tuned_unit", killed)
    monkeypatch.setattr(write, "draw", lambda *given: {})  # pictures take long
    with pytest.raises(KeyboardInterrupt):
        room.run(SMALL, tmp_path / "ts")
    room.run(SMALL, tmp_path / "ts")
    assert calls == [0, 1, 2, 2, 3, 4]
    for rel in ("tables/tests.csv", "tables/kinds-of-tuning.csv", "tables/development.csv"):
        assert (tmp_path / "ts" / rel).read_bytes() == (finished / rel).read_bytes()


def test_short_memory_for_gradients_changes_no_number(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "draw", lambda *given: {})
    given = dataclasses.replace(
        SMALL, models=(str(finished / "lm-0.1M"),), gradient_gib=1e-6, regime_tasks=0
    )
    room.run(given, tmp_path / "again")
    old, new = (
        load_file(folder / "arrays" / name / "gradients.safetensors")
        for folder, name in ((finished, "0.1M-step-24"), (tmp_path / "again", "lm-0.1M-step-24"))
    )
    for name, values in old.items():
        np.testing.assert_allclose(new[name], values, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_trained_model_is_taken_from_its_folder(finished, tmp_path):
    given = dataclasses.replace(
        SMALL, models=(str(finished / "lm-0.1M"),), n_spaces=1, regime_tasks=0
    )
    room.run(given, tmp_path / "ts")
    old, new = (
        (folder / "tables" / "groups.csv").read_text().replace("lm-0.1M", "0.1M")
        for folder in (finished, tmp_path / "ts")
    )
    assert old == new


def test_a_model_from_elsewhere_is_read_on_pairs_used_for_nothing_else(finished, tmp_path):
    pairs, model = load_pairs(SMALL), load_model(finished / "lm-0.1M" / "models" / "step-000024")
    rows = held_out_rows(SMALL, Point("mine", -1, "elsewhere", True), pairs, model)
    assert rows.shape[1] == 32
    said = {s for part in model.tokenizer.batch_decode(rows) for s in part.split("<s>")[1:-1]}
    kept = {s for p in pairs.part("reserve") for s in p.good}
    assert {s.replace(" ", "") for s in said if s} <= {s.replace(" ", "") for s in kept}
    (tmp_path / "few.txt").write_text("The boy is tall.")
    few = dataclasses.replace(SMALL, text=(str(tmp_path / "few.txt"),))
    with pytest.raises(InputError, match="make no row of 32"):
        held_out_rows(few, Point("mine", -1, "elsewhere", True), pairs, model)


def test_nothing_held_out_is_trained_on():
    pairs = load_pairs(SMALL)
    text = set(training_text(SMALL, pairs))
    for part in ("tune", "validate", "evaluate"):
        for p in pairs.part(part):
            assert not text & {*p.good, *p.bad}


def test_the_rate_of_a_task_is_chosen_by_the_others():
    import pandas as pd

    rows = [
        (task, lr, gain, ratio)
        for task, gains in {"a": (0.9, 0.1, 1), "b": (0.1, 0.2, 1), "c": (0.1, 0.3, 1)}.items()
        for lr, gain, ratio in zip((1, 2, 3), gains, (1.0, 1.05, 9.0), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["task", "lr", "gain", "perplexity_ratio"])
    found = within_budget(table.assign(method="m"), "m", 1.1)
    assert found.to_dict() == {"a": 0.1, "b": 0.1, "c": 0.1}
    none = within_budget(table.assign(method="m", perplexity_ratio=2.0), "m", 1.1)
    assert none.to_dict() == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_the_cost_of_a_gain_is_read_where_the_other_tasks_reach_it():
    import pandas as pd

    rows = [
        (task, method, lr, gain, ratio * extra)
        for task, extra in (("a", 1.0), ("b", 1.0), ("c", 2.0))
        for method, lr, gain, ratio in (
            ("usual", 1, 0.2, 1.0), ("usual", 2, 0.5, 1.5), ("ours", 1, 0.46, 1.1),
            ("ours", 2, 0.5, 1.2), ("weak", 1, 0.3, 1.0), ("broken", 1, 0.6, 80.0),
        )
    ]
    table = pd.DataFrame(rows, columns=["task", "method", "lr", "gain", "perplexity_ratio"])

    def ratios(method, share):
        return cost_of_gain(table, method, "usual", share).ratio.round(6).to_dict()

    assert ratios("usual", 0.9) == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert ratios("ours", 0.9) == {"a": 1.1, "b": 1.1, "c": 2.2}
    assert ratios("ours", 0.95) == {"a": 1.2, "b": 1.2, "c": 2.4}
    assert ratios("weak", 0.9) == {"a": 100, "b": 100, "c": 100}
    assert ratios("broken", 0.9) == {"a": 80, "b": 80, "c": 100}
    failed = {"gain": np.nan, "perplexity_ratio": np.inf}
    some = [{"task": t, "method": "usual", "lr": 3, **failed} for t in "bc"]
    some.append({"task": "a", "method": "usual", "lr": 3, "gain": 0.99, "perplexity_ratio": 5.0})
    found = cost_of_gain(pd.concat([table, pd.DataFrame(some)]), "ours", "usual", 0.9)
    assert found.ratio.round(6).to_dict() == {"a": 1.1, "b": 1.1, "c": 2.2}  # not .99's rate


def test_the_regime_is_the_best_rate_within_the_budget_and_where_it_breaks():
    import pandas as pd

    table = pd.DataFrame({
        "task": ["a"] * 6, "method": ["m"] * 3 + ["n"] * 3, "lr": [1.0, 2, 3] * 2,
        "gain": [0.1, 0.3, 0.9, 0.5, 0.5, 0.5], "perplexity_ratio": [1.0, 1.1, 2.0, 3, 3, 3],
        "same_phenomenon": 0.0, "other_phenomena": 0.0,
    })
    found = regime(table, 1.1).set_index("method")
    assert found.loc["m", ["lr", "gain", "breaks_at"]].tolist() == [2.0, 0.3, 3.0]
    assert np.isnan(found.loc["n", "gain"])
    assert found.loc["n", "breaks_at"] == 1.0


def test_compared_tasks_come_from_all_phenomena_and_have_room():
    accuracy = np.array([0.1, 0.2, 0.3, 0.9, 0.99, 0.5])
    chosen = chosen_tasks(accuracy, ["a", "a", "a", "b", "b", "c"], 3)
    assert chosen == [0, 3, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "mine"}, "unknown --pairs 'mine'"),
        ({"scale": "row"}, "unknown --scale"),
        ({"sizes": ("2M",)}, "unknown size '2M'"),
        ({"sizes": ()}, "no models"),
        ({"models": ("./nothing",)}, "no model ./nothing"),
        ({"top": 0.0}, "--top is 0.0"),
        ({"lr": -1.0}, "at learning rate -1.0"),
        ({"n_checkpoints": 0}, "--n-checkpoints is 0"),
        ({"regime_lrs": ()}, "no --regime-lrs"),
        ({"pairs": "blimp"}, "no text to train on"),
        ({"data_dir": "nothing"}, "no data folder nothing"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"budget": 1.0}, "a ratio above 1"),
        ({"map": "tsne"}, "unknown --map 'tsne'"),
        ({"stop": 1.5}, "stop is an accuracy"),
        ({"gradient_gib": 0.0}, "--gradient-gib is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        check(dataclasses.replace(SMALL, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_vocabulary": 40}, r"card .*: \w+ pair \d+: '.*' is not in the model's vocabulary"),
        ({"n_ctx": 4}, r"pair \d+: a sentence has \d+ tokens .* the model reads 4"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused_before_training(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        room.run(dataclasses.replace(SMALL, **changes), tmp_path / "ts")
    assert not (tmp_path / "ts").exists()


def test_paradigms_that_cannot_be_compared_are_refused(tmp_path):
    few = dataclasses.replace(SMALL, paradigms=("npi_ever", "npi_any"))
    with pytest.raises(InputError, match="2 paradigms of 1 phenomena cannot be compared"):
        room.run(few, tmp_path / "ts")
    assert not (tmp_path / "ts").exists()


@pytest.mark.parametrize("preset", ["tiny", "laptop", "real"])
def test_presets_can_be_run_dry(preset, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MECHPROBE_DATA", str(tmp_path))
    assert main(["run", "task-space", "--preset", preset, "--dry-run", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert f"preset {preset}" in said
    for size in PRESETS[preset].sizes:
        assert f"\n{size} " in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_takes_the_shape_and_checkpoints_of_a_model_that_is_there(finished):
    folder = str(finished / "lm-0.1M")
    given = dataclasses.replace(SMALL, models=(folder,), n_spaces=1)
    assert counted_points(given, folder) == (2, 1)
    weights = sum(p.numel() for p in load_model(f"{folder}/models/step-000024").parameters())
    (line,) = [line for line in dry_run(given).splitlines() if line.startswith(folder)]
    assert f" {weights / 1e6:.1f} M" in line


def test_the_study_is_registered():
    study = STUDIES["task-space"]
    assert set(study.presets) == {"tiny", "laptop", "real", "paper"}
    assert study.reads_files(PRESETS["real"])
    assert not study.reads_files(PRESETS["laptop"])


def test_claims_without_what_they_need_are_not_testable(finished):
    content = json.loads((finished / "report.json").read_text())
    by_claim = {claim["claim"]: claim["verdict"] for claim in content["claims"]}
    larger = [v for k, v in by_claim.items() if k.startswith("Larger models")]
    assert larger == [UNTESTED]
    if content["claims"][0]["verdict"] != HELD:
        assert set(by_claim.values()) <= {UNTESTED, content["claims"][0]["verdict"]}
