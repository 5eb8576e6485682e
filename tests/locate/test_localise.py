"""From behaviour to heads in one call, on a planted induction pair and on the real small model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import mechprobe as mp
from mechprobe.errors import InputError
from mechprobe.locate import command
from mechprobe.locate.localise import METHODS, localise
from mechprobe.locate.prefix_matching import matches, prefix_matching
from mechprobe.models import attention_patterns, build_decoder, build_encoder, load_llama2c
from mechprobe.planted.handmade import induction
from mechprobe.tasks import LanguageTask, PromptTask, load_task
from mechprobe.tasks.cards import read_card

pytestmark = pytest.mark.usefixtures("one_thread")
TRUE = {"0.0", "1.1"}


@pytest.fixture(scope="module")
def planted():
    return induction()[0].model


def repeats(n: int = 60, **settings):
    return load_task("behaviours/induction", n=n, period=5, again=3, **settings)


@pytest.fixture(scope="module")
def located(planted):
    return localise(planted, repeats(), ("ablate", "patch", "attribute"), top=2, n_sets=100)


def test_a_card_goes_straight_into_every_localiser(planted):
    for found in (
        mp.ablate(planted, repeats(), progress=False),
        mp.patch(planted, repeats(), progress=False),
        mp.attribute(planted, repeats(), method="integrated", progress=False),
    ):
        assert set(found.top(2)) == TRUE
    assert mp.direct_logit_attribution(planted, repeats(), "heads").top(1) == ["1.1"]
    few = mp.ablate(planted, repeats(), n=10, metric="accuracy", progress=False)
    assert few.effects.shape == (4, 10)


def test_the_planted_heads_are_found_and_held_against_random_sets(located):
    assert located.check.above
    for name in ("ablate", "patch"):
        scores = located.scores[name]
        assert set(scores.top(2)) == TRUE
        test = located.tests[name]
        assert set(test.sites) == TRUE
        assert len(test.effects) == len(scores.report) == 30
        assert test.exact  # 6 pairs of 4 heads
        assert test.p == pytest.approx((test.null >= test.effects.mean() - 1e-9).mean())
    assert located.tests["patch"].baseline == "paired"
    assert located.tests["ablate"].baseline == "mean"


def test_prefix_matching_is_the_induction_heads(located, planted):
    assert located.matching.top(1) == ["1.1"]
    table = located.agreement().set_index("method")
    best = set(located.matching.top(2))
    assert table.loc["ablate", "shared"] == len(best & TRUE)
    assert table.loc["ablate", "by_chance"] == pytest.approx(1.0)  # 2 of 2 of 4 heads
    assert set(table.index) == {"ablate", "patch", "attribute"}


def test_prefix_matching_by_hand(planted):
    task = repeats(8)
    behaviour = task.encode(None, d_vocab=12)
    scores = prefix_matching(planted, behaviour)
    tokens = behaviour.inputs.tokens
    for layer, pattern in attention_patterns(planted, behaviour.inputs).items():
        for head in range(2):
            for row in range(8):
                line = tokens[row].tolist()
                after = [j for j in range(1, 8) if line[j - 1] == line[-1]]
                mass = sum(float(pattern[row, head, -1, j]) for j in after) - len(after) / 8
                index = scores.sites.index(f"{layer}.{head}")
                assert scores.effects[index, row] == pytest.approx(mass, abs=1e-6)


def test_what_cannot_match_a_prefix_is_refused(planted):
    fresh = PromptTask(np.array([[0, 1, 2], [3, 1, 3]]), None, np.array([4, 5]))
    with pytest.raises(InputError, match="example 0 is asked after a token that has not occurred"):
        prefix_matching(planted, fresh)
    blind = PromptTask(np.array([[0, 1, 0]]), metric=lambda logits: logits[:, -1, 0])
    with pytest.raises(InputError, match="asks for no token after another"):
        prefix_matching(planted, blind)
    encoder = build_encoder(n_layers=1, n_heads=1, d_model=4, n_ctx=9, d_vocab=12)
    with pytest.raises(InputError, match="prefix matching is of decoders"):
        prefix_matching(encoder, fresh)


def test_matches_look_only_back():
    behaviour = PromptTask(np.array([[5, 6, 5, 7, 5]]), None, np.array([1])).encode()
    asked, after = matches(behaviour, behaviour.inputs.tokens, behaviour.inputs.index)
    assert asked.tolist() == [[False, False, False, False, True]]
    assert after[0, 4].tolist() == [False, True, False, True, False]
    assert after[0, 2].tolist() == [False, True, False, False, False]


def test_all_methods_are_those_of_the_command(planted):
    assert tuple(METHODS) == command.METHODS
    for name in ("denoise", "integrated", "direct"):
        found = localise(planted, repeats(40), (name,), top=1, n_sets=100)
        assert found.scores[name].sites == ("0.0", "0.1", "1.0", "1.1")


@pytest.mark.slow
def test_masks_learn_on_the_selection_half_alone(planted):
    found = localise(planted, repeats(40), ("masks",), top=2, n_sets=100)
    assert found.scores["masks"].settings["seeds"] == list(range(8))
    assert len(found.tests["masks"].effects) == 20 or found.tests["masks"] is None


def test_literature_counts_named_heads_among_the_first(planted, located):
    card = {**repeats().card, "expected": [{
        "model": "planted", "architecture": planted.cfg.original_architecture,
        "shape": [2, 2, planted.cfg.d_model], "source": "by hand, 2026",
        "heads": {"previous": ["0.0"], "induction": ["1.1"]},
    }]}  # fmt: skip
    task = LanguageTask("named", card)
    table = localise(planted, task, ("ablate",), top=2, n_sets=100).literature()
    every = table.set_index("part").loc["all"]
    assert (every["named"], every["found"], every["by_chance"]) == (2, 2, 1.0)
    assert every["p"] == pytest.approx(1 / 6)
    assert located.literature().empty


def test_it_is_written_with_summary_tables_and_maps(located, tmp_path):
    path = located.save(tmp_path / "out")
    said = path.read_text()
    assert "right on 100.0%" in said
    assert "## Best heads" in said
    assert "## Agreement with prefix matching" in said
    table = pd.read_csv(tmp_path / "out" / "tables" / "ablate.csv")
    assert set(table["site"].astype(str)[:2]) == TRUE
    assert (tmp_path / "out" / "figures" / "prefix-matching.png").stat().st_size > 1000
    assert {p.stem for p in (tmp_path / "out" / "figures").glob("*.png")} == {
        p.stem for p in (tmp_path / "out" / "figures").glob("*.csv")
    }
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["methods"] == ["ablate", "patch", "attribute"]
    assert repr(located).startswith("Located\n")


def test_what_cannot_be_localised_is_refused(planted):
    with pytest.raises(InputError, match="unknown method 'ablation'; give some of ablate, patch"):
        localise(planted, repeats(), ("ablation",))
    with pytest.raises(InputError, match="top=0 heads by 1 methods"):
        localise(planted, repeats(), top=0)
    fresh = build_decoder(n_layers=1, n_heads=2, d_model=8, n_ctx=8, d_vocab=12)
    with pytest.raises(InputError, match="not above chance, so there is nothing to localise"):
        localise(fresh, repeats())


@pytest.fixture(scope="module")
def stories(data_dir):
    return load_llama2c(data_dir / "models" / "stories260K.bin.xz")


def test_the_small_real_model_goes_on_with_names_but_not_with_random_tokens(stories):
    with pytest.raises(InputError, match=r"induction:dev: right on .* not above chance"):
        localise(stories, "behaviours/induction", n=100)
    found = localise(
        stories, load_task("behaviours/induction-names", n=48), ("attribute",), n=48, n_sets=100
    )
    assert found.check.right.low > 0.75
    assert found.check.corrupt.estimate < 0.25
    assert found.tests["attribute"].effect.low > 0


def test_the_command_prints_and_refuses(data_dir, tmp_path, capsys, monkeypatch):
    from mechprobe.cli import main

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("MECHPROBE_DATA", str(data_dir))
    out = tmp_path / "found"
    words = ["locate", "behaviours/induction-names", "--method", "attribute", "--n", "24"]
    assert main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "stories260K" in said.err
    assert "# behaviours/induction-names:dev" in said.out
    assert (out / "summary.md").read_text() in said.out
    assert main(["locate", "behaviours/induction", "--n", "50"]) == 2
    assert "not above chance" in capsys.readouterr().err
    assert main(["locate", "behaviours/greater-than", "--n", "50"]) == 2
    assert "the task needs years of two tokens" in capsys.readouterr().err
    assert main(["locate", "behaviours/ioi", "--n", "2"]) == 2
    monkeypatch.delenv("MECHPROBE_DATA")
    assert main(["locate", "behaviours/ioi"]) == 2
    assert "give --model NAME_OR_FOLDER" in capsys.readouterr().err


def test_every_localisable_card_is_of_a_known_form():
    assert read_card("behaviours/ioi")["form"] == "ioi"
    assert torch.is_tensor(repeats(4).encode(None, d_vocab=12).targets["chance"])
