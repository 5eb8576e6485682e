"""Residual positions and attention patterns taken from another run, against hooks by hand."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, forward
from mechprobe.models.places import (
    Place,
    pattern_places,
    place_hook,
    read_places,
    residual_places,
    run_with_places,
)

pytestmark = pytest.mark.usefixtures("one_thread")
RESID = {"decoder": "hook_resid_post", "classifier": "hook_normalized_resid_post"}


@pytest.fixture(scope="module", params=["decoder", "classifier"])
def case(request, tiny_classifier, random_batch):
    if request.param == "decoder":
        model = build_decoder(
            n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, init_std=0.5,
            dtype=torch.float64,
        )
    else:
        model = tiny_classifier(dtype=torch.float64)
    lengths = (5, 3, 6)
    return request.param, model, random_batch(*lengths), random_batch(*lengths, seed=1)


@pytest.mark.parametrize("text", ["resid 3 @ 5", "resid 0 @ -1", "resid 1 @ all", "pattern 3.1",
                                  "dec resid 2 @ 0", "cross pattern 4.7"])  # fmt: skip
def test_names_are_read_as_they_are_written(text):
    assert str(Place.parse(text)) == text
    assert Place.parse(Place.parse(text)) == Place.parse(text)


def test_a_residual_place_without_position_is_all_of_them():
    assert Place.parse("resid 3") == Place("resid", 3)


@pytest.mark.parametrize("text", ["resid", "resid.3", "resid 3 @", "pattern 3", "attn 3.1", "3.1"])
def test_other_names_are_refused(text):
    with pytest.raises(InputError, match="is not a place; write 'resid 3 @ 5'"):
        Place.parse(text)


@torch.no_grad()
def test_each_run_takes_one_place_from_the_other_run(case):
    kind, model, batch, other = case
    names = [
        "resid 0 @ 1", "pattern 1.0", "resid 1 @ -1", "resid 0 @ all", "resid 1 @ 0", "pattern 0.1",
    ]  # fmt: skip
    places = [Place.parse(name) for name in names]
    logits, values = read_places(model, other, places)
    torch.testing.assert_close(logits, forward(model, other), rtol=0, atol=1e-12)
    patched = run_with_places(model, batch, places, values)
    lengths = batch.attention_mask.sum(1).tolist()
    for place, row in zip(places, patched, strict=True):
        end = RESID[kind] if place.kind == "resid" else "attn.hook_pattern"
        point = model.hook_dict[f"blocks.{place.layer}.{end}"]
        kept = {}
        handle = point.register_forward_hook(lambda m, i, o, kept=kept: kept.update(v=o.clone()))
        forward(model, other)
        handle.remove()

        def take(module, inputs, value, place=place, given=kept):
            value = value.clone()
            for i, length in enumerate(lengths):
                if place.kind == "pattern":
                    value[i, place.head] = given["v"][i, place.head]
                elif place.position is None:
                    value[i] = given["v"][i]
                else:
                    at = place.position % length if place.position < 0 else place.position
                    value[i, at] = given["v"][i, at]
            return value

        handle = point.register_forward_hook(take)
        expected = forward(model, batch)
        handle.remove()
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12)
        unread = kind == "classifier" and str(place) == "resid 1 @ -1"  # it reads the first token
        assert ((row - forward(model, batch)).abs().max() > 1e-6) != unread
    assert not any(point._forward_hooks for point in model.hook_dict.values())


@torch.no_grad()
def test_everything_a_later_block_reads_is_the_whole_counterfactual(case):
    _, model, batch, other = case
    place = [Place.parse("resid 1 @ all")]
    _, values = read_places(model, other, place)
    (patched,) = run_with_places(model, batch, place, values)
    torch.testing.assert_close(patched, forward(model, other), rtol=0, atol=1e-12)


def test_every_place_of_a_model(case):
    _, model, *_ = case
    assert list(map(str, pattern_places(model))) == [
        "pattern 0.0", "pattern 0.1", "pattern 1.0", "pattern 1.1",
    ]  # fmt: skip
    assert list(map(str, residual_places(model, {"": 2}))) == [
        "resid 0 @ 0", "resid 0 @ 1", "resid 1 @ 0", "resid 1 @ 1",
    ]  # fmt: skip


def test_places_that_do_not_exist_are_refused(case):
    _, model, batch, other = case
    for name, message in (
        ("resid 2 @ 0", "no 'resid 2 @ 0' in this model: no site"),
        ("pattern 1.2", r"no 'pattern 1\.2' in this model: no site '1\.2' here .* nearest: 1\.\d"),
        ("cross resid 0 @ 0", "cross-attention writes to the stream 'dec resid'"),
        ("dec resid 0 @ 0", "no 'dec resid 0 @ 0' in this model"),
    ):
        with pytest.raises(InputError, match=message):
            place_hook(model, Place.parse(name))
    for name, row, length in (("resid 0 @ 3", 1, 3), ("resid 0 @ 5", 0, 5), ("resid 0 @ -4", 1, 3)):
        place = [Place.parse(name)]
        _, values = read_places(model, other, place)
        with pytest.raises(InputError, match=f"example {row} has {length} tokens, so no '{name}'"):
            run_with_places(model, batch, place, values)


def test_values_of_another_shape_are_refused(case, random_batch):
    _, model, batch, _ = case
    place = [Place.parse("resid 0 @ all")]
    _, values = read_places(model, random_batch(5, 3), place)
    with pytest.raises(InputError, match=r"have shape .* give pairs of equal length"):
        run_with_places(model, batch, place, values)
