"""Path patching in an encoder-decoder, which TransformerLens does not split: by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.paths import head_edges, path_patch
from mechprobe.models import build_encoder_decoder
from mechprobe.tasks import seq2seq_batch
from mechprobe.tasks.answers import UNSCORED, find_metric
from mechprobe.tasks.behaviour import Behaviour

pytestmark = pytest.mark.usefixtures("one_thread")

ROOM = {"enc": "encoder.{}.attn", "dec": "decoder.{}.attn", "cross": "decoder.{}.cross_attn"}


@pytest.fixture(scope="module")
def model():
    model = build_encoder_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=10, d_vocab=11, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W") or leaf in ("weight", "w"):
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * draw + (leaf == "w"))
    return model


@pytest.fixture(scope="module")
def behaviour():
    rng = np.random.default_rng(0)
    lengths = [(5, 3), (4, 2), (6, 4)]

    def batch():
        rows = [[rng.integers(1, 11, n).tolist() for n in pair] for pair in lengths]
        return seq2seq_batch(*map(list, zip(*rows, strict=True)))

    inputs, corrupt = batch(), batch()
    answer = torch.full_like(inputs.decoder_tokens, UNSCORED)
    for row, (_, n) in enumerate(lengths):
        answer[row, n] = row + 3
    wrong = torch.where(answer == UNSCORED, UNSCORED, answer + 4)
    name, function = find_metric("logit_difference")
    return Behaviour("pairs", inputs, function, name, {"answer": answer, "wrong": wrong}, corrupt)


def place(text):
    """"cross 1.0 q" as the attention's hook prefix, its layer, head and input."""
    stack, head, *which = text.split()
    layer, index = map(int, head.split("."))
    return ROOM[stack].format(layer), layer, index, (which or [""])[0]


def by_hand(model, behaviour, sender, receiver):
    """metric(full) - metric(patched): the receiver's z is worked out from the residual stream."""
    def run(batch, hooks=()):
        seen = {}
        every = [(name, lambda value, hook: seen.__setitem__(hook.name, value))
                 for name in model.hook_dict if not name.endswith("_input")]  # fmt: skip
        logits = model.run_with_hooks(
            batch.tokens, decoder_input=batch.decoder_tokens,
            one_zero_attention_mask=batch.attention_mask.double(), fwd_hooks=[*hooks, *every],
        )  # fmt: skip
        return behaviour.measure(logits, behaviour.inputs), seen

    full, clean = run(behaviour.inputs)
    _, other = run(behaviour.corrupt)
    from_room, _, from_head, _ = place(sender)

    def hold(value, hook):
        value = clean[hook.name].clone()
        if hook.name == f"{from_room}.hook_z":
            value[:, :, from_head] = other[hook.name][:, :, from_head]
        return value

    held = [(f"{ROOM[s].format(i)}.hook_z", hold) for s in ROOM for i in range(2)]
    patched, seen = run(behaviour.inputs, held)
    if receiver == "logits":
        return full - patched
    room, layer, head, which = place(receiver)
    block = model.get_submodule(room.rsplit(".", 1)[0])
    if "cross" not in room:
        stream = block.ln1(seen[f"{room.rsplit('.', 1)[0]}.hook_resid_pre"])
    elif which == "q":
        stream = block.ln2(seen[f"decoder.{layer}.hook_resid_mid"])
    else:
        stream = model.encoder_final_ln(seen["encoder.1.hook_resid_post"])
    attention = model.get_submodule(room)
    old = {name: clean[f"{room}.hook_{name}"][:, :, head] for name in "qkv"}
    new = old | {which: stream @ getattr(attention, f"W_{which.upper()}")[head]}

    def products(parts):
        return parts["q"] @ parts["k"].transpose(1, 2) / attention.attn_scale

    bias = clean[f"{room}.hook_attn_scores"][:, head] - products(old)
    z = (products(new) + bias).softmax(-1) @ new["v"]

    def give(value, hook):
        value = value.clone()
        value[:, :, head] = z
        return value

    return full - run(behaviour.inputs, [(f"{room}.hook_z", give)])[0]


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [("enc 0.1", "enc 1.0 q"), ("enc 0.0", "enc 1.1 v"), ("enc 1.0", "cross 0.1 k"),
     ("enc 0.1", "cross 1.0 v"), ("dec 0.0", "cross 0.1 q"), ("dec 0.1", "cross 1.0 q"),
     ("dec 0.1", "dec 1.0 k"), ("cross 0.1", "dec 1.1 v"), ("cross 0.0", "cross 1.1 q"),
     ("dec 1.0", "logits"), ("cross 0.1", "logits")],
)  # fmt: skip
def test_a_path_is_what_arithmetic_makes_of_it(model, behaviour, sender, receiver):
    scores = path_patch(model, behaviour, [sender], [receiver])
    with torch.no_grad():
        expected = by_hand(model, behaviour, sender, receiver)
    np.testing.assert_allclose(scores.effects[0], expected.numpy(), atol=1e-8)
    assert np.abs(scores.effects).max() > 1e-5


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [("enc 0.0", "logits"), ("enc 0.0", "dec 1.0 q"), ("enc 0.0", "cross 1.0 q"),
     ("dec 0.0", "cross 1.0 k"), ("dec 0.0", "enc 1.0 v"), ("cross 0.0", "dec 0.1 q"),
     ("cross 0.0", "cross 0.1 q"), ("dec 1.0", "cross 0.0 q")],
)  # fmt: skip
def test_where_no_path_leads_is_refused(model, behaviour, sender, receiver):
    with pytest.raises(InputError, match="no direct path"):
        path_patch(model, behaviour, [sender], [receiver])


def test_the_graph_among_heads_of_all_stacks_has_its_paths_and_no_others(model, behaviour):
    found = head_edges(model, behaviour, ["enc 1.0", "dec 0.0", "cross 0.1", "dec 1.1"])
    assert {(edge.sender, edge.end) for edge in found.edges} == {
        ("enc 1.0", "cross 0.1 k"), ("enc 1.0", "cross 0.1 v"), ("dec 0.0", "cross 0.1 q"),
        *((s, f"dec 1.1 {w}") for s in ("dec 0.0", "cross 0.1") for w in "qkv"),
        *((s, "logits") for s in ("dec 0.0", "cross 0.1", "dec 1.1")),
    }  # fmt: skip


def test_a_whole_head_gets_only_the_inputs_that_the_path_enters(model, behaviour):
    whole = path_patch(model, behaviour, ["dec 0.0"], ["cross 0.1"])
    query = path_patch(model, behaviour, ["dec 0.0"], ["cross 0.1 q"])
    np.testing.assert_array_equal(whole.effects, query.effects)
