"""One table: what every localiser says to input that cannot work, in one line with a way out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.errors import InputError
from mechprobe.locate.learn import learn_masks
from mechprobe.models import build_decoder
from mechprobe.tasks import PromptTask
from mechprobe.tasks.answers import find_metric
from mechprobe.tasks.behaviour import Behaviour

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
Call = Callable[..., Any]

# how each localiser is called on sites a user names
BY_SITES: dict[str, Call] = {
    "ablate": lambda m, t, sites, **k: mp.ablate(m, t, sites, **QUIET, **k),
    "leave one in": lambda m, t, sites, **k: mp.ablate(
        m, t, sites, how="leave_one_in", **QUIET, **k
    ),
    "cumulative": lambda m, t, sites, **k: mp.cumulative(m, t, sites=sites, **QUIET, **k),
    "noising": lambda m, t, sites, **k: mp.patch(m, t, sites, **QUIET, **k),
    "denoising": lambda m, t, sites, **k: mp.patch(m, t, sites, "denoising", **QUIET, **k),
    "first order": lambda m, t, sites, **k: mp.attribute(m, t, sites, **QUIET, **k),
    "integrated": lambda m, t, sites, **k: mp.attribute(
        m, t, sites, method="integrated", steps=2, **QUIET, **k
    ),
    "baselines": lambda m, t, sites, **k: mp.compare_baselines(m, t, sites, **QUIET, **k),
    "random sets": lambda m, t, sites, **k: mp.random_set_p(m, t, sites, **QUIET, **k),
    "circuits": lambda m, t, sites, **k: mp.find_circuits(m, t, sites=sites, **k),
    "faithfulness": lambda m, t, sites, **k: mp.faithfulness(
        m, t, sites, sites=sites, **QUIET, **k
    ),
    "senders": lambda m, t, sites, **k: mp.path_patch(m, t, sites, **QUIET, **k),
    "edges": lambda m, t, sites, **k: mp.head_edges(m, t, sites, **QUIET, **k),
    "ranks": lambda m, t, sites, **k: mp.rank_agreement(
        m, t, ("ablate", "noising"), sites=sites, **k
    ),
}
NO_METRIC = {
    "direct": lambda m, t, sites, **k: mp.direct_logit_attribution(m, t, sites),
    "head mask": lambda m, t, sites, **k: mp.head_mask(m, sites),
    "to_hf": lambda m, t, sites, **k: mp.to_hf(m, sites),
}
ALL_HEADS = ["0.0", "0.1", "1.0", "1.1"]


@pytest.fixture(scope="module")
def model():
    return build_decoder(
        n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=8, d_vocab=12, dtype=torch.float64
    )


def tokens(seed: int, n: int = 12, length: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 12, (n, length))


def task(**settings: Any) -> PromptTask:
    given = {"corrupt": tokens(1), "answers": np.full(12, 3), "wrong": np.full(12, 4)}
    return PromptTask(tokens(0), **(given | settings))


def unpaired(**size: int) -> Behaviour:
    """A behaviour whose counterfactuals are of another size."""
    others = PromptTask(tokens(1, **size), metric="kl").encode().inputs
    return replace(task().encode(), corrupt=others)


def refusal(call: Call, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **settings)
    said = str(caught.value)
    assert "\n" not in said
    assert ";" in said or ":" in said  # what was wrong, and a way out
    return said


@pytest.mark.parametrize("name", [*BY_SITES, *NO_METRIC])
@pytest.mark.parametrize("site", ["2.0", "0.5"])
def test_sites_that_do_not_exist_name_the_nearest(name, site, model):
    said = refusal((BY_SITES | NO_METRIC)[name], model, task(), ["1.0", site])
    assert f"'{site}'" in said
    assert "nearest: " in said
    near = said.split("nearest: ")[1]
    assert "1." in near if site == "2.0" else "0." in near


@pytest.mark.parametrize("name", BY_SITES)
def test_pairs_of_different_length_are_refused_with_both_lengths(name, model):
    with pytest.raises(InputError, match=r"example 0 has 5 tokens, its counterfactual 6 \(12"):
        task(corrupt=tokens(1, length=6))
    said = refusal(lambda: BY_SITES[name](model, unpaired(length=6), ALL_HEADS))
    assert "example 0 has 5 tokens, its counterfactual 6 (12 such)" in said


@pytest.mark.parametrize("name", BY_SITES)
def test_another_number_of_counterfactuals_is_refused(name, model):
    with pytest.raises(InputError, match="12 examples, 11 counterfactuals; give one each"):
        task(corrupt=tokens(1, n=11))
    said = refusal(lambda: BY_SITES[name](model, unpaired(n=11), ALL_HEADS))
    assert "12 examples, 11 counterfactuals; give one each" in said


def blind(logits: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(logits)).double()


def broken(logits: torch.Tensor, targets: Any) -> torch.Tensor:
    out = logits[:, -1, 3].clone()
    return torch.where(targets["row"][:, 0] == 7, torch.nan * out, out)


def numbered(metric: Any = "logit_difference") -> Behaviour:
    """The task with each example's number as a target."""
    name, function = find_metric(metric)
    made = task().encode()
    targets = {**made.targets, "row": torch.arange(12)[:, None]}
    return Behaviour("numbered", made.inputs, function, name, targets, made.corrupt)


@pytest.mark.parametrize("name", BY_SITES)
def test_a_metric_that_does_not_depend_on_the_model_is_refused(name, model):
    said = refusal(BY_SITES[name], model, task(), ALL_HEADS, metric=blind)
    assert "metric 'blind' does not depend on the model" in said


@pytest.mark.parametrize("name", BY_SITES)
def test_a_metric_that_is_nan_names_the_example(name, model):
    said = refusal(BY_SITES[name], model, numbered(), ALL_HEADS, metric=broken)
    assert "metric 'broken' is NaN on example 7" in said


def test_masks_refuse_the_same(model):
    assert "does not depend on the model" in refusal(learn_masks, model, task(), metric=blind)
    assert "is NaN on example 7" in refusal(learn_masks, model, numbered(), metric=broken)
    said = refusal(lambda: learn_masks(model, unpaired(length=6)))
    assert "its counterfactual 6" in said
    assert "sites" in refusal(learn_masks, model, task(), "2.0")


@pytest.mark.parametrize("kind", ["prompts", "behaviour"])
@pytest.mark.parametrize("name", ["noising", "first order", "random sets", "senders"])
def test_clean_equal_to_corrupt_is_warned_of(name, kind, model):
    corrupt = tokens(1)
    corrupt[[2, 5]] = tokens(0)[[2, 5]]
    given: Any = task(corrupt=corrupt)
    if kind == "behaviour":
        with pytest.warns(UserWarning, match="equal their counterfactual"):
            given = given.encode()
    with pytest.warns(UserWarning, match=r"2 of 12 clean \w+ equal their counterfactual .first: 2"):
        BY_SITES[name](model, given, ["0.0", "1.1"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BY_SITES[name](model, task(), ["0.0", "1.1"])


def test_an_encoder_decoder_with_other_targets_is_not_warned_of():
    model = mp.build_encoder_decoder(n_layers=1, n_heads=1, d_model=4, d_mlp=4, d_vocab=9)
    source, one, other = [[1, 2, 3]] * 2, [[4, 5], [5, 6]], [[6, 5], [5, 6]]
    clean, corrupt = mp.seq2seq_batch(source, one), mp.seq2seq_batch(source, other)
    answer = torch.full_like(clean.decoder_tokens, -100)
    answer[:, -1] = 3
    name, metric = find_metric("log_probability")
    behaviour = Behaviour("pairs", clean, metric, name, {"answer": answer}, corrupt)
    with pytest.warns(UserWarning, match=r"pairs: 1 of 2 clean inputs equal .*first: 1"):
        mp.patch(model, behaviour, ["cross 0.0"], **QUIET)


def test_targets_of_one_number_an_example_are_no_answers(model):
    """A metric's own target [n] is not taken for token ids."""
    made = task().encode()
    targets = {"weight": torch.linspace(1, 2, 12, dtype=torch.float64)}
    behaviour = Behaviour(
        "weighted", made.inputs, lambda logits, t: logits[:, -1, 3] * t["weight"], "weighted",
        targets, made.corrupt,
    )
    assert np.isfinite(mp.ablate(model, behaviour, **QUIET).effects).all()
    said = refusal(mp.ablate, model, behaviour, metric="accuracy")
    assert "metric 'accuracy' needs answers, which this behaviour does not name" in said
    assert "metric 'kl' compares at the positions of answers" in refusal(
        mp.ablate, model, behaviour, metric="kl"
    )


@pytest.mark.parametrize("what", ["answers", "wrong"])
@pytest.mark.parametrize("ids", [np.full(12, 151), np.r_[np.full(11, 3), -7]])
def test_answers_that_the_model_does_not_know_are_refused(what, ids, model):
    row, token = (0, 151) if ids[0] == 151 else (11, -7)
    said = refusal(mp.ablate, model, task(**{what: ids}), ["0.0"], **QUIET)
    name = what.removesuffix("s")
    assert f"{name!r} of example {row} is token {token}, the model knows 0 to 11; use its" in said


def test_a_logit_difference_without_wrong_answers_is_named_as_what_it_is(model):
    named = mp.ablate(model, task(), ["0.0"], **QUIET)
    alone = mp.ablate(model, task(wrong=None), ["0.0"], **QUIET)
    assert named.metric == "logit_difference"
    assert alone.metric == "logit_difference to the highest other"
    asked = mp.ablate(
        model, task(wrong=None, metric="probability").encode(), ["0.0"], metric="logit_difference",
        **QUIET,
    )
    assert asked.metric == alone.metric
    np.testing.assert_array_equal(asked.effects, alone.effects)


def test_too_few_examples_to_hold_half_out_are_warned_of(model):
    few = PromptTask(tokens(0, n=7), tokens(1, n=7), np.full(7, 3), np.full(7, 4))
    with pytest.warns(UserWarning, match="7 examples are too few to hold half of them out"):
        mp.ablate(model, few, ["0.0"], **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mp.ablate(model, task(), ["0.0"], **QUIET)
