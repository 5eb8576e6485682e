"""Settings that cannot work are refused before any long work, in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mechprobe.errors import InputError
from mechprobe.models.decoder_classifier import build_decoder_classifier
from mechprobe.models.save import save_model
from mechprobe.studies.heuristic_core.check import check, option
from mechprobe.studies.heuristic_core.data import open_task, prepare
from mechprobe.studies.heuristic_core.models import check_encoder
from mechprobe.studies.heuristic_core.settings import PRESETS
from mechprobe.tasks.batches import word_tokenizer


@pytest.mark.parametrize("name", ["tiny", "laptop"])
def test_presets_that_need_nothing_pass(name):
    check(PRESETS[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair": "cola"}, "unknown pair 'cola'; one of overlap, mnli-hans, qqp-paws"),
        ({"n_models": 0}, "--n-models is 0; give 1 or more"),
        ({"n_train": 1}, "--n-train is 1; a mask needs 2 examples"),
        ({"n_dev": 1}, "--n-dev is 1; a batch to score needs 2"),
        ({"n_ood": 1}, "--n-ood is 1; a sub-case needs 2 examples"),
        ({"max_length": 4}, "--max-length is 4; a pair of words with its 3 special tokens"),
        ({"train_batch": -3}, "--train-batch is -3; give 1 or more"),
        ({"n_random_sets": 0}, "--n-random-sets is 0; give 1 or more"),
        ({"n_masks": 1}, "--n-masks is 1; a spread needs 2 subnetworks or more"),
        ({"mask_batch": 1}, "--mask-batch is 1; a mask step needs 2 examples"),
        ({"mask_examples": 1}, "--mask-examples is 1; a mask needs 2 examples"),
        ({"mask_steps": -1}, "--mask-steps is -1; give 0 or more"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"threads": -2}, "--threads is -2; give 0 or more"),
        ({"train_lr": 0.0}, r"--train-lr is 0\.0; give more than 0"),
        ({"mask_lr": float("nan")}, "--mask-lr is nan; give more than 0"),
        ({"hans_train_share": 1.5}, r"--hans-train-share is 1\.5; give a share"),
        ({"train_warmup": -0.1}, r"--train-warmup is -0\.1; give a share"),
        ({"overlap_predicts": 2.0}, r"--overlap-predicts is 2\.0; give a share"),
        ({"sparsities": ()}, r"give at least one, such as --sparsities 0\.5"),
        ({"sparsities": (0.5, 1.0)}, r"sparsity 1\.0 is outside \(0, 1\)"),
        ({"sparsities": (0.5, 0.5)}, r"--sparsities names a sparsity twice: \(0\.5, 0\.5\)"),
        ({"checkpoint_sparsities": (0.0,)}, r"sparsity 0\.0 is outside"),
        ({"checkpoint_sparsities": (0.3, 0.3)}, "--checkpoint-sparsities names a sparsity twice"),
        ({"n_masks_checkpoint": 0}, "--n-masks-checkpoint is 0; give 1 or more, or no"),
        ({"checkpoints": (0.0,)}, r"checkpoint 0\.0 is not a share of training"),
        ({"checkpoints": (1.1,)}, r"checkpoint 1\.1 is not a share"),
        ({"rule": "l0"}, "unknown rule 'l0'"),
        ({"baseline": "median"}, "baseline 'median' cannot be used here; one of zero, mean"),
        ({"baseline": "paired"}, "baseline 'paired' cannot be used here"),
        ({"precision": "float16"}, "precision 'float16'; expected float32 or bfloat16"),
        ({"d_model": 30}, "d_model 30 is not a multiple of n_heads 4"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"data_dir": "/nowhere/at/all"}, "no data folder /nowhere/at/all"),
        ({"encoder": "/nowhere/at/all"}, "no model in /nowhere/at/all"),
    ],
)
def test_a_setting_that_cannot_work_is_named(change, message):
    with pytest.raises(InputError, match=message) as caught:
        check(replace(PRESETS["tiny"], **change))
    assert "\n" not in str(caught.value)


def test_no_checkpoint_masks_are_fine_without_checkpoint_sparsities():
    check(replace(PRESETS["tiny"], n_masks_checkpoint=0, checkpoint_sparsities=()))


def test_options_are_written_as_on_the_command_line():
    assert option("hans_train_share") == "--hans-train-share"


def test_an_encoder_folder_needs_a_config(tmp_path):
    settings = replace(PRESETS["tiny"], encoder=str(tmp_path))
    with pytest.raises(InputError, match="no model in"):
        check(settings)
    (tmp_path / "config.json").write_text("{}")
    check(settings)


def test_the_scored_sub_cases_must_be_in_the_data():
    settings = replace(
        PRESETS["tiny"], n_train=20, n_dev=10, n_ood=2, ood_groups=("not_swap", "ent_passive")
    )
    with pytest.raises(InputError, match="needs sub-case 'not_preposition', which the data lack"):
        prepare(settings, open_task(settings), None)


@pytest.mark.parametrize(
    ("split", "message"),
    [("train", "split 'train' of nli/overlap has 1 examples"),
     ("dev", "split 'dev' of nli/overlap has 1 examples"),
     ("ood", "sub-case 'not_swap' has 1 example, but one half is for selecting")],
)  # fmt: skip
def test_data_too_small_to_select_and_report_are_refused(split, message):
    settings = replace(PRESETS["tiny"], n_train=20, n_dev=10, n_ood=2)
    task = open_task(settings)
    part = task.split(split)
    kept = [0] if split != "ood" else [
        i for i, group in enumerate(part.group) if group != "not_swap" or "not_swap" not in
        part.group[:i]
    ]
    smaller = replace(task, splits={**task.splits, split: part.take(kept)})
    with pytest.raises(InputError, match=message):
        prepare(settings, smaller, None)


def test_a_tokenizer_that_does_not_part_the_sentences_is_refused(tmp_path):
    settings = replace(PRESETS["tiny"], n_train=20, n_dev=10, n_ood=2)
    task = open_task(settings)
    tokenizer = word_tokenizer(task.split("train").first)
    model = build_decoder_classifier(
        task.labels, tokenizer, n_layers=1, n_heads=2, d_model=8, n_ctx=64
    )
    settings = replace(settings, encoder=str(save_model(model, tmp_path / "parted")))
    assert check_encoder(settings, task.labels) is not None
    tokenizer.sep_token = None
    settings = replace(settings, encoder=str(save_model(model, tmp_path / "run-on")))
    with pytest.raises(InputError, match=r"run-on names no .CLS. and .SEP., so"):
        check_encoder(settings, task.labels)
