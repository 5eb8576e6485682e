"""Pretrained models from a local folder: Hugging Face's own numbers, and a whole run of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from mechprobe.errors import InputError
from mechprobe.studies.abstraction.check import check, check_inputs
from mechprobe.studies.abstraction.data import SetData, prepare
from mechprobe.studies.abstraction.models import pretrained
from mechprobe.studies.abstraction.settings import PRESETS, Settings
from mechprobe.studies.abstraction.study import run
from mechprobe.tasks.abstraction import load_abstraction
from mechprobe.tasks.seen_words import SeenWords
from mechprobe.training.seq2seq import answer_log_probability

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = replace(
    PRESETS["tiny"], n_train=60, n_test=8, n_ood=8, per_item=2, adapt=("full",), batch=8,
    auxiliary_steps=3, control_steps=3, finetune_steps=3, points=0, n_heads_eval=8, n_random=2,
    n_boot=50, beams=2, constrained=True, mask_steps=3, mask_seeds=2,
)


def pieces(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of T5's or GPT-2's kind, so small that words are made of pieces."""
    tasks = load_abstraction("abstraction/mini", n_train=200, n_words=10, n_dev=0, n_test=0,
                             n_ood=0)
    texts = [" ".join(row) for pairs in tasks.all_pairs() for row in (*pairs.source, *pairs.target)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "t5":
        inner = Tokenizer(models.Unigram())
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        special = ["<pad>", "</s>", "<unk>"]
        inner.train_from_iterator(texts, trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False,
        ))
        return PreTrainedTokenizerFast(
            tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet,
        show_progress=False,
    ))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")


def module_of(kind: str, words: int, positions: int = 160) -> torch.nn.Module:
    """A tiny model of Hugging Face's with random weights that show."""
    torch.manual_seed(0)
    if kind == "t5":
        module = T5ForConditionalGeneration(T5Config(
            vocab_size=words, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
            decoder_start_token_id=0, attn_implementation="eager",
        ))
    else:
        module = GPT2LMHeadModel(GPT2Config(
            vocab_size=words, n_positions=positions, n_embd=16, n_layer=2, n_head=2,
            bos_token_id=0, eos_token_id=0, attn_implementation="eager",
        ))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            norm = "norm" in name or ".ln_" in name
            parameter.copy_(float(norm) + 0.3 * torch.randn(parameter.shape))
    return module.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Callable[[str], Path]:
    """``folder(kind)``: a local checkpoint with its tokenizer."""

    @cache
    def write(kind: str) -> Path:
        path = tmp_path_factory.mktemp(kind)
        tokenizer = pieces(kind)
        tokenizer.save_pretrained(path)
        module_of(kind, len(tokenizer)).save_pretrained(path)
        return path

    return write


def settings_of(kind: str, path: Path) -> Settings:
    arch = "encoder-decoder" if kind == "t5" else "decoder"
    return replace(TINY, model=str(path), arch=arch)


def loss_of_hugging_face(kind: str, path: Path, source: list[int], target: list[int]) -> float:
    """Mean negative log probability of a target and its end."""
    with torch.no_grad():
        if kind == "t5":
            module = T5ForConditionalGeneration.from_pretrained(path).eval()
            ids, labels = torch.tensor([[*source, 1]]), torch.tensor([[*target, 1]])
            return float(module(input_ids=ids, labels=labels).loss)
        module = GPT2LMHeadModel.from_pretrained(path).eval()
        ids = torch.tensor([[*source, *target, 0]])
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < len(source), -100)
        return float(module(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_local_checkpoint_scores_answers_as_hugging_face_does(folder, kind):
    path = folder(kind)
    settings = settings_of(kind, path)
    model = pretrained(settings)
    data = prepare(settings, 0, model)
    rows = data.target["train"].take(range(4))
    got = answer_log_probability(model, rows)
    for i in range(4):
        assert rows.words.decode(rows.targets[i]) == list(data.tasks.target["train"].target[i])
        source = list(rows.sources[i])
        if kind == "gpt2":
            source.append(rows.words.separator)
            assert model.tokenizer.decode([rows.words.separator]) == "\n"
        expected = -loss_of_hugging_face(kind, path, source, list(rows.targets[i]))
        assert got[i] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_word_has_the_same_pieces_first_as_later(folder, kind):
    settings = settings_of(kind, folder(kind))
    data = prepare(settings, 0, pretrained(settings))
    words = data.words
    first, later = words.encode(("HELP", "(")), words.encode(("(", "HELP"))
    assert sorted(first) == sorted(later)
    assert len(first) > 2  # it is made of pieces
    seen = SeenWords.of_targets(data.target["train"])
    for target in data.target["train"].targets[:40]:
        for i in range(len(target) + 1):
            wanted = words.end if i == len(target) else target[i]
            assert wanted in seen.allowed(target[:i])


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_what_a_model_lacks_is_said_before_any_work(folder, kind, tmp_path):
    settings = settings_of(kind, folder(kind))
    check(settings)
    check_inputs(settings)
    module_of(kind, 330).save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="need its tokenizer, with an end token"):
        check_inputs(replace(settings, model=str(tmp_path / "bare")))
    if kind == "gpt2":
        tokenizer = pieces(kind)
        tokenizer.save_pretrained(tmp_path / "short")
        module_of(kind, len(tokenizer), positions=40).save_pretrained(tmp_path / "short")
        with pytest.raises(InputError, match=r"reads 40 word pieces, and a pair of .* may have"):
            check_inputs(replace(settings, model=str(tmp_path / "short")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_whole_run_of_a_local_checkpoint(folder, kind, tmp_path):
    settings = settings_of(kind, folder(kind))
    report = run(settings, tmp_path / "run")
    assert report.exists()
    found = json.loads((tmp_path / "run" / "units" / "heads-0.json").read_text("utf-8"))["result"]
    sites = 12 if kind == "t5" else 4
    assert found["concentration_sites"] == sites
    tables = tmp_path / "run" / "tables"
    for name in ("heads-mean", "heads-patch-noising", "heads-masks", "closing-top"):
        assert (tables / f"{name}-set-1.csv").exists()
    data: SetData = prepare(settings, 0, pretrained(settings))
    answers = json.loads(
        (tmp_path / "run" / "units" / "target-auxiliary-full-0.json").read_text("utf-8")
    )["result"]
    assert len(answers["ood"]) == len(data.target["ood"])
    assert np.isfinite(answers["ood_log_probability"]).all()
