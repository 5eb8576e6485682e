"""A whole run: its numbers against doing it by hand, what it writes, and going on after a stop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mechprobe.cli import main
from mechprobe.errors import InputError
from mechprobe.models.load import load_model
from mechprobe.models.streams import streams
from mechprobe.probes import (
    bank_losses,
    fit_bank,
    score_distances,
    topology_objective,
    word_vectors,
)
from mechprobe.probes.structural import distance_objective
from mechprobe.runs.tables import read_table
from mechprobe.studies.topology.data import prepare
from mechprobe.studies.topology.probing import probe_settings
from mechprobe.studies.topology.study import run
from tests.studies.topology.conftest import MICRO


def content(folder: Path, pattern: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.glob(pattern)}


def test_the_tables_are_what_the_probes_give_by_hand(finished):
    data = prepare(MICRO)
    model = load_model(finished / "models" / "encoder").requires_grad_(False)
    wanted = streams(model, MICRO.parts)
    read = {p: word_vectors(model, data.parts[p], wanted=wanted) for p in ("train", "dev", "test")}
    found = read_table(finished / "tables" / "scores.csv")
    for metric, objective in (
        ("uuas", distance_objective(4)), ("x_sp", topology_objective("sp")),
    ):  # fmt: skip
        bank = fit_bank(objective, read["train"], read["dev"], probe_settings(MICRO))
        if metric == "uuas":
            expected = score_distances(bank, read["test"]).scores["uuas"]
        else:
            expected = bank_losses(bank, read["test"])
        rows = found[(found.model == "trained") & (found.metric == metric)]
        values = {(r["part"], r["layer"]): r["value"] for r in rows.to_dict("records")}
        for stream, value in zip(wanted, expected, strict=True):
            assert values[stream.part, stream.layer] == pytest.approx(value, rel=1e-4)
        assert (rows.low <= rows.high).all()


def test_other_ranks_and_fitted_sentences_are_what_the_probes_give_by_hand(finished):
    data = prepare(MICRO)
    model = load_model(finished / "models" / "encoder").requires_grad_(False)
    wanted = streams(model, ["resid"])
    read = {p: word_vectors(model, data.parts[p], wanted=wanted) for p in ("train", "dev", "test")}
    found = read_table(finished / "tables" / "ranks.csv")
    assert set(found["rank"]) == {4, 8}
    for rank in (4, 8):
        bank = fit_bank(
            topology_objective("ssp", rank=rank), read["train"], read["dev"], probe_settings(MICRO)
        )
        rows = found[(found["rank"] == rank) & (found.model == "trained")]
        assert rows.stream.tolist() == [str(stream) for stream in wanted]
        for part in ("train", "test"):
            np.testing.assert_allclose(rows[part], bank_losses(bank, read[part]), rtol=1e-3)
    both = read_table(finished / "tables" / "train-and-test.csv").set_index("stream")
    own = found[(found["rank"] == 8) & (found.model == "trained")].set_index("stream")
    np.testing.assert_allclose(both.loc[own.index, "ssp train"], own["train"], rtol=1e-6)
    untrained = [
        json.loads((finished / f"units/probe-untrained-{i}-ssp-rank-4.json").read_text())
        for i in range(2)
    ]
    mean = np.mean([unit["result"]["train_loss"] for unit in untrained], axis=0)
    rows = found[(found["rank"] == 4) & (found.model == "untrained")]
    np.testing.assert_allclose(rows["train"], mean, rtol=1e-6)


def test_the_report_judges_every_claim_and_every_file_it_names_is_there(finished):
    report = json.loads((finished / "report.json").read_text())
    assert len(report["claims"]) == 8
    assert {c["verdict"] for c in report["claims"]} <= {
        "held", "did not hold", "not testable here"
    }  # fmt: skip
    named = [x["file"] for s in report["sections"] for x in s["tables"] + s["figures"]]
    assert len(named) > 12
    assert all((finished / name).is_file() for name in named)
    assert (finished / "report.html").is_file()
    assert any(note.startswith("The pull at resid.1 lowers L_probe") for note in report["notes"])
    bound = next(c for c in report["claims"] if c["claim"] == "X_ssp <= X_sp")
    assert "at the same B in 7 of 7" in bound["numbers"]
    rows = read_table(finished / "tables" / "finetuned.csv")
    assert rows.condition.tolist() == ["plain", "resid.1", "resid.1-reversed"] * 2
    assert rows.seed.tolist() == [0, 0, 0, 1, 1, 1]
    assert set(rows.train_sentences) == {40}
    assert not rows[["train_truncated", "truncated", "left_out"]].to_numpy().any()
    heads = read_table(finished / "tables" / "heads-uuas.csv")
    assert heads["head"].tolist() == ["0.0", "0.1", "1.0", "1.1"]
    sentences = read_table(finished / "tables" / "sentences.csv")
    assert not sentences[["too_long", "vanished"]].to_numpy().any()


def test_a_run_goes_on_where_it_stopped_with_the_same_numbers(finished, tmp_path):
    torn = tmp_path / "torn"
    shutil.copytree(finished, torn)
    for pattern in ("units/heads*", "units/finetune-*-1*", "units/probe-untrained-1-sp*"):
        gone = list(torn.glob(pattern))
        assert gone
        for path in gone:
            path.unlink()
    for folder in ("tables", "figures"):
        shutil.rmtree(torn / folder)
    kept = {p: p.stat().st_mtime_ns for p in torn.glob("units/*")}
    run(MICRO, torn)
    assert content(torn, "tables/*.csv") == content(finished, "tables/*.csv")
    assert all(p.stat().st_mtime_ns == time for p, time in kept.items())


def test_other_settings_and_other_sentences_are_refused(finished, tmp_path):
    with pytest.raises(InputError, match="probe_epochs: 1 -> 2"):
        run(replace(MICRO, probe_epochs=2), finished)
    torn = tmp_path / "torn"
    shutil.copytree(finished, torn)
    unit = torn / "units" / "inputs.json"
    text = json.loads(unit.read_text())
    text["result"]["train"] = "29 rows, sha256 0"
    unit.write_text(json.dumps(text))
    with pytest.raises(InputError, match="does not match its check sum"):
        run(MICRO, torn)


def test_the_command_line_knows_the_study(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MECHPROBE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    small = ["--d-model", "16", "--n-layers", "2", "--n-heads", "2", "--finetune-streams",
             "resid.1", "--topology-rank", "4", "--distance-rank", "4", "--threads", "1"]
    assert main(["run", "topology", "--dry-run", *small]) == 0
    said = capsys.readouterr().out
    assert "2 layers x 2 heads" in said
    assert "7 streams probed together" in said
    assert "0.5179" in said  # X_sp of block 16 in the authors' logs
    assert main(["run", "topology", "--n-train", "0"]) == 2
    assert "--n-train is 0; give 1 or more" in capsys.readouterr().err
    assert main(["run", "topology", "--pair", "x"]) == 2
    assert "unknown option '--pair'" in capsys.readouterr().err
    assert not np.any([p.name == "runs" for p in tmp_path.iterdir()])
