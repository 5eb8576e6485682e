"""The command line: options become settings, bad input stops at once, a killed run goes on."""

import argparse
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest

import mechprobe as mp
from mechprobe.cli import DATA, build_parser, main, settings_of
from mechprobe.studies import STUDIES

STUDY = STUDIES["heuristic-core"]
TINY = ("run", "heuristic-core", "--preset", "tiny", "--threads", "1")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No data folder of the user's, default folders under tmp_path, one thread."""
    monkeypatch.delenv(DATA, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


def parsed(*words: str) -> argparse.Namespace:
    everything = ["run", "heuristic-core", *words]
    return build_parser(STUDY, everything[2:]).parse_args(everything)


def settings(*words: str):
    return settings_of(STUDY, parsed(*words))


def refusal(capsys, *words: str) -> str:
    """What the command says when it refuses: one line, exit status 2, nothing on stdout."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("mechprobe: error: ")]
    assert len(lines) == 1
    assert said.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in said.err
    return lines[0]


# ---- what options become

@pytest.mark.parametrize("preset", list(STUDY.presets))
def test_without_options_a_run_is_its_preset(preset):
    assert settings("--preset", preset) == STUDY.presets[preset]


def test_the_default_preset_is_laptop():
    assert settings() == STUDY.presets["laptop"]
    assert parsed().out == Path("runs/heuristic-core-laptop")


def test_every_setting_has_an_option_that_help_shows_with_its_value(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "heuristic-core", "--preset", "real", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    real = STUDY.presets["real"]
    assert real.train_steps != STUDY.presets["laptop"].train_steps
    for field in fields(STUDY.settings):
        assert f" --{field.name.replace('_', '-')} " in said
        value = getattr(real, field.name)
        value = " ".join(map(str, value)) or "empty" if isinstance(value, tuple) else value
        shown = "none" if value is None else value
        text = " ".join(field.metadata["help"].split())
        assert f"{text} (default: {shown})" in said or field.name == "preset"
    for name in ("--out", "--dry-run", "--record"):
        assert name in said


def test_numbers_lists_and_none():
    found = settings(
        "--seed", "7", "--train-lr", "1e-4", "--sparsities", "0.3", "0.6", "--ood-groups",
        "not_swap", "ent_passive", "--encoder", "none", "--preset", "real",
    )
    assert (found.seed, found.train_lr, found.encoder) == (7, 1e-4, None)
    assert found.sparsities == (0.3, 0.6)
    assert found.ood_groups == ("not_swap", "ent_passive")
    assert settings("--preset", "real", "--checkpoint-sparsities").checkpoint_sparsities == ()


def test_a_pair_brings_its_own_values_and_options_win():
    found = settings("--preset", "real", "--pair", "qqp-paws")
    assert found == STUDY.settle("real", {"pair": "qqp-paws"})
    assert found.sparsities == (0.3, 0.6) != STUDY.presets["real"].sparsities
    assert found.hans_train_share == 0 != STUDY.presets["real"].hans_train_share
    won = settings("--sparsities", "0.4", "--pair", "qqp-paws", "--preset", "real")
    assert won.sparsities == (0.4,)
    assert won.hans_train_share == 0


def test_another_pair_goes_to_another_folder():
    assert parsed("--preset", "real").out == Path("runs/heuristic-core-real")
    assert parsed("--preset=real", "--pair=mnli-hans").out == Path("runs/heuristic-core-real")
    other = parsed("--preset", "real", "--pair", "qqp-paws")
    assert other.out == Path("runs/heuristic-core-real-qqp-paws")


def test_the_data_variable_is_for_pairs_that_read_files(monkeypatch):
    assert settings("--preset", "real").data_dir is None
    monkeypatch.setenv(DATA, "/some/data")
    assert settings("--preset", "real").data_dir == "/some/data"
    assert settings("--preset", "laptop").data_dir is None
    assert settings("--preset", "tiny", "--pair", "qqp-paws").data_dir == "/some/data"
    assert settings("--preset", "real", "--data-dir", "mine").data_dir == "mine"
    assert settings("--preset", "real", "--data-dir", "none").data_dir is None


def test_a_reader_that_leaves_is_no_traceback():
    child = subprocess.run(
        f"{sys.executable} -m mechprobe list | true", shell=True, capture_output=True, text=True
    )
    assert child.stderr == ""
    piped = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mechprobe list | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True,
    )
    assert piped.stdout.startswith("studies")
    assert piped.stderr == ""
    assert piped.returncode in (0, 141)  # all may be written before the reader leaves


def test_list_names_studies_presets_and_cards(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, study in STUDIES.items():
        (line,) = (one for one in lines if one.startswith(f"  {name}: "))
        assert f"[{', '.join(study.presets)}]" in line
    for card in mp.list_tasks():
        (line,) = (one for one in lines if one.startswith(f"  {card}: "))
        assert len(line) > len(card) + 10


# ---- what is refused

@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: COMMAND"),
        (["rnu"], "unknown command 'rnu'; nearest: run"),
        (["run"], "required: STUDY"),
        (["run", "heuristic-cor"], "unknown study 'heuristic-cor'; nearest: heuristic-core"),
        (["run", "xyz"], "unknown study 'xyz'; one of heuristic-core"),
        (["run", "heuristic-core", "--preset", "laptp"], "'laptp'; nearest: laptop"),
        (["run", "heuristic-core", "--preset", "xyz"], "one of tiny, laptop, real, paper"),
        (["run", "heuristic-core", "--preset"], "--preset: expected one argument"),
        ([*TINY, "--n-mask", "3"], "unknown option '--n-mask'; nearest: --n-masks"),
        ([*TINY, "--sparsity=0.5"], "unknown option '--sparsity=0.5'; nearest: --sparsities"),
        ([*TINY, "laptop"], "unexpected argument 'laptop'"),
        ([*TINY, "--seed", "x"], "--seed: 'x' is not a whole number"),
        ([*TINY, "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        ([*TINY, "--train-lr", "nan"], "--train-lr: 'nan' is not a finite number"),
        ([*TINY, "--sparsities", "0.5,0.7"], "--sparsities: '0.5,0.7' is not a finite number"),
        (["report"], "one of the arguments DIR --compare is required"),
        (["report", "nowhere", "--out", "x.html"], "--out is for --compare A B"),
        (["report", "--compare", "nowhere"], "--compare: expected 2 arguments"),
        (["report", "--compare", "nowhere", "other"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["list", "x"], "unexpected argument 'x'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_are_no_command_are_refused(capsys, words: Sequence[str], said):
    assert said in refusal(capsys, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sparsities", "0.5", "1.5"], "sparsity 1.5 is outside (0, 1)"),
        (["--sparsities", "0"], "sparsity 0.0 is outside (0, 1)"),
        (["--sparsities"], "no sparsities given"),
        (["--checkpoint-sparsities", "-0.5"], "sparsity -0.5 is outside (0, 1)"),
        (["--pair", "mnli"], "unknown pair 'mnli'; one of overlap, mnli-hans, qqp-paws"),
        (["--rule", "mine"], "unknown rule 'mine'"),
        (["--baseline", "half"], "baseline 'half' cannot be used"),
        (["--precision", "int8"], "precision 'int8'; expected float32 or bfloat16"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--train-steps", "0"], "--train-steps is 0; give 1 or more"),
        (["--n-masks", "1"], "--n-masks is 1; a spread needs 2 subnetworks or more"),
        (["--seed", "-1"], "--seed is -1"),
        (["--train-lr", "0"], "--train-lr is 0.0"),
        (["--ood-groups", "not_swop"], "ood_groups names 'not_swop'; expected some of"),
        (["--overlap-predicts", "2"], "--overlap-predicts is 2.0; give a share, 0 to 1"),
        (["--overlap-predicts", "0.3"], "overlap_predicts=0.3 is not possible"),
        (["--encoder", "./nothing"], "no model in ./nothing"),
        (["--pair", "qqp-paws", "--data-dir", "nothing"], "no data folder nothing"),
        (["--pair", "qqp-paws", "--data-dir", "."], "no file paraphrase/qqp_train.tsv.xz in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_that_cannot_work_leave_no_run_behind(capsys, tmp_path, words, said):
    assert said in refusal(capsys, *TINY, "--out", "run", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_or_below_one_is_refused(capsys, tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert "--out notes: " in refusal(capsys, *TINY, "--out", "notes")
    assert "is a file" in refusal(capsys, *TINY, "--out", "notes/run")
    assert "--record notes: " in refusal(capsys, *TINY, "--out", "run", "--record", "notes")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_folder_with_other_things_in_it_is_refused(capsys, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    assert "is not empty and holds no run" in refusal(capsys, *TINY, "--out", "thesis")
    assert "holds no run" in refusal(capsys, "report", "thesis")
    said = refusal(capsys, *TINY, "--out", "run", "--record", "thesis", "--ood-groups", "not_swop")
    assert "thesis holds 'chapter.txt' and no summary.md" in said  # before the run, not after it
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def _quora(folder: Path, head: str, row: str) -> None:
    """A data folder whose two Quora files have this header and rows like this one."""
    (folder / "paraphrase").mkdir(parents=True)
    paws = "sentence1\tsentence2\tlabel\nwas it so\tso it was\t0\nit was\tit was so\t1\n"
    (folder / "paraphrase" / "paws_qqp.tsv.gz").write_bytes(gzip.compress(paws.encode()))
    text = head + "\n" + "".join(row.format(i=i, label=i % 2) + "\n" for i in range(40))
    for name in ("qqp_train", "qqp_dev"):
        (folder / "paraphrase" / f"{name}.tsv.xz").write_bytes(lzma.compress(text.encode()))


def test_wrong_columns_are_named_with_those_expected(capsys, tmp_path):
    _quora(tmp_path / "data", "left\tright\tlabel", "is it {i}\tis it {i} ?\t{label}")
    said = refusal(capsys, *TINY, "--pair", "qqp-paws", "--data-dir", "data", "--out", "run")
    for word in ("qqp_train.tsv.xz", "left", "right", "question1", "question2"):
        assert word in said
    assert not (tmp_path / "run").exists()


def test_a_label_that_is_not_in_the_card_is_named_with_its_line(capsys, tmp_path):
    _quora(tmp_path / "data", "question1\tquestion2\tlabel", "is it {i}\tis it {i} ?\tmaybe")
    said = refusal(capsys, *TINY, "--pair", "qqp-paws", "--data-dir", "data", "--out", "run")
    for word in ("qqp_train.tsv.xz", "line 2", "'maybe'", "0", "1"):
        assert word in said
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_architecture_is_refused(capsys, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    said = refusal(capsys, *TINY, "--encoder", "./speech", "--out", "run")
    assert "holds a 'wav2vec2' model; supported are bert" in said
    small = GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=20)
    GPT2LMHeadModel(small).save_pretrained(tmp_path / "decoder")
    said = refusal(capsys, *TINY, "--encoder", "./decoder", "--out", "run")
    assert "decoder" in said
    assert not (tmp_path / "run").exists()


def test_pairs_longer_than_the_encoder_can_read_are_refused(capsys, tmp_path):
    from mechprobe.tasks import word_tokenizer

    pairs = mp.load_task("nli/overlap", n_train=64, n_dev=32, n_ood=8).split("train")
    tokenizer = word_tokenizer([*pairs.first, *pairs.second])
    short = mp.build_classifier(
        pairs.labels, tokenizer, n_layers=1, n_heads=2, d_model=16, d_mlp=16, n_ctx=8, seed=0
    )
    mp.to_hf(short).save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    said = refusal(capsys, *TINY, "--encoder", "./short", "--out", "run", "--max-length", "48")
    assert "--max-length is 48, but ./short reads at most 8 tokens" in said
    assert not (tmp_path / "run").exists()


# ---- a run from one end to the other

def _start(folder: Path, *more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "mechprobe", *TINY, "--out", str(folder), *more]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell's background jobs, this test run perhaps among them, are started deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _finish(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=900)
    assert process.returncode == status, err
    return out, err


def _reach(process: subprocess.Popen, folder: Path, pattern: str) -> None:
    """Wait until a file of that name is there while the process still runs."""
    until = time.monotonic() + 600
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def _content(folder: Path, *patterns: str) -> dict[str, bytes]:
    files = [p for glob in patterns for p in folder.glob(glob) if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(files)}


NUMBERS = (
    "tables/*.csv", "arrays/**/*", "models/**/*.safetensors", "subnetworks/**/*", "metrics.jsonl",
)


@pytest.mark.slow
def test_stopped_killed_and_continued_a_run_has_the_same_numbers(capsys, tmp_path):
    out, _ = _finish(_start(tmp_path / "whole", "--record", str(tmp_path / "record")))
    assert out.splitlines()[-1] == f"report: {tmp_path / 'whole' / 'report.html'}"
    whole = _content(tmp_path / "whole", *NUMBERS)
    kinds = {Path(name).parts[0] for name in whole}
    assert kinds == {"tables", "arrays", "models", "subnetworks", "metrics.jsonl"}

    folder = tmp_path / "torn"
    stopped = _start(folder)
    _reach(stopped, folder, "checkpoints/train-*")
    stopped.send_signal(signal.SIGINT)
    _, err = _finish(stopped, 130)
    assert "the same command goes on" in err
    assert "Traceback" not in err
    for pattern in ("units/full-*", "units/search-*", "units/core-*"):
        killed = _start(folder)
        _reach(killed, folder, pattern)
        killed.kill()
        _finish(killed, -signal.SIGKILL)
        assert not (folder / "report.html").exists()
    before = _content(folder, "**/*")
    assert main([*TINY, "--out", str(folder), "--seed", "1"]) == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err
    assert main([*TINY, "--out", str(folder), "--sparsities", "2"]) == 2
    assert _content(folder, "**/*") == before  # a refusal costs nothing of what is done
    _finish(_start(folder))
    assert _content(folder, *NUMBERS) == whole

    page = folder / "report.html"
    page.unlink()
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    assert "mechprobe run heuristic-core --preset tiny" in page.read_text(encoding="utf-8")
    assert (tmp_path / "record" / "summary.md").is_file()
    assert _content(tmp_path / "record", "tables/*.csv").items() <= whole.items()
