"""Pretraining: it learns, a kill changes nothing, and its checkpoints open."""

import dataclasses
import math

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, load_model
from mechprobe.runs.files import read_arrays
from mechprobe.tasks.pair_templates import generate_text
from mechprobe.training import pretrain as room
from mechprobe.training.perplexity import perplexity
from mechprobe.training.pretrain import PretrainSettings, log_grid, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("\n".join(generate_text(n=1_500)))
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(room.SIZES, "0.1M", {"n_layers": 1, "n_heads": 2, "d_model": 16})


def settings(path, **changes) -> PretrainSettings:
    return dataclasses.replace(
        PretrainSettings(
            text=(str(path),), size="0.1M", vocabulary="word", n_vocabulary=400, n_ctx=16,
            batch=8, steps=60, warmup=5, n_checkpoints=3, held_out=0.1, lr=1e-2,
        ), **changes,
    )


def test_it_learns_and_its_checkpoints_open(text, tmp_path):
    done = pretrain(settings(text), tmp_path / "lm")
    assert done.steps == (1, 8, 60)
    ppl = done.perplexity.perplexity.to_numpy()
    assert ppl[-1] < 0.5 * ppl[0]
    assert done.perplexity.tokens.tolist() == [128, 1024, 7680]
    model = load_model(done.path(60))
    kept = read_arrays(tmp_path / "lm" / room.HELD_OUT)["rows"]
    rows = torch.from_numpy(kept).long()
    assert perplexity(model, rows) == pytest.approx(ppl[-1])
    assert int((rows == model.tokenizer.bos_token_id).sum()) > 10


def test_a_kill_changes_nothing(text, tmp_path, monkeypatch):
    whole = pretrain(settings(text), tmp_path / "a")
    save = room.save_model

    def killed(model, folder):
        save(model, folder)
        if folder.name == "step-000008":
            raise KeyboardInterrupt

    monkeypatch.setattr(room, "save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(text), tmp_path / "b")
    monkeypatch.setattr(room, "save_model", save)
    again = pretrain(settings(text), tmp_path / "b")
    assert again.perplexity.equals(whole.perplexity)
    for a, b in zip(
        load_model(whole.path(60)).parameters(), load_model(again.path(60)).parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_perplexity_is_the_exponent_of_the_mean_loss():
    model = build_decoder(n_layers=1, n_heads=1, d_model=8, n_ctx=12, d_vocab=30, init_std=0.5)
    rows = torch.randint(0, 30, (7, 12), generator=torch.Generator().manual_seed(0))
    logp = model(rows).log_softmax(-1)
    losses = [-float(logp[r, t, rows[r, t + 1]].detach()) for r in range(7) for t in range(11)]
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity(model, rows, batch_tokens=24) == pytest.approx(expected, rel=1e-5)


def test_the_grid_is_logarithmic_and_ends_at_the_end():
    assert log_grid(1000, 3) == [10, 100, 1000]
    assert log_grid(5, 1) == [5]
    with pytest.raises(InputError, match="0 checkpoints of 5 steps"):
        log_grid(5, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "2M"}, "unknown --size '2M'"),
        ({"vocabulary": "letters"}, "unknown --vocabulary"),
        ({"precision": "int8"}, "expected float32 or bfloat16"),
        ({"batch": 0}, "--batch is 0"),
        ({"held_out": 1.0}, "inside"),
        ({"text": ()}, "no text given"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"n_ctx": 100_000}, "do not fill a context|make no row"),
    ],
)
def test_settings_that_cannot_work_are_refused(text, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        pretrain(settings(text, **changes), tmp_path / "lm")


def test_another_text_is_refused_on_resume(text, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text(text.read_text())
    pretrain(settings(mine, steps=2), tmp_path / "lm")
    mine.write_text(text.read_text().replace("the", "a", 1))
    with pytest.raises(InputError, match=r"text 1 mine\.txt"):
        pretrain(settings(mine, steps=2), tmp_path / "lm")


def test_the_command_trains_and_says_where_the_model_is(text, tmp_path, capsys, monkeypatch):
    from mechprobe.cli import main

    monkeypatch.delenv("MECHPROBE_DATA", raising=False)
    words = ["pretrain", "--size", "0.1M", "--steps", "4", "--batch", "2", "--n-ctx", "16",
             "--n-vocabulary", "300", "--n-checkpoints", "2", "--held-out", "0.1"]
    out = str(tmp_path / "lm")
    assert main([*words, "--text", str(text), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "perplexity" in said
    assert load_model(said.splitlines()[-1].removeprefix("model: ")).cfg.n_ctx == 16
    assert main([*words, "--out", out]) == 2
    assert "no text given" in capsys.readouterr().err
    assert main([*words, "--text", str(tmp_path / "none"), "--out", out]) == 2
    assert "no text in" in capsys.readouterr().err
