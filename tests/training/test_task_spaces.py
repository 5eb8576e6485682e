"""What scripts call, from ``import mechprobe as mp``: against the modules below and by hand."""

import dataclasses
import re

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.models import build_decoder
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.tasks.pair_templates import generate_text
from mechprobe.tasks.pair_tokens import encode_minimal_pairs
from mechprobe.tasks.vocabulary import train_tokenizer
from mechprobe.training.pair_scores import pair_margins

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def setting():
    """A decoder with a tokenizer and three paradigms of 20 pairs."""
    pairs = mp.generate_minimal_pairs(n_pairs=20)
    pairs = pairs.choose(["agreement_copula", "agreement_distractor", "npi_ever"])
    tokenizer = train_tokenizer([s for p in pairs for s in (*p.good, *p.bad)], "word", 500)
    model = build_decoder(
        n_layers=1, n_heads=2, d_model=16, n_ctx=24, tokenizer=tokenizer, init_std=0.3
    )
    return model, pairs


def by_hand(model, sentence: str) -> float:
    """log P of a sentence behind the begin token, token by token."""
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(sentence)["input_ids"]]
    logp = model(torch.tensor([ids]))[0].log_softmax(-1)
    return sum(float(logp[i, ids[i + 1]].detach()) for i in range(len(ids) - 1))


def test_scores_are_those_of_a_loop_over_sentences(setting):
    model, pairs = setting
    found = mp.score_minimal_pairs(model, pairs)
    margins = np.array([
        by_hand(model, g) - by_hand(model, b) for p in pairs
        for g, b in zip(p.good, p.bad, strict=True)
    ])
    np.testing.assert_allclose(found.margins, margins, atol=1e-4)
    table = found.table().set_index("paradigm")
    accuracy = (margins > 0).reshape(3, 20).mean(1)
    np.testing.assert_allclose(table["accuracy"], accuracy)
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert found.overall == pytest.approx((margins > 0).mean())
    macro = (accuracy[:2].mean() + accuracy[2]) / 2
    order = dict(zip(pairs.names, pairs.phenomena, strict=True))
    assert order["agreement_copula"] == order["agreement_distractor"] != order["npi_ever"]
    assert found.by_phenomenon == pytest.approx(macro)
    assert len(found.plot().axes[0].get_yticklabels()) == 3


def test_tuning_gives_a_delta_that_a_block_applies(setting):
    model, pairs = setting
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    one = pairs.choose(["npi_ever"])
    found = mp.ftgd(model, one, mp.TuneSettings(steps=15, lr=0.1, top=0.1))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    base = mp.score_minimal_pairs(model, one).margins.mean()
    with mp.tuned_model(model, found.delta) as tuned:
        assert mp.score_minimal_pairs(tuned, one).margins.mean() > base + 0.5
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    stopped = mp.ftgd(
        model, one, mp.TuneSettings(steps=50, lr=0.1, top=0.1, stop=0.5), validation=one
    )
    assert stopped.accuracy[-1] >= 0.5


def test_perplexity_of_text_is_that_of_a_loop_over_rows(setting):
    model, pairs = setting
    sentences, bos = pairs["npi_ever"].good, model.tokenizer.bos_token_id
    ids = [i for s in sentences for i in (bos, *model.tokenizer(s)["input_ids"])]
    losses = []
    for start in range(0, len(ids) - 9, 10):
        row = ids[start : start + 10]
        logp = model(torch.tensor([row]))[0].log_softmax(-1)
        losses += [-float(logp[i, row[i + 1]].detach()) for i in range(9)]
    found = mp.text_perplexity(model, sentences, length=10)
    assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    with pytest.raises(mp.InputError, match="make no row of 24"):
        mp.text_perplexity(model, sentences[:1])


def test_a_transfer_matrix_is_tuning_and_testing_each(setting, tmp_path):
    model, pairs = setting
    settings = mp.TuneSettings(steps=4, lr=0.1, top=0.1)
    text = pairs["npi_ever"].good
    space = mp.transfer_matrix(model, pairs, settings, text=text, seed=3)
    assert space.perplexity_before == pytest.approx(mp.text_perplexity(model, text))
    test = encode_minimal_pairs(pairs.part("evaluate"), model.tokenizer)
    base = pair_margins(model, test)
    for t, name in enumerate(pairs.names):
        mine = pairs.part("tune").choose([name])
        found = mp.ftgd(model, mine, settings, seed=3 + t)
        with mp.tuned_model(model, found.delta):
            np.testing.assert_allclose(space.after[t], pair_margins(model, test), atol=1e-5)
            after = mp.text_perplexity(model, text)
        assert space.perplexity_after[t] == pytest.approx(after, rel=1e-5)
    change = ((space.after > 0).astype(float) - (base > 0)).reshape(3, 3, 2).mean(-1)
    np.testing.assert_allclose(space.table().to_numpy(), change, atol=1e-9)
    assert list(space.table().columns) == pairs.names
    assert len(space.plot("log_odds").axes[0].get_xticklabels()) == 3
    halves = {"tune": (0.0, 0.5), "evaluate": (0.5, 1.0)}
    assert len(mp.transfer_matrix(model, pairs, settings, shares=halves).task) == 30
    back = mp.TransferSpace.load(space.save(tmp_path / "space"))
    assert back.names == space.names
    assert back.phenomena == tuple(pairs.phenomena)
    np.testing.assert_array_equal(back.transfer("log_odds"), space.transfer("log_odds"))


def test_a_model_that_cannot_read_sentences_is_refused(setting, tmp_path):
    bare = build_decoder(n_layers=1, n_heads=1, d_model=4, n_ctx=24, d_vocab=30)
    with pytest.raises(mp.InputError, match="the model has no tokenizer"):
        mp.score_minimal_pairs(bare, setting[1])
    with pytest.raises(mp.InputError, match=r"tasks\.json"):
        mp.TransferSpace.load(tmp_path)


def test_what_the_page_on_tuning_says_is_there(setting, repo, capsys):
    text = (repo / "docs" / "pages" / "tuning.md").read_text(encoding="utf-8")
    model, pairs = setting
    code = text.split("```py\n")[1].split("```")[0]
    exec(code, {"mp": mp, "model": model, "pairs": pairs, "sentences": pairs["npi_ever"].good})
    assert "npi_ever" in capsys.readouterr().out
    rows = re.findall(r"^\| .+? \| (`.+?`) \| (.+?) \|$", text.split("## Options")[1], re.M)
    tuned = {name for fields, _ in rows for name in re.findall(r"`(\w+)", fields)}
    assert {f.name for f in dataclasses.fields(mp.TuneSettings)} == tuned - {"TuneSettings"}
    known = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(Settings)}
    assert set(re.findall(r"--[a-z][\w-]+", text)) <= known


def test_what_the_readme_shows_runs(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (repo / "README.md").read_text(encoding="utf-8")
    code = text.split("### Minimal pairs")[1].split("```py\n")[1].split("```")[0]
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "a.txt").write_text("\n".join(generate_text(n=300)))
    small = 'size="0.1M", n_vocabulary=320, steps=3, batch=4, n_ctx=40, held_out=0.1'
    for shown, less in {'size="1M"': small, "n_pairs=200": "n_pairs=20", "steps=20": "steps=2",
                        "mp.transfer_matrix(model, pairs)":
                        "mp.transfer_matrix(model, pairs, mp.TuneSettings(steps=1))"}.items():
        assert shown in code
        code = code.replace(shown, less)
    names: dict = {"mp": mp}
    exec(code, names)
    assert len(names["known"].table()) == 19
    assert 0 < names["tuned"].delta.share <= 0.0101
    assert names["space"].transfer().shape == (19, 19)
    assert (tmp_path / "transfer.png").stat().st_size > 1_000
