"""Direct logit attribution: parts that add up, a run with weights written by hand, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.direct import direct_logit_attribution, direct_terms
from mechprobe.locate.measure import measure
from mechprobe.models import build_encoder, site_grid
from mechprobe.tasks.answers import UNSCORED

pytestmark = pytest.mark.usefixtures("one_thread")

NORMS = [
    {}, {"normalization_type": "RMS"}, {"normalization_type": None}, {"attn_only": True},
    {"normalization_type": "LNPre"}, {"normalization_type": "RMSPre"}, {"final_rms": True},
    {"positional_embedding_type": "rotary", "rotary_dim": 4, "parallel_attn_mlp": True},
    {"n_key_value_heads": 1, "gated_mlp": True, "act_fn": "silu", "normalization_type": "RMS",
     "positional_embedding_type": "rotary", "rotary_dim": 4},
]  # fmt: skip


def untouched(model, behaviour):
    return measure(model, behaviour, None, site_grid(model), zero_baseline())[0]


@pytest.mark.parametrize("settings", NORMS, ids=str)
@pytest.mark.parametrize("wrong", [True, False])
def test_all_parts_add_up_to_the_logit_difference(small_decoder, prompts, settings, wrong):
    model = small_decoder(**settings)
    behaviour = prompts(positions=2, wrong=wrong)
    names, values = direct_terms(model, behaviour)
    assert set(map(str, site_grid(model))) < set(names)
    np.testing.assert_allclose(values.sum(0), untouched(model, behaviour), atol=1e-4, rtol=1e-4)
    heads = values[[name.startswith(("0.", "1.")) for name in names]]
    assert np.abs(heads).max() > 0.05


def test_parts_are_what_hand_written_code_finds(small_decoder, prompts):
    """One example at a time, from TransformerLens' own cache with use_attn_result."""
    model, behaviour = small_decoder(), prompts(n=4)
    scores = direct_logit_attribution(model, behaviour)
    model.set_use_attn_result(True)
    for row in range(4):
        length = int(behaviour.inputs.attention_mask[row].sum())
        with torch.no_grad():
            _, cache = model.run_with_cache(behaviour.inputs.tokens[row : row + 1, :length])
        right, wrong = (int(behaviour.targets[k][row, length - 1]) for k in ("answer", "wrong"))
        unembed = (model.W_U[:, right] - model.W_U[:, wrong]).detach()
        scale, gain = cache["ln_final.hook_scale"][0, -1], model.ln_final.w.detach()

        def part(out, scale=scale, gain=gain, unembed=unembed):
            return float(((out - out.mean()) / scale * gain) @ unembed)

        for site, value in zip(scores.sites, scores.effects[:, row], strict=True):
            layer = int(site[-1]) if site.startswith("mlp") else int(site[0])
            out = (
                cache[f"blocks.{layer}.hook_mlp_out"][0, -1] if site.startswith("mlp")
                else cache[f"blocks.{layer}.attn.hook_result"][0, -1, int(site[-1])]
            )
            assert value == pytest.approx(part(out), abs=1e-6)


def test_the_answers_logit_alone(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    _, values = direct_terms(model, behaviour, "answer_logit")
    rows = behaviour.inputs.attention_mask.sum(1) - 1
    with torch.no_grad():
        logits = model(behaviour.inputs.tokens, attention_mask=behaviour.inputs.attention_mask)
    places = torch.arange(len(rows))
    expected = logits[places, rows, behaviour.targets["answer"][places, rows]]
    np.testing.assert_allclose(values.sum(0), expected.numpy(), atol=1e-5)


def test_scores_hold_the_chosen_sites_and_the_rest_in_the_settings(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    scores = direct_logit_attribution(model, behaviour, ["1.*", "mlp.0"])
    assert scores.sites == ("1.0", "1.1", "mlp.0")
    names, values = direct_terms(model, behaviour)
    np.testing.assert_array_equal(scores.effects, values[[names.index(s) for s in scores.sites]])
    others = scores.settings["other_terms"]
    assert set(others) == {
        "embeddings", "attention biases", "final norm bias", "unembedding bias"
    }
    whole = direct_logit_attribution(model, behaviour)
    total = whole.effects.sum(0).mean() + sum(others.values())
    assert total == pytest.approx(untouched(model, behaviour).mean(), abs=1e-5)
    assert scores.forwards == 1


def test_the_wrong_answer_is_the_runner_up_when_none_is_given(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts(wrong=False)
    with torch.no_grad():
        logits = model(behaviour.inputs.tokens, attention_mask=behaviour.inputs.attention_mask)
    answer = behaviour.targets["answer"]
    scored = answer != UNSCORED
    others = logits[scored].scatter(1, answer[scored].unsqueeze(1), -torch.inf).argmax(1)
    wrong = torch.full_like(answer, UNSCORED)
    wrong[scored] = others
    named = replace(behaviour, targets={"answer": answer, "wrong": wrong})
    a, b = (direct_logit_attribution(model, x).effects for x in (behaviour, named))
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_bfloat16_adds_up_roughly(small_decoder, prompts):
    model = small_decoder().to(torch.bfloat16)
    model.cfg.dtype = torch.bfloat16
    _, values = direct_terms(model, prompts())
    assert np.isfinite(values).all()


def test_models_without_a_linear_path_are_refused(tiny_classifier, prompts):
    with pytest.raises(InputError, match="HookedClassifier has no linear path"):
        direct_logit_attribution(tiny_classifier(), prompts())
    encoder = build_encoder(n_layers=1, n_heads=2, d_model=8, n_ctx=8, d_vocab=11)
    with pytest.raises(InputError, match="normalises the stream after every layer"):
        direct_logit_attribution(encoder, prompts())


def test_a_decoder_that_is_no_sum_is_found_out(small_decoder, prompts):
    capped = small_decoder(output_logits_soft_cap=1.5)
    with pytest.raises(InputError, match="is not a sum"):
        direct_terms(capped, prompts())


def test_tasks_without_answers_and_neurons_are_refused(small_decoder, prompts):
    behaviour = prompts()
    bare = replace(behaviour, targets={}, metric=lambda logits, t: logits.sum((1, 2)))
    with pytest.raises(InputError, match="names no answers"):
        direct_logit_attribution(small_decoder(), bare)
    with pytest.raises(InputError, match=r"leave out 'mlp\.0\.3'"):
        direct_logit_attribution(small_decoder(), behaviour, ["mlp.0.3"])
    with pytest.raises(InputError, match="direction='probability'"):
        direct_logit_attribution(small_decoder(), behaviour, direction="probability")


def test_it_reads_logits_whatever_the_tasks_metric(small_decoder, prompts):
    model = small_decoder()
    one, other = (
        direct_logit_attribution(model, prompts(metric=metric))
        for metric in ("logit_difference", "exact_match")
    )
    np.testing.assert_array_equal(one.effects, other.effects)
    assert one.metric == other.metric == "logit_difference"
