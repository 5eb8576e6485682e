"""Path patching against TransformerLens' own split inputs, arithmetic, and a known circuit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.locate.ablate import ablate
from mechprobe.locate.edges import Edge, EdgeScores
from mechprobe.locate.paths import head_edges, path_patch
from mechprobe.planted import load_case
from mechprobe.tasks.answers import find_metric
from mechprobe.tasks.behaviour import Behaviour

pytestmark = pytest.mark.usefixtures("one_thread")

ROTARY = {"positional_embedding_type": "rotary", "rotary_dim": 4}
DECODERS = [
    {}, {"normalization_type": None}, {"attn_only": True, "n_layers": 3},
    {"normalization_type": "RMS", **ROTARY}, {"parallel_attn_mlp": True, **ROTARY},
]  # fmt: skip


def by_hand(model, behaviour, edge, mlps, row):
    """metric(full) - metric(edge patched) of one example, with TransformerLens' split inputs."""
    length = int(behaviour.inputs.attention_mask[row].sum())
    pair = (behaviour.inputs, behaviour.corrupt)
    tokens, other = (batch.tokens[row : row + 1, :length] for batch in pair)
    layer, head = map(int, edge.sender.split("."))
    right, wrong = (int(behaviour.targets[name][row, length - 1]) for name in ("answer", "wrong"))
    full, clean = model.run_with_cache(tokens)
    _, corrupt = model.run_with_cache(other)
    name = f"blocks.{layer}.attn.hook_z"
    change = (corrupt[name] - clean[name])[:, :, head] @ model.blocks[layer].attn.W_O[head]

    def hold(value, hook):
        value = clean[hook.name].clone()
        if hook.name == name:
            value[:, :, head] = corrupt[name][:, :, head]
        return value

    def difference(logits):
        return float(logits[0, -1, right] - logits[0, -1, wrong])

    heads = [(f"blocks.{i}.attn.hook_z", hold) for i in range(model.cfg.n_layers)]
    to = None if edge.receiver == "logits" else int(edge.receiver.split(".")[0])
    end = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post" if to is None else (
        f"blocks.{to}.hook_resid_pre"
    )
    seen = {}
    if mlps == "freeze":
        seen[end] = clean[end] + change
    else:
        model.run_with_hooks(tokens, fwd_hooks=[
            *heads, (end, lambda value, hook: seen.__setitem__(hook.name, value.clone())),
        ])  # fmt: skip
    if to is None:
        patched = model.run_with_hooks(tokens, fwd_hooks=[(end, lambda value, hook: seen[end])])
        return difference(full) - difference(patched)

    def give(value, hook):
        value = value.clone()
        value[:, :, int(edge.receiver.split(".")[1])] = seen[end]
        return value

    inputs = [(f"blocks.{to}.hook_{letter}_input", give) for letter in edge.input]
    return difference(full) - difference(model.run_with_hooks(tokens, fwd_hooks=inputs))


@pytest.mark.parametrize("mlps", ["recompute", "freeze"])
@pytest.mark.parametrize("settings", DECODERS, ids=str)
def test_effects_are_those_of_split_inputs_one_example_at_a_time(
    small_decoder, prompts, settings, mlps
):
    model, behaviour = small_decoder(**settings), prompts(n=3)
    last = model.cfg.n_layers - 1
    ends = [f"{last}.0 q", f"{last}.1 k", f"{last}.0 v", f"{last}.1", "logits"]
    early = ["0.0", "0.1"]
    scores = path_patch(model, behaviour, early, ends, mlps=mlps)
    assert len(scores.edges) == 10
    with torch.no_grad():
        model.set_use_split_qkv_input(True)
        expected = [[by_hand(model, behaviour, e, mlps, i) for i in range(3)] for e in scores.edges]
    np.testing.assert_allclose(scores.effects, expected, atol=1e-9)
    assert (np.abs(expected).max(1) > 1e-4).all()


def test_mlps_that_are_recomputed_pass_the_change_on(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    kept, passed = (path_patch(model, behaviour, mlps=how) for how in ("freeze", "recompute"))
    assert np.abs(kept.effects - passed.effects).max() > 1e-2
    assert path_patch(model, behaviour).settings["mlps"] == "recompute"


def test_an_mlp_sends_too(small_decoder, prompts):
    """Of a last MLP the direct path to the logits is the whole effect of closing it."""
    model, behaviour = small_decoder(), prompts()
    last = path_patch(model, behaviour, ["mlp.1", "1.0"], "logits", "mean", mlps="recompute")
    closed = ablate(model, behaviour, ["mlp.1", "1.0"], "mean")
    np.testing.assert_allclose(last.effects, closed.effects, atol=1e-9)
    inner = path_patch(model, behaviour, ["mlp.0"], ["1.1 v"])
    assert np.abs(inner.effects).max() > 1e-3


def test_all_inputs_of_the_only_later_heads_and_the_direct_path_are_the_whole_effect(
    small_decoder, prompts
):
    """Where attention is all and unnormalised, one later head gets all that is not direct."""
    model = small_decoder(n_heads=1, attn_only=True, normalization_type=None)
    behaviour = prompts()
    scores = path_patch(model, behaviour, ["0.0"], ["1.0", "logits"])
    whole = ablate(model, behaviour, ["0.0"], "paired").effects[0]
    np.testing.assert_allclose(scores.effects.sum(0), whole, atol=1e-6)


def test_examples_chunks_and_order_of_edges_change_nothing(small_decoder, prompts, monkeypatch):
    model, behaviour = small_decoder(n_layers=3), prompts()
    whole = head_edges(model, behaviour, ["0.0", "0.1", "1.0", "2.1"])
    monkeypatch.setattr("mechprobe.locate.paths._TOKENS_AT_ONCE", 1)
    small = head_edges(model, behaviour, ["2.1", "1.0", "0.1", "0.0"], batch_size=4)
    assert set(small.edges) == set(whole.edges)
    order = [small.edges.index(edge) for edge in whole.edges]
    np.testing.assert_allclose(small.effects[order], whole.effects, atol=1e-10)


def test_heads_that_share_keys_and_values_are_patched_one_by_one(small_decoder, prompts):
    grouped = small_decoder(n_heads=4, n_key_value_heads=2, d_head=4, **ROTARY)
    apart = small_decoder(n_heads=4, d_head=4, **ROTARY)
    with torch.no_grad():
        for (name, own) in apart.named_parameters():
            *path, leaf = name.split(".")
            module = grouped.get_submodule(".".join(path))
            own.copy_(getattr(module, leaf))
    behaviour = prompts()
    ends = ["1.0 k", "1.1 k", "1.3 v", "1.2 q"]
    one, other = (path_patch(m, behaviour, ["0.1"], ends).effects for m in (grouped, apart))
    np.testing.assert_allclose(one, other, atol=1e-9)
    assert np.abs(one[0] - one[1]).max() > 1e-3
    assert grouped.cfg.ungroup_grouped_query_attention is False


def test_a_classifier_reads_its_normalised_stream(tiny_classifier, random_batch):
    """Against the split inputs of the same encoder, one edge at a time."""
    model = tiny_classifier(dtype=torch.float64)
    inputs, corrupt = (random_batch(6, 6, 6, seed=s) for s in (0, 1))
    name, function = find_metric("logit_difference")
    targets = {"answer": inputs.labels, "wrong": 1 - inputs.labels}
    behaviour = Behaviour("labels", inputs, function, name, targets, corrupt)
    ends = ["1.0 q", "1.1 k", "1.0 v", "1.1", "logits"]
    scores = path_patch(model, behaviour, ["0.1"], ends)

    model.cfg.use_split_qkv_input = True
    arguments = {
        "token_type_ids": inputs.segments, "one_zero_attention_mask": inputs.attention_mask
    }
    with torch.no_grad():
        full, clean = model.run_with_cache(inputs.tokens, **arguments)
        _, other = model.run_with_cache(
            corrupt.tokens, token_type_ids=corrupt.segments,
            one_zero_attention_mask=corrupt.attention_mask,
        )

        def hold(value, hook):
            value = clean[hook.name].clone()
            if hook.name.startswith("blocks.0"):
                value[:, :, 1] = other[hook.name][:, :, 1]
            return value

        seen = {}
        holding = [(f"blocks.{i}.attn.hook_z", hold) for i in range(2)]
        reading = ("blocks.0.hook_normalized_resid_post", lambda v, hook: seen.update(resid=v))
        logits = {"logits": model.run_with_hooks(
            inputs.tokens, fwd_hooks=[*holding, reading], **arguments
        )}  # fmt: skip
        for edge in scores.edges[:-1]:
            head = int(edge.receiver[-1])

            def give(value, hook, head=head):
                value = value.clone()
                value[:, :, head] = seen["resid"]
                return value

            logits[edge.end] = model.run_with_hooks(
                inputs.tokens, **arguments,
                fwd_hooks=[(f"blocks.1.hook_{letter}_input", give) for letter in edge.input],
            )
    for edge, effects in zip(scores.edges, scores.effects, strict=True):
        expected = function(full, targets) - function(logits[edge.end], targets)
        np.testing.assert_allclose(effects, expected.numpy(), atol=1e-9)
        assert np.abs(effects).max() > 1e-5


def test_the_known_path_of_the_induction_pair_is_found(data_dir):
    """The compiled pair: 0.0 finds the previous token, which 1.0 compares by its key."""
    case = load_case(data_dir / "planted" / "induction")
    assert case.drift() < 1e-3
    scores = head_edges(case.model, case.task, ["0.0", "1.0"], metric="logit_difference", n=64)
    effect = dict(zip(scores.edges, scores.effects.mean(1), strict=True))
    largest = scores.top(2)
    assert set(largest) == {Edge("0.0", "1.0", "k"), Edge("1.0", "logits")}
    assert set(scores.significant()) == set(largest)
    for letter in ("q", "v"):
        assert abs(effect[Edge("0.0", "1.0", letter)]) < 1e-3 * effect[Edge("0.0", "1.0", "k")]
    assert abs(effect[Edge("0.0", "logits")]) < 1e-3 * effect[Edge("1.0", "logits")]


def test_groups_of_senders_leave_out_those_without_a_path(small_decoder, prompts):
    model, behaviour = small_decoder(n_layers=3), prompts(n=4)
    scores = path_patch(model, behaviour, "all", ["1.* k", "2.0", "logits"])
    into = {end: [e.sender for e in scores.edges if e.end == end] for end in
            ("1.0 k", "1.1 k", "2.0 qkv", "logits")}  # fmt: skip
    assert into["1.0 k"] == into["1.1 k"] == ["0.0", "0.1", "mlp.0"]
    assert into["2.0 qkv"] == ["0.0", "0.1", "1.0", "1.1", "mlp.0", "mlp.1"]
    assert len(into["logits"]) == 9


@pytest.mark.parametrize(
    ("senders", "receivers", "why"),
    [(["1.0"], ["1.1 q"], "sender 1.0 has no direct path to 1.1 q"),
     (["0.0", "1.0"], ["1.1 k"], "sender 1.0 has no direct path"),
     (["1.1"], ["0.0"], "earlier layer"),
     ("heads", ["0.0 v"], "no direct path to 0.0 v"),
     ("heads", ["mlp.1"], "'mlp.1' is no head"),
     ("heads", ["1.7 q"], "nearest"),
     ("heads", ["1.0 x"], "not a site"),
     (["mlp.0.3"], ["1.0"], "neuron")],
)  # fmt: skip
def test_paths_that_are_none_are_refused(small_decoder, prompts, senders, receivers, why):
    with pytest.raises(InputError, match=why):
        path_patch(small_decoder(), prompts(), senders, receivers)


def test_other_bad_input_is_refused(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    with pytest.raises(InputError, match="mlps='keep'"):
        path_patch(model, behaviour, mlps="keep")
    with pytest.raises(InputError, match="no direct path joins"):
        head_edges(model, behaviour, ["0.0", "0.1"], logits=False)
    with pytest.raises(InputError, match="counterfactual"):
        path_patch(model, replace(behaviour, corrupt=None))


def test_edges_are_kept_drawn_and_tabled(small_decoder, prompts, tmp_path):
    model, behaviour = small_decoder(), prompts(n=30)
    scores = head_edges(model, behaviour, ["0.0", "0.1", "1.1"])
    table = scores.table()
    assert list(table.columns[:7]) == [
        "sender", "receiver", "input", "effect", "low", "high", "selection"
    ]
    assert [Edge(*row) for row in table[["sender", "receiver", "input"]].to_numpy()] == (
        scores.ranking
    )
    first = scores.edges.index(scores.ranking[0])
    assert table["effect"][0] == pytest.approx(scores.effects[first, scores.report].mean())
    assert table["selection"].is_monotonic_decreasing
    assert ((table["low"] <= table["effect"]) & (table["effect"] <= table["high"])).all()
    again = EdgeScores.load(scores.save(tmp_path))
    assert again.edges == scores.edges
    assert again.forwards == scores.forwards == 1 + 1 + 3 + 6
    assert again.grid == scores.grid
    np.testing.assert_array_equal(again.effects, scores.effects)
    words = {t.get_text() for axes in scores.plot().axes for t in axes.get_xticklabels()}
    assert {"1.1 q", "1.1 k", "1.1 v", "logits"} <= words


def test_edges_into_one_receiver_are_scores(small_decoder, prompts):
    scores = path_patch(small_decoder(), prompts(), "heads", ["1.0 v", "logits"])
    into = scores.into("1.0 v")
    assert into.sites == ("0.0", "0.1")
    np.testing.assert_array_equal(into.effects, scores.effects[:2])
    assert scores.into().head_values().shape == (2, 2)
    with pytest.raises(InputError, match=r"edges into 1\.0 v, logits"):
        scores.into("1.1 v")
