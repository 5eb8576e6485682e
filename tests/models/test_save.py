"""A saved model comes back bit for bit, and a folder is either whole or not there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mechprobe.errors import InputError
from mechprobe.models import (
    build_classifier,
    build_decoder,
    build_encoder,
    forward,
    from_hf,
    load_model,
    save_model,
)
from mechprobe.models import save as save_module

LABELS = ("entailment", "non-entailment")


@pytest.fixture
def classifier(tokenizer, sizes):
    return build_classifier(LABELS, tokenizer, **sizes, seed=3, d_mlp=24, act="gelu_new")


def models_of_every_kind(sizes, hf_bert, hf_gpt2):
    return [
        build_encoder(**sizes),
        build_decoder(**sizes, attn_only=True),
        build_decoder(**sizes, positional_embedding_type="rotary", n_key_value_heads=2),
        from_hf(hf_bert),
        from_hf(hf_gpt2),
    ]


def test_a_classifier_comes_back_whole(classifier, tmp_path, make_batch, tokenizer):
    folder = save_model(classifier, tmp_path / "deep" / "model")
    again = load_model(folder)
    assert type(again) is type(classifier)
    assert again.labels == LABELS
    assert again.cfg.act_fn == "gelu_new"
    assert torch.equal(forward(again, make_batch(9, 4)), forward(classifier, make_batch(9, 4)))
    text = ("a b c", "d zzz e")
    assert dict(again.tokenizer(*text)) == dict(tokenizer(*text))
    assert again.tokenizer.pad_token == "[PAD]"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.safetensors", "mechprobe.json", "tokenizer.json"}
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_every_kind_comes_back_bit_for_bit(sizes, hf_bert, hf_gpt2, tmp_path, make_batch):
    batch = make_batch(9, 4)
    for i, model in enumerate(models_of_every_kind(sizes, hf_bert, hf_gpt2)):
        again = load_model(save_model(model, tmp_path / str(i)))
        assert type(again) is type(model)
        assert torch.equal(forward(again, batch), forward(model, batch)), i
        plain = {k: v for k, v in vars(model.cfg).items() if k not in ("init_weights", "seed")}
        for name, value in plain.items():
            assert getattr(again.cfg, name) == value, name


def test_dtype_is_kept_unless_another_is_asked_for(sizes, tmp_path):
    for dtype in (torch.float64, torch.bfloat16):
        folder = save_model(build_classifier(LABELS, None, **sizes, dtype=dtype), tmp_path / "m")
        assert load_model(folder).cfg.dtype == dtype
        assert next(load_model(folder, dtype=torch.float32).parameters()).dtype == torch.float32


def test_saving_again_replaces_the_folder(classifier, sizes, tmp_path, make_batch):
    save_model(classifier, tmp_path / "m")
    other = build_classifier(("a", "b", "c"), None, **sizes, seed=9)
    save_model(other, tmp_path / "m")
    assert torch.equal(
        forward(load_model(tmp_path / "m"), make_batch(5)), forward(other, make_batch(5))
    )
    assert not (tmp_path / "m" / "tokenizer.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failure_while_saving_leaves_the_old_model(classifier, sizes, tmp_path, monkeypatch):
    save_model(classifier, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(save_module, "save_file", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*No space left.*; give a folder"):
        save_model(build_classifier(LABELS, None, **sizes, seed=9), tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_folder_of_something_else_is_not_replaced(classifier, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a saved model"):
        save_model(classifier, tmp_path / "thesis")
    with pytest.raises(InputError, match="exists and is not a saved model"):
        save_model(classifier, tmp_path / "thesis" / "chapter.tex")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_folder_that_cannot_be_written_is_named(classifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file/model"):
        save_model(classifier, tmp_path / "file" / "model")


def _cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _drop_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["blocks.1.attn.W_Q"]
    save_file(weights, folder / "model.safetensors")


def _another_width(folder):
    described = json.loads((folder / "mechprobe.json").read_text())
    described["config"]["d_mlp"] = 25
    (folder / "mechprobe.json").write_text(json.dumps(described))


def _newer_format(folder):
    described = json.loads((folder / "mechprobe.json").read_text())
    (folder / "mechprobe.json").write_text(json.dumps(described | {"format": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_weights, "not a readable saved model"),
        (_drop_a_weight, r"weights do not fit the model: blocks\.1\.attn\.W_Q is missing"),
        (_another_width, r"weights do not fit the model: blocks\.0\.mlp\.W_in is \(32, 24\)"),
        (_newer_format, "in format 99, this version reads 1"),
        (lambda folder: (folder / "mechprobe.json").write_text("{"), "not a readable saved model"),
        (lambda folder: (folder / "mechprobe.json").write_text("{}"), "not a readable saved model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not a readable saved model"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(classifier, tmp_path, damage, message):
    folder = save_model(classifier, tmp_path / "m")
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_moved_folder_still_loads(classifier, tmp_path, make_batch):
    save_model(classifier, tmp_path / "m")
    shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    again = load_model(str(tmp_path / "elsewhere"))
    assert torch.equal(forward(again, make_batch(5)), forward(classifier, make_batch(5)))
