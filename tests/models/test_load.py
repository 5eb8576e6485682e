"""Every door of ``load_model``, and what each says when it is the wrong one."""

from __future__ import annotations

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from transformer_lens import HookedEncoder, HookedTransformer
from transformers import (
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from mechprobe.errors import InputError
from mechprobe.models import (
    HookedClassifier,
    HookedDecoderClassifier,
    build_classifier,
    forward,
    from_hf,
    load_model,
    save_model,
)

LABELS = ("entailment", "neutral", "contradiction")


def test_a_folder_of_a_classifier(hf_classifier, tokenizer, tmp_path, make_batch):
    hf_classifier.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert isinstance(model, HookedClassifier)
    assert model.labels == LABELS
    assert model.tokenizer("a b", "c")["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    batch = make_batch(9, 4)
    assert torch.equal(forward(model, batch), forward(from_hf(hf_classifier), batch))
    assert load_model(str(tmp_path), labels=("x", "y", "z")).labels == ("x", "y", "z")
    with pytest.raises(InputError, match="2 labels"):
        load_model(tmp_path, labels=("x", "y"))


def test_a_folder_of_an_encoder(hf_bert, tmp_path, make_batch):
    hf_bert.save_pretrained(tmp_path)
    batch = make_batch(9, 4)
    encoder = load_model(tmp_path)
    assert isinstance(encoder, HookedEncoder)
    assert torch.equal(forward(encoder, batch), forward(from_hf(hf_bert), batch))
    expected = forward(from_hf(hf_bert, labels=LABELS, seed=4), batch)
    assert torch.equal(forward(load_model(tmp_path, labels=LABELS, seed=4), batch), expected)
    assert torch.equal(forward(load_model(encoder, labels=LABELS, seed=4), batch), expected)


def test_a_folder_without_pooler_gets_a_seeded_one(hf_bert, tmp_path, make_batch):
    module = BertForMaskedLM(hf_bert.config)
    module.bert.load_state_dict(
        {k: v for k, v in hf_bert.state_dict().items() if "pooler" not in k}
    )
    module.save_pretrained(tmp_path)
    batch = make_batch(5)
    one, same, other = (load_model(tmp_path, labels=LABELS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(forward(one, batch), forward(same, batch))
    assert not torch.equal(one.pooler.W, other.pooler.W)
    assert torch.equal(one.blocks[1].attn.W_Q, other.blocks[1].attn.W_Q)


def test_a_folder_of_a_decoder(hf_gpt2, tmp_path, make_batch):
    hf_gpt2.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert isinstance(model, HookedTransformer)
    batch = make_batch(9, 4)
    assert torch.equal(forward(model, batch), forward(from_hf(hf_gpt2), batch))
    classifier = load_model(tmp_path, labels=LABELS, seed=4)
    assert isinstance(classifier, HookedDecoderClassifier)
    expected = forward(from_hf(hf_gpt2, labels=LABELS, seed=4), batch)
    assert torch.equal(forward(classifier, batch), expected)
    assert torch.equal(forward(load_model(model, labels=LABELS, seed=4), batch), expected)
    assert not torch.equal(forward(load_model(model, labels=LABELS, seed=5), batch), expected)


def test_half_precision_folders_are_read_as_float32(hf_bert, tmp_path, make_batch):
    hf_bert.bfloat16().save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.cfg.dtype == torch.float32
    assert forward(model, make_batch(5)).dtype == torch.float32
    assert load_model(tmp_path, dtype=torch.bfloat16).cfg.dtype == torch.bfloat16


def test_objects_pass_through(sizes, hf_bert, make_batch):
    model = build_classifier(LABELS, None, **sizes, dtype=torch.float64)
    assert load_model(model) is model
    assert model.cfg.dtype == torch.float64
    encoder = from_hf(hf_bert)
    assert load_model(encoder) is encoder
    batch = make_batch(5)
    assert torch.equal(forward(load_model(hf_bert), batch), forward(encoder, batch))
    with pytest.raises(InputError, match="2 labels"):
        load_model(model, labels=("a", "b"))


def test_flags_of_transformer_lens_can_be_set(sizes, make_batch):
    model = build_classifier(LABELS, None, **sizes)
    plain = forward(model, make_batch(5))
    split = load_model(model, use_split_qkv_input=True, use_attn_result=True)
    seen = []
    for name in ("hook_q_input", "attn.hook_result"):
        split.hook_dict[f"blocks.0.{name}"].register_forward_hook(
            lambda m, i, out: seen.append(out.shape)
        )
    torch.testing.assert_close(forward(split, make_batch(5)), plain)
    assert seen == [(1, 5, 4, 32), (1, 5, 4, 32)]
    with pytest.raises(InputError, match="unknown setting 'fold_ln'"):
        load_model(model, fold_ln=True)


def test_loading_is_quiet(hf_bert, tmp_path, capsys):
    BertForMaskedLM(hf_bert.config).save_pretrained(tmp_path)
    capsys.readouterr()
    load_model(tmp_path, labels=LABELS)
    load_model(tmp_path, labels=LABELS, dtype=torch.float64)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ""


def _no_config(folder):
    (folder / "config.json").unlink()


def _broken_config(folder):
    (folder / "config.json").write_text("{")


def _no_weights(folder):
    (folder / "model.safetensors").unlink()


def _cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_config, "neither mechprobe.json nor config.json"),
        (_broken_config, "config.json is not JSON"),
        (_no_weights, "the weights in .* cannot be read"),
        (_cut_weights, "the weights in .* cannot be read"),
        (shutil.rmtree, "no folder"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(hf_bert, tmp_path, damage, message):
    hf_bert.save_pretrained(tmp_path / "bert")
    damage(tmp_path / "bert")
    with pytest.raises(InputError, match=message) as caught:
        load_model(str(tmp_path / "bert"))
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_architecture_is_refused(tmp_path):
    config = DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=9)
    DistilBertModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a 'distilbert' model; supported are bert, "):
        load_model(tmp_path)


def test_a_folder_whose_blocks_have_no_weights_is_refused(hf_gpt2, hf_bert, tmp_path):
    shorter = BertModel(hf_bert.config)
    shorter.encoder.layer = shorter.encoder.layer[:1]
    shorter.save_pretrained(tmp_path / "bert")  # its config still says two layers
    with pytest.raises(InputError, match=r"lacks trained weights \(encoder\.layer\.1"):
        load_model(tmp_path / "bert")
    hf_gpt2.transformer.h = hf_gpt2.transformer.h[:1]
    hf_gpt2.save_pretrained(tmp_path / "gpt2")
    with pytest.raises(InputError, match=r"lacks trained weights \(transformer\.h\.1"):
        load_model(tmp_path / "gpt2")


def test_a_hub_name_that_is_not_there_is_refused():
    for name in ("nobody/nothing", "gpt2-no-such-model"):
        with pytest.raises(
            InputError, match="neither a local folder nor a model the hub"
        ) as caught:
            load_model(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="neither an encoder nor a decoder of text"):
        load_model("hubert-base-ls960")


def test_hub_names_load_from_the_local_cache(
    tmp_path, monkeypatch, hf_bert, hf_classifier, tiny_hf, tokenizer, make_batch
):
    """Names as the hub's cache would hold them: two TransformerLens knows, two it does not."""
    decoder = GPT2LMHeadModel(
        GPT2Config(vocab_size=15, n_positions=24, n_embd=32, n_layer=2, n_head=4)
    ).eval()
    encoder = BertForMaskedLM(hf_bert.config).eval()
    names = {
        "gpt2": decoder,
        "google-bert/bert-base-cased": encoder,
        "somebody/nli": hf_classifier,
        "somebody/llama": tiny_hf(LlamaForCausalLM),
    }
    for name, module in names.items():
        repo = tmp_path / f"models--{name.replace('/', '--')}"
        module.save_pretrained(repo / "snapshots" / "abc")
        tokenizer.save_pretrained(repo / "snapshots" / "abc")
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("abc")
    config = tmp_path / "models--gpt2" / "snapshots" / "abc" / "config.json"
    # the hub's gpt2 has this field, which TransformerLens reads and transformers 5 no longer writes
    config.write_text(json.dumps(json.loads(config.read_text()) | {"n_ctx": 24}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    batch = make_batch(9, 4)
    batch.tokens.remainder_(15)
    ours = load_model("gpt2")
    assert isinstance(ours, HookedTransformer)
    torch.testing.assert_close(
        forward(ours, batch)[0], decoder(batch.tokens).logits[0], atol=1e-5, rtol=1e-5
    )
    bert = load_model("bert-base-cased")
    assert isinstance(bert, HookedEncoder)
    torch.testing.assert_close(
        forward(bert, batch)[0],
        encoder(batch.tokens, token_type_ids=batch.segments).logits[0],
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip
    assert isinstance(load_model("bert-base-cased", labels=LABELS), HookedClassifier)
    classifier = load_model("somebody/nli")
    assert torch.equal(forward(classifier, batch), forward(from_hf(hf_classifier), batch))
    llama = load_model("somebody/llama")
    expected = forward(from_hf(names["somebody/llama"]), batch)
    assert torch.equal(forward(llama, batch), expected)
    assert classifier.tokenizer("a")["input_ids"] == [2, 5, 3]


def test_minilm_equals_hugging_face(minilm, tmp_path):
    """The real encoder: hidden states within 1e-5, then a round trip with its tokenizer."""
    theirs = BertModel.from_pretrained(minilm, local_files_only=True).eval()
    model = load_model(minilm, labels=LABELS, seed=0)
    pairs = model.tokenizer(
        ["A cat sat on the mat.", "No."], ["A dog sat.", "Nobody said anything at all."],
        return_tensors="pt", padding=True,
    )  # fmt: skip
    with torch.no_grad():
        columns = [pairs[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
        ours = model.encoder_output(*columns)
        expected = theirs(**pairs).last_hidden_state
        real = pairs["attention_mask"].bool()
        torch.testing.assert_close(ours[real], expected[real], atol=1e-5, rtol=1e-5)
        again = load_model(save_model(model, tmp_path / "m"))
        assert torch.equal(again(*columns), model(*columns))
    assert again.tokenizer("A cat", "a dog") == model.tokenizer("A cat", "a dog")
