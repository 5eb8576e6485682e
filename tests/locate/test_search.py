"""Searching subnetworks end to end on a small entailment task, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.masks import MaskSettings, Member
from mechprobe.locate.search import (
    binarise,
    choose_sites,
    find_subnetworks,
    mask_tensors,
    rule_settings,
    score_members,
    search,
)
from mechprobe.models import build_classifier, build_decoder, forward, load_model, site_grid
from mechprobe.runs import Run
from mechprobe.sites import SiteGrid
from mechprobe.tasks import load_task
from mechprobe.tasks.batches import encode_pairs, word_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {"steps": 4, "n_examples": 40, "n_dev": 30, "batch_size": 20, "max_length": 40}


@pytest.fixture(scope="module")
def task():
    return load_task("nli/overlap", n_train=60, n_dev=40, n_ood=2)


@pytest.fixture(scope="module")
def model(task, tiny_classifier):
    train = task.split("train")
    tokenizer = word_tokenizer([*train.first, *train.second])
    return build_classifier(
        task.labels, tokenizer, n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=40, init_std=0.5
    )


@pytest.fixture(scope="module")
def found(model, task):
    return find_subnetworks(model, task, sparsity=[0.3, 0.5], seeds=range(2), **QUICK)


def test_one_subnetwork_a_seed_and_sparsity(found, model):
    assert [(m.sparsity_target, m.seed) for m in found] == [(0.3, 0), (0.3, 1), (0.5, 0), (0.5, 1)]
    assert found.sites == site_grid(model)
    for member in found:
        assert member.sparsity == pytest.approx(1 - member.binary.mean())
        assert abs(member.sparsity - member.sparsity_target) <= max(0.02, 1 / 6)
        assert member.settings["steps"] == 4
        assert (member.settings["rule"], member.settings["baseline"]) == ("held", "mean")
        assert ((member.soft >= 0) & (member.soft <= 1)).all()
        assert set(member.scores) == {"accuracy", "kl"}
    assert not np.array_equal(found[0].log_alpha, found[1].log_alpha)


def test_scores_are_those_of_the_gated_model(found, model, task):
    """Accuracy and KL of one member, example by example, on the same development sample."""
    train, dev = task.split("train").sample(40, seed=0), task.split("dev").sample(30, seed=0)
    batches = encode_pairs(train, model.tokenizer, 40).batches(20)
    stands = make_baseline("mean", model, batches, found.sites)
    right, divergence = [], []
    for batch in encode_pairs(dev, model.tokenizer, 40).batches(1):
        with torch.no_grad():
            logits = gated_logits(model, batch, found[2].gates()[None], found.sites, stands)[0]
            full = forward(model, batch).softmax(-1)
        right.append(int(logits.argmax()) == int(batch.labels))
        divergence.append(float((full * (full.log() - logits.softmax(-1).log())).sum()))
    assert found[2].scores["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert found[2].scores["kl"] == pytest.approx(np.mean(divergence), abs=1e-5)


def test_the_same_search_finds_the_same(found, model, task):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    again = find_subnetworks(model, task, sparsity=0.5, seeds=[1], **QUICK)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    np.testing.assert_allclose(again[0].log_alpha, found[3].log_alpha, atol=1e-5)
    np.testing.assert_array_equal(again[0].binary, found[3].binary)
    once_more = find_subnetworks(model, task, sparsity=0.5, seeds=[1], **QUICK)
    np.testing.assert_array_equal(once_more[0].log_alpha, again[0].log_alpha)


def test_a_store_makes_a_search_resume(model, task, tmp_path, monkeypatch):
    whole = find_subnetworks(model, task, sparsity=0.5, seeds=[0], **QUICK)
    with Run.open(tmp_path, {"study": "test"}) as run:
        stores = {}

        def store(name):
            stores[name] = run.checkpoint(name)
            return stores[name]

        steps = []
        monkeypatch.setattr("mechprobe.locate.search.train_masks", _saving_each_step(steps))
        with pytest.raises(KeyboardInterrupt):
            find_subnetworks(model, task, sparsity=0.5, seeds=[0], **QUICK, store=store)
        resumed = find_subnetworks(model, task, sparsity=0.5, seeds=[0], **QUICK, store=store)
    assert list(stores) == ["masks-0.5"]
    assert steps == [1, 2, 3, 3, 4]
    np.testing.assert_array_equal(resumed[0].log_alpha, whole[0].log_alpha)


def _saving_each_step(steps):
    """The real training, saving after every step, and killed once at the third."""
    from mechprobe.locate.masks import train_masks

    def train(*args, on_step, **settings):
        def counted(step, report):
            steps.append(step)
            if steps == [1, 2, 3]:
                raise KeyboardInterrupt
            on_step(step, report)

        return train_masks(*args, on_step=counted, save_every=1, **settings)

    return train


@pytest.mark.parametrize(
    ("sites", "n"), [("all", 6), ("heads", 4), ("mlps", 2), ("neurons", 12)]
)
def test_each_choice_of_sites(model, task, sites, n):
    settings = QUICK | {"steps": 2, "n_examples": 21}  # 21: a batch of one is left over
    for baseline in ("zero", "resample"):
        (net,) = find_subnetworks(
            model, task, seeds=[0], sites=sites, baseline=baseline, **settings
        )
        assert len(net.sites) == n
        assert {s.kind for s in net.sites} == {
            "all": {"head", "mlp"}, "heads": {"head"}, "mlps": {"mlp"}, "neurons": {"neuron"}
        }[sites]
        assert net.sparsity == 0.5


def test_the_published_rule_by_name(model, task):
    net = find_subnetworks(model, task, seeds=[0], rule="published", **QUICK)[0]
    assert net.settings["rule"] == "published"
    assert (net.settings["accumulation"], net.settings["init"]) == (4, 10.0)
    assert rule_settings("published", 0.5, None).steps == 9_300
    assert rule_settings("expected", 0.5, None) == MaskSettings()
    assert rule_settings("expected", 0.5, 50).lr_warmup_steps == 2
    held = rule_settings("held", 0.5, None)
    assert (held.rule, held.steps, held.lr, held.lr_warmup_steps) == ("held", 250, 0.1, 10)
    assert [rule_settings("held", 0.5, n).lr for n in (10, 100, 500)] == [0.3, 0.25, 0.1]


def test_open_members_score_as_the_full_model(model, task):
    dev = task.split("dev")
    batches = encode_pairs(dev, model.tokenizer, 40).batches(16)
    grid = site_grid(model)
    settings = MaskSettings()
    open_one = binarise(torch.full((6,), 9.0), Member(0, 0.01), grid, settings, "zero")
    assert open_one.binary.all()
    accept = torch.from_numpy(task.accept(dev))
    stands = make_baseline("zero", model, batches, grid)
    (scores,) = score_members(model, batches, [open_one], stands, accept)
    right = [
        accept[i, logit.argmax()]
        for batch in batches
        for i, logit in zip(batch.index, forward(model, batch), strict=True)
    ]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert scores["kl"] == pytest.approx(0, abs=1e-6)


def test_binary_gates_close_the_lowest_and_soft_ones_the_expected():
    grid = SiteGrid(2, 2)
    log_alpha = torch.tensor([-4.0, 3.0, 2.0, 4.0, -5.0, 5.0])
    net = binarise(log_alpha, Member(7, 0.5), grid, MaskSettings(), "mean")
    assert net.binary.tolist() == [False, True, False, True, False, True]
    assert (net.sparsity, net.sparsity_target, net.seed) == (0.5, 0.5, 7)
    assert (net.soft == 0).tolist() == [True, False, False, False, True, False]
    np.testing.assert_allclose(net.soft[1], 1 / (1 + np.exp(-3.6)), atol=1e-6)
    np.testing.assert_array_equal(net.log_alpha, log_alpha)


def test_mask_tensors_are_layers_of_heads_all_mlps_and_layers_of_neurons():
    everything = SiteGrid(2, 3, n_neurons=4, neurons=True)
    names = [[str(s) for s in everything.sites[part]] for part in mask_tensors(everything)]
    assert names == [
        ["0.0", "0.1", "0.2"], ["1.0", "1.1", "1.2"], ["mlp.0", "mlp.1"],
        ["mlp.0.0", "mlp.0.1", "mlp.0.2", "mlp.0.3"], ["mlp.1.0", "mlp.1.1", "mlp.1.2", "mlp.1.3"],
    ]  # fmt: skip
    assert mask_tensors(SiteGrid(2, 3, heads=False)) == [slice(0, 2)]
    assert mask_tensors(SiteGrid(2, 3, mlps=False)) == [slice(0, 3), slice(3, 6)]


def test_choosing_sites():
    grid = SiteGrid(2, 3, n_neurons=4)
    assert choose_sites(grid, "all") == grid
    assert len(choose_sites(grid, "neurons")) == 8
    attention_only = SiteGrid(2, 3, mlps=False)
    assert choose_sites(attention_only, "all") == attention_only
    for sites in ("mlps", "neurons"):
        with pytest.raises(InputError, match=f"sites='{sites}', but this model has none"):
            choose_sites(attention_only, sites)
    with pytest.raises(InputError, match="sites='neurons', but this model has none"):
        choose_sites(SiteGrid(2, 3), "neurons")
    with pytest.raises(InputError, match="sites='layers'; expected one of 'all', 'heads', 'mlps'"):
        choose_sites(grid, "layers")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity 1\.0 is outside \(0, 1\)"),
        ({"sparsity": [0.5, 0.0]}, r"sparsity 0\.0 is outside"),
        ({"sparsity": []}, "at least one member"),
        ({"seeds": []}, "at least one member"),
        ({"seeds": [-1]}, "seed -1"),
        ({"sites": "tokens"}, "sites='tokens'"),
        ({"baseline": "median"}, "unknown baseline 'median'"),
        ({"baseline": "paired"}, "counterfactual"),
        ({"rule": "l1"}, "unknown rule 'l1'"),
        ({"steps": 0}, "at least one step"),
        ({"batch_size": 0}, "batch size 0"),
    ],
)
def test_wrong_arguments_are_refused(model, task, change, message):
    with pytest.raises(InputError, match=message):
        find_subnetworks(model, task, **(QUICK | change))


def test_models_that_cannot_be_scored_are_refused(model, task):
    decoder = build_decoder(n_layers=1, n_heads=2, d_model=8, n_ctx=12, d_vocab=20)
    with pytest.raises(InputError, match=r"a HookedTransformer has no labels; open it with"):
        find_subnetworks(decoder, task, **QUICK)
    other = build_classifier(
        ("non-entailment", "entailment"), model.tokenizer, n_layers=1, n_heads=2, d_model=8,
        n_ctx=40,
    )  # fmt: skip
    with pytest.raises(InputError, match="must be the same in the same order"):
        find_subnetworks(other, task, **QUICK)
    renamed = load_model(other, labels=task.labels)
    assert len(find_subnetworks(renamed, task, seeds=[0], **(QUICK | {"steps": 1}))) == 1
    dumb = build_classifier(task.labels, n_layers=1, n_heads=2, d_model=8, n_ctx=40, d_vocab=20)
    with pytest.raises(InputError, match="the model has no tokenizer"):
        find_subnetworks(dumb, task, **QUICK)


def test_search_reports_each_step(model, task):
    batches = encode_pairs(task.split("train"), model.tokenizer, 40).batches(30)
    grid, seen = site_grid(model), []
    stands = make_baseline("zero", model, batches, grid)
    settings = replace(MaskSettings(), steps=3)
    nets = search(
        model, batches, [Member(2, 0.5)], grid, stands, settings,
        on_step=lambda step, report: seen.append(step),
    )  # fmt: skip
    assert seen == [1, 2, 3]
    assert [net.seed for net in nets] == [2]
