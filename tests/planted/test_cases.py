"""The compiled cases open, and give what their authors recorded."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import forward, site_grid
from mechprobe.models.weights import decoder_from_weights, decoder_weights
from mechprobe.planted import load_case
from mechprobe.sites import Site


def test_a_case_gives_its_recorded_logits_and_accuracy(folder, named_case):
    name, which = named_case
    case = load_case(folder / name, which)
    assert (case.name, case.set) == (name, which)
    assert case.drift() < 3e-4
    truth = json.loads((folder / name / "truth.json").read_text())["sets"][which]
    batch = case.task.inputs
    logits = forward(case.model, batch)
    values = case.task.measure(logits, batch)
    assert float(values.mean()) == truth["accuracy"]
    with np.load(folder / name / "io.npz") as data:
        labels = data[f"{which}_label"].reshape(len(batch), -1)
        assert (batch.tokens.numpy() == data[f"{which}_clean"]).all()
        assert (case.task.counterfactual(batch).tokens.numpy() == data[f"{which}_corrupt"]).all()
    scored = case.task.targets["answer"] != -100
    assert (case.task.targets["answer"][scored].numpy() == labels.ravel()).all()
    assert scored[:, -1].all()
    assert not scored[:, 0].any()


def test_the_truth_names_heads_of_the_model(folder, named_case):
    name, which = named_case
    case = load_case(folder / name, which)
    heads = {site for site in site_grid(case.model) if site.kind == "head"}
    assert case.minimal
    assert all(circuit and circuit <= heads for circuit in case.minimal)
    if name == "or_gate":
        assert case.minimal == {frozenset({Site("head", 0, 0)}), frozenset({Site("head", 0, 1)})}


def test_weights_survive_the_way_to_arrays_and_back(folder):
    case = load_case(folder / "two_task")
    again = decoder_from_weights(*decoder_weights(case.model))
    batch = case.task.inputs
    assert torch.equal(forward(again, batch), forward(case.model, batch))


def test_an_unknown_set_and_a_damaged_folder_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="no data set 'odd'; it has main, ood"):
        load_case(folder / "heuristic_core", "odd")
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        load_case(tmp_path)
    shutil.copytree(folder / "decoy", tmp_path / "decoy")
    for file in (tmp_path / "decoy").iterdir():
        file.chmod(0o644)
    (tmp_path / "decoy" / "weights.npz").write_bytes(b"not a zip file")
    with pytest.raises(InputError, match=r"weights.npz cannot be read"):
        load_case(tmp_path / "decoy")


def test_weights_that_do_not_belong_to_the_data_are_refused(folder, tmp_path):
    shutil.copytree(folder / "or_gate", tmp_path / "case")
    (tmp_path / "case" / "weights.npz").chmod(0o644)
    with np.load(folder / "or_gate" / "weights.npz") as file:
        arrays = dict(file)
    arrays["unembed.W_U"] = arrays["unembed.W_U"][:, ::-1]
    np.savez(tmp_path / "case" / "weights.npz", **arrays)
    with pytest.raises(InputError, match="do not belong together"):
        load_case(tmp_path / "case")


def small_arrays():
    config = {
        "n_layers": 1, "n_heads": 2, "d_model": 4, "d_head": 2, "n_ctx": 3, "d_vocab": 5,
        "d_mlp": 3, "act_fn": "relu",
    }  # fmt: skip
    model = decoder_weights(decoder_from_weights(config, _zeros(config)))
    return config, model[1]


def _zeros(config):
    d, v = config["d_model"], config["d_vocab"]
    head, mlp = (2, d, 2), config["d_mlp"]
    shapes = {
        "embed.W_E": (v, d), "pos_embed.W_pos": (3, d), "unembed.W_U": (d, v),
        "blocks.0.attn.W_Q": head, "blocks.0.attn.W_K": head, "blocks.0.attn.W_V": head,
        "blocks.0.attn.W_O": (2, 2, d), "blocks.0.mlp.W_in": (d, mlp),
        "blocks.0.mlp.W_out": (mlp, d),
    }  # fmt: skip
    config["normalization_type"] = None
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_bad_arrays_are_refused_one_by_one():
    config, arrays = small_arrays()
    assert not decoder_from_weights(config, arrays)(tensor([[1, 2]])).any()
    for change, message in [
        ({"embed.W_X": np.zeros(2)}, "no weight 'embed.W_X'; nearest: .*embed.W_E"),
        ({"embed.W_E": np.zeros((4, 4))}, r"shape \[4, 4\]; this config needs \[5, 4\]"),
        ({"unembed.W_U": np.full((4, 5), np.nan)}, "'unembed.W_U' holds NaN"),
    ]:
        with pytest.raises(InputError, match=message):
            decoder_from_weights(config, arrays | change)
    del arrays["blocks.0.attn.W_O"]
    with pytest.raises(InputError, match=r"'blocks.0.attn.W_O' is missing.*\[2, 2, 4\]"):
        decoder_from_weights(config, arrays)
