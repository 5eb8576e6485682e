"""What the views hold: the model's own numbers, every token as text, and no way to a network."""

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.show.attention import show_attention
from mechprobe.show.bundle import data_script, inert, packed_circuitsvis
from mechprobe.show.logits import show_logits
from mechprobe.show.tokens import show_tokens
from mechprobe.show.tokens_read import read_text, token_words
from tests.show import texts as made
from tests.show.reading import Page

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models():
    return {name: getattr(made, name)() for name in (
        "decoder", "encoder", "classifier", "encoder_decoder")}


def _json(page: str) -> list:
    found = re.search(r'<script type="application/json" id="panels">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_the_bundle_is_circuitsvis_own_file():
    import circuitsvis

    path = Path(circuitsvis.__file__).parent / "dist" / "cdn" / "iife.js"
    assert gzip.decompress(base64.b64decode(packed_circuitsvis())) == path.read_bytes()


@pytest.mark.parametrize(
    "value", ["</script>", "<!--<script>", "a</b></a>", "\u2028", "🙂", "שלום"])
def test_data_comes_back_and_cannot_end_its_element(value):
    script = data_script("x", {"token": value})
    inner = script[script.index(">") + 1 : script.rindex("</script>")]
    assert "</" not in inner
    assert "<!--" not in inner
    assert json.loads(inner) == {"token": value}
    if "</" in value:
        assert "<\\/" in inner


def test_data_that_json_lacks_is_refused():
    with pytest.raises(InputError, match="finite"):
        data_script("x", [float("nan")])


def test_an_inert_token_looks_the_same_and_opens_no_tag():
    for token in made.EVIL:
        shown = Page(f"<p>{inert(token)}</p>")
        assert [kind for kind, _ in shown.elements] == ["p"]
        assert "".join(text for _, text in shown.text).replace("\u2060", "") == token


def test_self_attention_of_a_decoder_equals_the_model_and_is_causal(models):
    model = models["decoder"]
    view = show_attention(model, made.TEXT)
    (panel,) = view.panels
    tokens = model.tokenizer(made.TEXT, return_tensors="pt")["input_ids"]
    _, cache = model.run_with_cache(tokens)
    expected = torch.cat([cache["pattern", layer][0] for layer in range(2)]).numpy()
    assert np.abs(np.array(panel.props["attention"]) - expected).max() <= 0.0005001
    assert panel.props["attentionHeadNames"] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
    assert panel.props["maskUpperTri"] is True
    assert panel.props["tokens"] == list(made.EVIL)


def test_an_encoder_is_bidirectional_and_heads_are_chosen(models):
    view = show_attention(models["encoder"], made.TEXT, heads=["1.2", "0.*"])
    (panel,) = view.panels
    assert panel.props["maskUpperTri"] is False
    assert panel.props["attentionHeadNames"] == ["0.0", "0.1", "0.2", "1.2"]
    assert np.array(panel.props["attention"])[:, 0, 1:].max() > 0.01


def test_an_encoder_decoder_shows_both_rows_of_tokens(models):
    model = models["encoder_decoder"]
    view = show_attention(model, ("cat sat 🙂", "sat cat"))
    assert [panel.component for panel in view.panels] == [
        "AttentionHeads", "AttentionHeads", "AttentionRows"]
    own, written, cross = (panel.props for panel in view.panels)
    assert (own["maskUpperTri"], written["maskUpperTri"]) == (False, True)
    assert cross["columns"] == own["tokens"] == ["cat", "sat", "🙂"]
    assert cross["rows"] == written["tokens"] == ["[PAD]", "sat", "cat"]
    ids = {word: i for i, word in enumerate(("[PAD]", "[UNK]", *made.EVIL))}
    source = torch.tensor([[ids[w] for w in ("cat", "sat", "🙂")]])
    target = torch.tensor([[0, ids["sat"], ids["cat"]]])
    _, cache = model.run_with_cache(source, target)
    expected = cache["decoder.1.cross_attn.hook_pattern"][0, 2].numpy()
    assert cross["names"][5] == "cross 1.2"
    assert np.abs(np.array(cross["weights"][5]) - expected).max() <= 0.0005001


def test_the_strongest_links_are_told_in_words(models):
    (panel,) = show_attention(models["decoder"], made.TEXT, heads=["1.1"]).panels
    pattern = np.array(panel.props["attention"][0])
    q, k = np.unravel_index(pattern.argmax(), pattern.shape)
    assert panel.rows[0][:3] == ("1.1", made.EVIL[q], made.EVIL[k])
    assert float(panel.rows[0][3]) == pytest.approx(pattern.max(), abs=1e-3)


def test_a_batch_shows_one_example_without_its_padding(models, random_batch):
    model = models["classifier"]
    batch = random_batch(4, 7)
    batch = type(batch)(**{**batch.__dict__, "tokens": batch.tokens % 12})
    (panel,) = show_attention(model, batch, ["0.1"], example=0).panels
    assert len(panel.props["tokens"]) == 4
    weights = np.array(panel.props["attention"][0])
    assert weights.shape == (4, 4)
    assert weights.sum(1) == pytest.approx(1, abs=0.01)
    with pytest.raises(InputError, match="example 2 of a batch of 2"):
        show_attention(model, batch, example=2)


def test_next_token_predictions_equal_a_loop(models):
    model = models["decoder"]
    (panel,) = show_logits(model, made.TEXT, top=3).panels
    ids = model.tokenizer(made.TEXT)["input_ids"]
    logits = model(torch.tensor([ids]))[0].detach().double()
    for i, target in enumerate(ids[1:]):
        log_p = logits[i] - torch.logsumexp(logits[i], 0)
        own = panel.props["correctTokenLogProb"][i]
        assert own == pytest.approx(float(log_p[target]), abs=1e-4)
        assert panel.props["correctTokenRank"][i] == int((log_p > log_p[target]).sum())
        best = log_p.argsort(descending=True)[:3].tolist()
        assert panel.props["topKTokens"][i] == [
            inert(model.tokenizer.convert_ids_to_tokens(b)) for b in best]
    assert len(panel.props["prompt"]) == len(panel.props["topKLogProbs"]) + 1


def test_a_masked_lm_is_asked_about_each_token_itself(models):
    model = models["encoder"]
    (panel,) = show_logits(model, "cat sat").panels
    ids = torch.tensor([model.tokenizer("cat sat")["input_ids"]])
    log_p = model(ids)[0].detach().log_softmax(-1)
    expected = [float(log_p[i, token]) for i, token in enumerate(ids[0])]
    assert panel.props["correctTokenLogProb"] == pytest.approx(expected, abs=1e-4)
    assert panel.props["prompt"] == ["", "cat", "sat"]


def test_a_classifier_shows_its_labels(models):
    model = models["classifier"]
    view = show_logits(model, ("cat sat", "sat"))
    p = model(torch.tensor([model.tokenizer("cat sat", "sat")["input_ids"]]),
              token_type_ids=torch.tensor([model.tokenizer(
                  "cat sat", "sat", return_token_type_ids=True)["token_type_ids"]]))
    expected = dict(zip(("yes", "no"), (100 * p[0].softmax(-1)).tolist()))
    assert {row[0]: float(row[2].split()[0]) for row in view.panels[0].rows} == pytest.approx(
        expected, abs=0.06)
    page = Page(view.page())
    assert page.all("script") == []


def test_an_encoder_decoder_is_asked_about_what_was_written(models):
    model = models["encoder_decoder"]
    (panel,) = show_logits(model, ("cat sat", "sat cat")).panels
    assert panel.props["prompt"] == ["[PAD]", "sat", "cat"]
    with pytest.raises(InputError, match="in a pair"):
        show_logits(model, "cat sat")


def test_tokens_are_coloured_by_their_values(models):
    values = np.linspace(-2, 1, len(made.EVIL))
    (panel,) = show_tokens(models["decoder"], made.TEXT, values).panels
    assert panel.props["values"] == values.tolist()
    assert (panel.props["minValue"], panel.props["maxValue"]) == (-2, 2)
    assert [row[0] for row in panel.rows] == list(made.EVIL)
    (several,) = show_tokens(
        models["decoder"], made.TEXT, torch.zeros(10, 2), labels=["a", "b"]).panels
    assert several.component == "ColoredTokensMulti"
    assert several.columns == ("token", "a", "b")
    assert panel.note.endswith("blue is above zero, orange below.")
    assert several.note.endswith("violet is above zero, light red below.")


@pytest.mark.parametrize(("values", "labels", "said"), [
    ([1.0, 2.0], None, r"shape \[2\] for the 10 tokens"),
    ([float("nan")] * 10, None, "not finite"),
    (np.zeros((10, 2)), ["a"], "1 labels for 2 values"),
])
def test_values_that_do_not_fit_are_named(models, values, labels, said):
    with pytest.raises(InputError, match=said):
        show_tokens(models["decoder"], made.TEXT, values, labels)


def test_a_page_can_reach_nothing_and_its_tokens_stay_text(models, tmp_path):
    both = (made.TEXT, made.TEXT)
    view = show_attention(models["encoder_decoder"], both, ["cross 0.1", "enc 0.0"])
    path = view.save(tmp_path / "a" / "view.html")
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    for kind, attributes in page.elements:
        assert kind not in ("link", "iframe", "object", "embed", "base", "img")
        assert not {"src", "href"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert len(page.all("script")) == 3  # the bundle, the data, our own
    assert source.count("id=\"circuitsvis\"") == 1
    assert _json(source)[1]["props"]["columns"] == list(made.EVIL)
    for token in made.EVIL:
        assert any(token in text for _, text in page.text)


def test_a_notebook_gets_a_small_frame_that_cannot_touch_it(models):
    view = show_attention(models["decoder"], made.TEXT)
    shown = view._repr_html_()
    frame = Page(shown)
    ((kind, attributes),) = frame.elements
    assert (kind, attributes["sandbox"]) == ("iframe", "allow-scripts")
    assert attributes["srcdoc"] == view.page()
    assert len(shown) < 700_000
    cross = show_attention(models["encoder_decoder"], ("cat", "sat"), ["cross 0.0"])
    assert len(cross._repr_html_()) < 30_000  # circuitsvis is not carried where it is not used


def test_a_view_cannot_be_changed_and_is_short_as_text(models):
    view = show_logits(models["decoder"], "cat sat")
    assert repr(view) == "View(title='Predictions on “cat sat”')"  # notebooks keep it too
    with pytest.raises(AttributeError):
        view.title = "x"


@pytest.mark.parametrize(("name", "text", "heads", "said"), [
    ("decoder", ("cat", "sat"), None, "reads one text, and a pair was given"),
    ("decoder", "", None, "empty"),
    ("decoder", " ".join(["cat"] * 33), None, "33 tokens, the model reads at most 32"),
    ("decoder", "cat", ["2.0"], "no site '2.0'"),
    ("decoder", "cat", ["mlp.0"], "no site"),
    ("decoder", "cat", "0.1", "give a list"),
])
def test_what_cannot_be_shown_is_said(models, name, text, heads, said):
    with pytest.raises(InputError, match=said):
        show_attention(models[name], text, heads)


def test_too_many_weights_are_refused_with_the_number_of_heads_that_fit(models, monkeypatch):
    monkeypatch.setattr("mechprobe.show.attention.MOST_WEIGHTS", 250)
    with pytest.raises(InputError, match=r"name at most 2 heads"):
        show_attention(models["decoder"], made.TEXT)
    assert len(show_attention(models["decoder"], made.TEXT, ["0.0", "1.1"]).panels) == 1


def test_bytes_of_one_character_say_which_part_they_are():
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    bytewise = Tokenizer(kinds.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.train_from_iterator(
        ["the cat"], trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=bytewise)
    words = token_words(wrapped("the 🙂é")["input_ids"], wrapped)
    assert words[-6:] == ("🙂 1/4", "🙂 2/4", "🙂 3/4", "🙂 4/4", "é 1/2", "é 2/2")
    assert "".join(words[:-6]) == "the "


def test_a_model_without_a_tokenizer_shows_ids(tiny_classifier, random_batch):
    model = tiny_classifier()
    batch = random_batch(3)
    (panel,) = show_attention(model, batch).panels
    assert panel.props["tokens"] == [str(i) for i in batch.tokens[0].tolist()]
    with pytest.raises(InputError, match="no tokenizer"):
        read_text(model, "cat")
