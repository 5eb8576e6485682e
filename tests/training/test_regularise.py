"""Weight 0 is plain fine-tuning bit for bit; gradients reach the layers below only; it works."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models.classifier import build_classifier
from mechprobe.models.streams import Stream, run_with_streams
from mechprobe.probes.regulariser import TopologyRegulariser
from mechprobe.runs import Run
from mechprobe.tasks.acceptability import LABELS, encode_judged, word_order
from mechprobe.tasks.batches import word_tokenizer
from mechprobe.tasks.treebank_grammar import generate_treebank
from mechprobe.training.fit import FitSettings, fit_classifier
from mechprobe.training.regularise import fit_regularised, regularised_loss

SENTENCES = generate_treebank(120, seed=7)
TOKENIZER = word_tokenizer(" ".join(s.words) for s in SENTENCES)
DATA = encode_judged(word_order(SENTENCES, seed=0), TOKENIZER, 64)
SETTINGS = FitSettings(steps=40, batch_size=12, lr=2e-3)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


def model():
    return build_classifier(
        LABELS, TOKENIZER, n_layers=3, n_heads=2, d_model=16, d_mlp=32, n_ctx=64, seed=0
    )


def probe(trained=False):
    b = 0.2 * torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    return TopologyRegulariser(b, trained=trained, special=TOKENIZER.all_special_ids)


def probe_loss(fitted, extra, stream):
    total = 0.0
    with torch.no_grad():
        for batch in DATA.batches(40):
            _, found = run_with_streams(fitted, batch, [stream])
            total += float(extra(
                found[Stream.parse(stream)], batch.tokens, batch.attention_mask, batch.labels
            ))  # fmt: skip
    return total / 3


@pytest.mark.parametrize("trained", [False, True])
def test_weight_zero_is_plain_fine_tuning_bit_for_bit(trained):
    plain, zero = model(), model()
    fit_classifier(plain, DATA, SETTINGS, seed=4)
    fit_regularised(zero, DATA, SETTINGS, probe(trained), stream="resid.2", weight=0.0, seed=4)
    for (name, a), (_, b) in zip(plain.named_parameters(), zero.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_the_extra_loss_reaches_the_blocks_before_its_stream_only(layer):
    fitted = model()
    (batch, *_) = DATA.batches(12)
    stream = Stream("resid", layer)
    both = regularised_loss(fitted, batch, probe(), stream, 10.0)
    alone = regularised_loss(fitted, batch, probe(), stream, 0.0)
    (both - alone).backward()
    for block in range(3):
        grads = [p.grad for p in fitted.blocks[block].parameters() if p.grad is not None]
        reached = any(bool((g.abs() > 1e-7).any()) for g in grads)
        assert reached == (block < layer)


def test_the_probes_loss_falls_five_times_and_not_without_it():
    plain, pulled = model(), model()
    settings = FitSettings(steps=60, batch_size=12, lr=5e-3)
    extra = probe()
    fit_classifier(plain, DATA, settings, seed=4)
    fit_regularised(pulled, DATA, settings, extra, stream="resid.2", weight=10.0, seed=4)
    before = probe_loss(model(), extra, "resid.2")
    assert probe_loss(pulled, extra, "resid.2") < before / 5
    assert probe_loss(plain, extra, "resid.2") > before / 5


def test_a_stopped_fit_goes_on_with_the_same_numbers(tmp_path):
    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 21:
            raise Stop

    settings = FitSettings(steps=30, batch_size=12, lr=2e-3)
    how = {"stream": "resid.1", "weight": 10.0, "seed": 1, "save_every": 10}
    whole, whole_probe = model(), probe(trained=True)
    fit_regularised(whole, DATA, settings, whole_probe, **how)
    with Run.open(tmp_path / "run", {"study": "x"}) as run:
        store = run.checkpoint("fit")
        with pytest.raises(Stop):
            fit_regularised(
                model(), DATA, settings, probe(trained=True), store=store, on_step=stop, **how
            )
        resumed, resumed_probe = model(), probe(trained=True)
        fit_regularised(resumed, DATA, settings, resumed_probe, store=store, **how)
    assert torch.equal(whole_probe.b, resumed_probe.b)
    assert not torch.equal(whole_probe.b, probe().b)
    for (name, a), (_, b) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_cannot_be_regularised_is_refused():
    with pytest.raises(InputError, match=r"no stream 'resid\.9'"):
        fit_regularised(model(), DATA, SETTINGS, probe(), stream="resid.9", weight=1.0, seed=0)
    with pytest.raises(InputError, match="push away"):
        fit_regularised(model(), DATA, SETTINGS, probe(), stream="resid.1", weight=-1.0, seed=0)
    assert np.isin(DATA.labels, (0, 1)).all()
