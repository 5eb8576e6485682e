"""Activation patching in both directions against hooks by hand; shares of the gap; bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.figures import save_figure
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.patch import patch
from mechprobe.models import forward
from mechprobe.tasks import Behaviour, PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
MIXED = ["1.2", "resid 0 @ 3", "mlp.1", "pattern 0.1", "resid 1 @ -1", "resid 0 @ all", "0.0"]
DIRECTIONS = ["noising", "denoising"]


@pytest.fixture(scope="module", params=["decoder", "classifier"])
def case(request, tiny_decoder, token_pairs, tiny_classifier, label_behaviour):
    """A model, its behaviour, the end of its residual hooks, and places that all examples have."""
    if request.param == "decoder":
        return tiny_decoder, behaviour_of(tiny_decoder, token_pairs), "hook_resid_post", MIXED
    # it has two heads, examples of three tokens, and reads the first token at the end
    instead = {"1.2": "1.1", "resid 0 @ 3": "resid 0 @ 2", "resid 1 @ -1": "resid 0 @ -1"}
    named = [instead.get(name, name) for name in MIXED]
    return (
        tiny_classifier(dtype=torch.float64), label_behaviour, "hook_normalized_resid_post", named
    )


@torch.no_grad()
def by_hand(model, behaviour, name, end, direction, hand):
    """The metric of a run of one side with one place from the other side."""
    start, giver = behaviour.inputs, behaviour.corrupt
    if direction == "denoising":
        start, giver = giver, start
    word, *rest = name.split()
    if word == "resid":
        hook = f"blocks.{rest[0]}.{end}"
    elif word == "pattern":
        hook = f"blocks.{rest[0].split('.')[0]}.attn.hook_pattern"
    elif word.startswith("mlp"):
        hook = f"blocks.{word.split('.')[1]}.hook_mlp_out"
    else:
        hook = f"blocks.{word.split('.')[0]}.attn.hook_z"
    given = hand.activations(model, giver, [hook])[hook]
    lengths = start.attention_mask.sum(1)

    def take(value):
        value = value.clone()
        for i in range(len(value)):
            if word == "resid" and rest[2] != "all":
                at = int(rest[2]) if int(rest[2]) >= 0 else int(lengths[i]) + int(rest[2])
                value[i, at] = given[i, at]
            elif word == "pattern":
                head = int(rest[0].split(".")[1])
                value[i, head] = given[i, head]
            elif word == "resid" or word.startswith("mlp"):
                value[i] = given[i]
            else:
                head = int(word.split(".")[1])
                value[i, :, head] = given[i, :, head]
        return value

    with hand.by_hand(model, {hook: take}):
        return behaviour.measure(forward(model, start), behaviour.inputs).numpy()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("batch_size", [64, 4])
def test_effects_are_those_of_hooks_by_hand(case, direction, batch_size, hand):
    model, behaviour, end, names = case
    scores = patch(model, behaviour, names, direction, batch_size=batch_size, **QUIET)
    with torch.no_grad():
        clean = behaviour.measure(forward(model, behaviour.inputs), behaviour.inputs).numpy()
        corrupt = behaviour.measure(forward(model, behaviour.corrupt), behaviour.inputs).numpy()
    assert scores.sites == tuple(names)
    for name, effects in zip(names, scores.effects, strict=True):
        patched = by_hand(model, behaviour, name, end, direction, hand)
        expected = clean - patched if direction == "noising" else patched - corrupt
        np.testing.assert_allclose(effects, expected, rtol=0, atol=1e-9)
    assert np.abs(scores.effects).mean(1).min() > 1e-4
    assert scores.settings["clean"] == pytest.approx(clean.mean())
    assert scores.settings["corrupt"] == pytest.approx(corrupt.mean())
    assert (scores.method, scores.baseline) == (f"patch, {direction}", "paired")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("sites", "n", "caches"), [
    ("heads", 6, 1), ("mlps", 2, 1), ("residual", 12, 1), ("patterns", 6, 1),
    (["0.1", "pattern 0.1", "resid 1 @ 2"], 3, 2),
])  # fmt: skip
def test_forwards_are_the_passes_the_model_made(
    tiny_decoder, token_pairs, direction, sites, n, caches, count_passes
):
    scores, passes = count_passes(
        tiny_decoder, 10, lambda: patch(tiny_decoder, token_pairs, sites, direction, **QUIET)
    )
    assert len(scores.sites) == n
    assert scores.forwards == passes - 1 == n + caches + 2  # 1: the check of the metric


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_patching_everything_is_the_other_run(tiny_decoder, token_pairs, direction):
    """Taking all that the last block leaves goes all the way: the whole gap, a share of 1."""
    def spread(logits, targets):
        return targets["answer"].clamp(min=0).sum(1) + logits[:, -1].square().sum(-1)

    found = patch(tiny_decoder, token_pairs, ["resid 1 @ all"], direction, metric=spread, **QUIET)
    gap = found.settings["clean"] - found.settings["corrupt"]
    assert abs(gap) > 1e-3
    assert found.effects.mean() == pytest.approx(gap)


def widened(task, model):
    """The task with a metric that is higher on clean inputs than on corrupt ones, on each."""
    with torch.no_grad():
        sides = [model(torch.tensor(tokens))[:, -1] for tokens in (task.clean, task.corrupt)]
    direction = torch.nn.functional.normalize(sides[0] - sides[1], dim=-1)

    def along(logits, targets):
        return (logits[:, -1] * targets["way"]).sum(-1)

    found = behaviour_of(model, task)
    return Behaviour("mine", found.inputs, along, "along", {"way": direction}, found.corrupt)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shares_of_the_gap(tiny_decoder, token_pairs, direction):
    behaviour = widened(token_pairs, tiny_decoder)
    names = ["resid 1 @ all", "0.1", "resid 1 @ -1", "resid 1 @ 0"]
    plain = patch(tiny_decoder, behaviour, names, direction, **QUIET)
    share = patch(tiny_decoder, behaviour, names, direction, normalise=True, **QUIET)
    gap = plain.settings["clean"] - plain.settings["corrupt"]
    np.testing.assert_allclose(share.effects, plain.effects / gap, rtol=0, atol=1e-9)
    assert share.effects[0].mean() == pytest.approx(1)
    assert share.effects[2].mean() == pytest.approx(1)  # only the last token is scored
    assert (share.effects[3] == 0).all()
    assert share.metric == "along (share of clean - corrupt)"


def test_a_gap_too_small_to_divide_by_is_refused(tiny_decoder, token_pairs):
    same = token_pairs.clean.copy()
    same[0, 2] = (same[0, 2] + 1) % 20
    with pytest.warns(UserWarning, match="9 of 10 clean prompts equal their counterfactual"):
        task = behaviour_of(tiny_decoder, PromptTask(token_pairs.clean, same,
                                                     answers=token_pairs.answers))
    with pytest.raises(InputError, match="too close to divide by; leave normalise out"):
        patch(tiny_decoder, task, ["0.0"], normalise=True, **QUIET)
    backwards = widened(token_pairs, tiny_decoder).swapped()
    with pytest.raises(InputError, match="too close to divide by"):
        patch(tiny_decoder, backwards, ["0.0"], normalise=True, **QUIET)


def test_bad_input_is_refused(tiny_decoder, token_pairs, tiny_classifier, label_behaviour):
    for settings, message in (
        ({"direction": "both"}, "direction='both'; give 'noising' or 'denoising'"),
        ({"sites": "streams"}, "sites='streams'; give 'heads', 'mlps', 'all', 'residual'"),
        ({"sites": ["1.3"]}, r"no site '1\.3' here .* nearest: 1\."),
        ({"sites": ["pattern 1.3"]}, r"no 'pattern 1\.3' in this model: .* nearest: 1\."),
        ({"sites": ["resid 4 @ 0"]}, "no 'resid 4 @ 0' in this model"),
        ({"sites": ["resid 0 @ 6"]}, "example 0 has 6 tokens, so no 'resid 0 @ 6'"),
        ({"sites": ["resid 0 @ x"]}, "is not a place; write"),
        ({"sites": ["resid 0", "resid 0 @ all"]}, "'resid 0 @ all' is named twice"),
        ({"sites": ["0.0", "0.*"]}, r"'0\.0' is named twice"),
        ({"sites": []}, "no places were named"),
    ):
        with pytest.raises(InputError, match=message):
            patch(tiny_decoder, token_pairs, **settings, **QUIET)
    with pytest.raises(InputError, match="examples of 3 to 9 tokens, so positions mean different"):
        patch(tiny_classifier(dtype=torch.float64), label_behaviour, "residual", **QUIET)
    alone = PromptTask(token_pairs.clean, answers=token_pairs.answers)
    with pytest.raises(InputError, match="prompts has no counterfactual inputs, which patching"):
        patch(tiny_decoder, alone, **QUIET)


def test_a_metric_that_breaks_at_a_place_names_the_example(tiny_decoder, token_pairs):
    behaviour = behaviour_of(tiny_decoder, token_pairs)
    with torch.no_grad():
        values = [behaviour.measure(forward(tiny_decoder, side), behaviour.inputs)
                  for side in (behaviour.inputs, behaviour.swapped().inputs)]  # fmt: skip

    def brittle(logits, targets):
        own = behaviour.metric(logits, targets)
        near = ((own - targets["a"]).abs() < 1e-9) | ((own - targets["b"]).abs() < 1e-9)
        return torch.where(near | (targets["row"] != 4), own, torch.nan)

    targets = {**behaviour.targets, "a": values[0], "b": values[1], "row": torch.arange(10)}
    task = Behaviour("mine", behaviour.inputs, brittle, "brittle", targets, behaviour.corrupt)
    for sites in (["0.1"], ["resid 0 @ 5"]):
        with pytest.raises(InputError, match="'brittle' is NaN on example 4"):
            patch(tiny_decoder, task, sites, **QUIET)


@pytest.mark.parametrize("sites", ["residual", "patterns", "heads"])
def test_scores_are_drawn_and_kept(tiny_decoder, token_pairs, sites, tmp_path):
    scores = patch(tiny_decoder, token_pairs, sites, **QUIET)
    figure = scores.plot()
    if sites == "residual":
        assert figure.axes[0].get_xlabel() == "position"
    assert save_figure(figure, tmp_path / "patch")[1].stat().st_size > 3000
    again = type(scores).load(scores.save(tmp_path))
    assert again.sites == scores.sites
    assert again.table().equals(scores.table())
