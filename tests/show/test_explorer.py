"""The explorer without a browser: its numbers against hooks written by hand, what it saves."""

import json
import re
import sys

import numpy as np
import pytest
import torch

import mechprobe as mp
from mechprobe.errors import InputError
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.subnetwork import Subnetwork
from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.models import forward, site_grid
from mechprobe.show.explorer import circuit as circuit_file
from mechprobe.show.explorer.circuit import Circuit
from mechprobe.show.explorer.explore import explore
from mechprobe.show.explorer.remembered import Remembered
from mechprobe.show.explorer.scene import given_effects
from mechprobe.show.explorer.widget import make_widget, page_module, page_style
from mechprobe.show.tokens_read import read_text
from mechprobe.tasks import Behaviour, PromptTask
from tests.show import texts as made
from tests.show.reading import Page

pytestmark = pytest.mark.usefixtures("one_thread")


WORDS = [word for word in made.EVIL if word]


def prompts(n=8):
    """Prompts of three words for the small decoder, each with the answer it should get."""
    texts = [" ".join(WORDS[(i + k) % 10] for k in range(3)) for i in range(n)]
    return PromptTask(
        texts, answers=[WORDS[(i + 3) % 10] for i in range(n)],
        wrong=[WORDS[(i + 5) % 10] for i in range(n)], name="next word",
    )


def ask(explorer, kind, checkpoint=None, **question):
    """The answer to a question, about the model itself unless another checkpoint is named."""
    if checkpoint is None:
        checkpoint = len(explorer.checkpoints) - 1
    return explorer.answer({"kind": kind, "checkpoint": checkpoint, **question})


@pytest.fixture(scope="module")
def decoder():
    return made.decoder()


@pytest.fixture(scope="module")
def explorer(decoder):
    return explore(decoder, prompts(), baseline="zero", progress=False)


def test_a_closed_set_equals_hooks_written_by_hand(explorer, decoder):
    answer = ask(explorer, "set", closed=["0.1", "mlp.0", "1.2"], reads=3)
    batch = explorer.behaviour.inputs

    def shut(head):
        def hook(module, inputs, z):
            z = z.clone()
            z[:, :, head] = 0
            return z
        return hook

    full, full_cache = decoder.run_with_cache(batch.tokens)
    handles = [
        decoder.hook_dict["blocks.0.attn.hook_z"].register_forward_hook(shut(1)),
        decoder.hook_dict["blocks.1.attn.hook_z"].register_forward_hook(shut(2)),
        decoder.hook_dict["blocks.0.hook_mlp_out"].register_forward_hook(
            lambda module, inputs, out: torch.zeros_like(out)),
    ]
    logits, cache = decoder.run_with_cache(batch.tokens)
    for handle in handles:
        handle.remove()
    ids = {word: i for i, word in enumerate(("[PAD]", "[UNK]", *made.EVIL))}

    def differences(of):
        of = of.detach()
        return np.array([
            float(of[i, 2, ids[WORDS[(i + 3) % 10]]] - of[i, 2, ids[WORDS[(i + 5) % 10]]])
            for i in range(8)])

    assert answer["metric"][0] == pytest.approx(differences(logits).mean(), abs=1e-4)
    assert answer["change"][0] == pytest.approx(
        (differences(logits) - differences(full)).mean(), abs=1e-4)
    assert answer["change"][1] <= answer["change"][0] <= answer["change"][2]
    sites = explorer.circuit.names
    for site, name, part in (
        ("0.0", "blocks.0.attn.hook_z", 0), ("1.0", "blocks.1.attn.hook_z", 0),
        ("1.1", "blocks.1.attn.hook_z", 1), ("mlp.1", "blocks.1.hook_mlp_out", None),
    ):
        own, new = full_cache[name], cache[name]
        if part is not None:
            own, new = own[:, :, part], new[:, :, part]
        expected = float((new - own).norm() / own.norm())
        assert answer["changed"][sites.index(site)] == pytest.approx(expected, abs=1e-4), site
    assert answer["changed"][sites.index("0.0")] == 0
    assert [answer["changed"][sites.index(s)] for s in ("0.1", "mlp.0", "1.2")] == [None] * 3
    p = {"before": full[3, 2].detach().softmax(-1), "after": logits[3, 2].detach().softmax(-1)}
    for output in answer["outputs"]:
        for when, of in p.items():
            assert output[when] == pytest.approx(float(of[ids[output["name"]]]), abs=1e-4)
    assert answer["outputs"][0] == {**answer["outputs"][0], "name": WORDS[6], "right": True}
    assert sum(bool(o["right"]) for o in answer["outputs"]) == 1


def test_padding_counts_for_nothing(tiny_classifier, random_batch):
    model = tiny_classifier()
    targets = {"label": torch.zeros(3, dtype=torch.long)}

    def told(width):
        inputs = random_batch(4, 6, 5, width=width)
        behaviour = Behaviour(
            "pairs", inputs, lambda logits, targets: logits[:, 0] - logits[:, 1], "gap", targets)
        opened = explore(model, behaviour, baseline="mean", progress=False)
        return ask(opened, "set", closed=["0.1"], reads=0)

    narrow, wide = told(6), told(11)
    first, second = (np.array(told_["changed"], float) for told_ in (narrow, wide))  # None: NaN
    assert np.nanmax(first) > 0.01
    assert first == pytest.approx(second, abs=2e-4, nan_ok=True)
    assert narrow["metric"] == pytest.approx(wide["metric"], abs=1e-4)


def test_single_effects_are_those_of_ablate(explorer, decoder):
    scene = explorer.scene()
    scores = mp.ablate(decoder, prompts(), sites="all", baseline="zero", progress=False)
    expected = dict(zip(scores.sites, scores.effects.mean(1)))
    for site, (effect, low, high) in zip(scene["sites"], scene["effects"], strict=True):
        assert effect == pytest.approx(expected[site], abs=1e-4)
        assert low <= effect <= high
    given = explore(decoder, prompts(), scores=scores, baseline="zero", progress=False).scene()
    table = scores.table().set_index("site")
    assert given["effects"][0][0] == pytest.approx(table.loc["0.0", "effect"], rel=1e-4)


def test_given_scores_are_called_what_they_are(decoder):
    patched = PromptTask(
        prompts().clean, corrupt=list(reversed(prompts().clean)), answers=prompts().answers,
        wrong=prompts().wrong, name="next word")
    scores = mp.attribute(decoder, patched, baseline="paired", progress=False)
    explorer = explore(
        decoder, prompts(), scores=scores, checkpoints={"same": decoder}, baseline="zero",
        progress=False)
    assert explorer.scene()["scored"] == {
        "method": scores.method, "metric": scores.metric, "baseline": "paired"}
    assert "attribute" in explorer.scene()["scored"]["method"]
    assert explorer.scene(0)["scored"] is None  # another checkpoint's sites are closed here
    assert explore(decoder, prompts(), baseline="zero", progress=False).scene()["scored"] is None
    with pytest.raises(InputError, match="scores=DataFrame does not say by which method"):
        given_effects(scores.table(), explorer.circuit)
    elsewhere = mp.patch(decoder, patched, sites="residual", progress=False)
    with pytest.raises(InputError, match="and no head or MLP layer of this model"):
        explore(decoder, prompts(), scores=elsewhere, progress=False)


def test_a_single_example_has_no_interval_and_no_nan(decoder):
    scene = explore(decoder, prompts(1), baseline="zero", progress=False).scene()
    effects = np.array(scene["effects"])
    assert np.isfinite(effects).all()
    assert (effects == effects[:, :1]).all()
    assert scene["full"] == [scene["full"][0]] * 3


def test_attention_follows_the_closed_set(explorer, decoder):
    open_, shut = (
        ask(explorer, "attention", site="1.1", reads=2, closed=closed)
        for closed in ([], ["0.0", "0.1", "0.2", "mlp.0"]))
    tokens = explorer.behaviour.inputs.tokens[2:3]
    _, cache = decoder.run_with_cache(tokens)
    assert np.array(open_["weights"]) == pytest.approx(
        cache["pattern", 1][0, 1].detach().numpy(), abs=6e-4)
    with mp.gated(decoder, closed=["0.*", "mlp.0"]):
        _, cache = decoder.run_with_cache(tokens)
    assert np.array(shut["weights"]) == pytest.approx(
        cache["pattern", 1][0, 1].detach().numpy(), abs=6e-4)
    assert open_["weights"] != shut["weights"]
    assert open_["rows"] == open_["columns"] == [WORDS[(2 + k) % 10] for k in range(3)]


def test_a_text_of_ones_own_is_read(explorer, decoder):
    text = f"{WORDS[8]} {WORDS[9]} {WORDS[7]} {WORDS[6]}"
    told = ask(explorer, "reads", reads=[text])
    assert told["words"] == text.split()
    outputs = ask(explorer, "set", closed=[], reads=[text])["outputs"]
    tokens = decoder.tokenizer(text, return_tensors="pt")["input_ids"]
    p = decoder(tokens)[0, -1].detach().softmax(-1)
    assert outputs[0]["before"] == outputs[0]["after"] == pytest.approx(float(p.max()), abs=1e-4)
    assert outputs[0]["right"] is None
    error = ask(explorer, "reads", reads=["a", "b"])["error"]
    assert "a pair was given" in error


def test_a_task_without_answers_calls_no_output_right(decoder):
    task = PromptTask(prompts(4).clean, metric="kl")
    explorer = explore(decoder, task, baseline="zero", progress=False)
    outputs = ask(explorer, "set", closed=["0.0"], reads=1)["outputs"]
    assert {output["right"] for output in outputs} == {None}
    assert outputs[0]["before"] == max(output["before"] for output in outputs)


def test_the_paired_baseline_is_refused_for_a_text_of_ones_own(decoder):
    task = PromptTask(
        prompts(6).clean, corrupt=list(reversed(prompts(6).clean)), answers=prompts(6).answers)
    explorer = explore(decoder, task, baseline="paired", progress=False)
    assert "change" in ask(explorer, "set", closed=["0.0"], reads=0)
    said = ask(explorer, "set", closed=["0.0"], reads=[WORDS[8]])["error"]
    assert "baseline='mean' or 'zero'" in said


def _net(grid, closed, seed):
    binary = grid.mask(closed=closed)
    zeros = np.zeros(len(grid), np.float32)
    return Subnetwork(zeros, binary, zeros, grid, 0.25, float(1 - binary.mean()), seed)


def test_subnetworks_are_sets_to_start_from(decoder):
    grid = site_grid(decoder)
    nets = SubnetworkSet((
        _net(grid, ["0.0", "mlp.1"], 0), _net(grid, ["0.0", "1.2"], 1), _net(grid, ["0.1"], 2)))
    scene = explore(decoder, prompts(), nets, baseline="zero", progress=False).scene()
    assert list(scene["sets"]) == [
        "core: what all keep", "0: seed 0, 25 % closed", "1: seed 1, 25 % closed",
        "2: seed 2, 25 % closed"]
    assert set(scene["sites"]) - set(scene["sets"]["core: what all keep"]) == {
        "0.0", "0.1", "1.2", "mlp.1"}
    counts = dict(zip(scene["sites"], scene["counts"]))
    assert (counts["0.0"], counts["0.1"], counts["1.1"], counts["mlp.1"]) == (1, 2, 3, 2)
    assert scene["nets"] == 3
    named = explore(decoder, prompts(), {"mine": ["0.*", "mlp.0"]}, progress=False)
    assert named.sets == {"mine": ["0.0", "0.1", "0.2", "mlp.0"]}
    with pytest.raises(InputError, match=r"no site '7\.0'"):
        explore(decoder, prompts(), {"x": ["7.0"]}, progress=False)


def test_a_set_that_is_named_as_a_core_is_a_subnetwork_like_any(decoder):
    nets = {"core: mine": ["0.*"], "other": ["0.0", "mlp.0"]}
    scene = explore(decoder, prompts(), nets, baseline="zero", progress=False).scene()
    counts = dict(zip(scene["sites"], scene["counts"]))
    assert (counts["0.0"], counts["0.1"], counts["1.0"]) == (2, 1, 0)
    assert scene["nets"] == 2


def test_two_views_at_different_checkpoints_get_their_own_numbers(decoder):
    other = made.decoder()
    with torch.no_grad():
        other.unembed.W_U.mul_(0.5)
        other.unembed.b_U.mul_(0.5)
    both = explore(
        decoder, prompts(), checkpoints={"half": other}, baseline="zero", progress=False)
    alone = [explore(of, prompts(), baseline="zero", progress=False) for of in (other, decoder)]
    ask(both, "scene", 0)  # one view goes to the other checkpoint; another view still asks of 1
    for checkpoint in (1, 0, 1):
        one, only = (
            [ask(of, "set", at, closed=["0.1"], reads=3),
             ask(of, "compare", at, first=[], second=["0.1"]),
             ask(of, "attention", at, site="1.1", closed=["0.1"], reads=[WORDS[8]]),
             ask(of, "reads", at, reads=2)]
            for of, at in ((both, checkpoint), (alone[checkpoint], 0)))
        assert one == only
    metric = [ask(both, "set", at, closed=["0.1"], reads=0)["metric"][0] for at in (0, 1)]
    assert metric[0] == pytest.approx(metric[1] / 2, abs=1e-4)
    assert abs(metric[1]) > 0.01


def test_words_that_the_tokenizer_does_not_know_are_named(decoder, explorer):
    told = ask(explorer, "reads", reads=["cat dog sat dog mat"])
    assert told["unknown"] == ["dog", "mat"]
    assert told["unknown_token"] == "[UNK]"
    assert told["words"] == ["cat", "[UNK]", "sat", "[UNK]", "[UNK]"]
    assert "unknown" not in ask(explorer, "reads", reads=["cat [UNK] sat"])
    assert "unknown" not in ask(explorer, "reads", reads=0)
    assert read_text(made.classifier(), ("cat dog", "sat owl")).unknown == ("dog", "owl")


def test_two_sets_are_compared_example_by_example(explorer):
    circuit = explorer.circuit
    answer = ask(explorer, "compare", first=["0.0"], second=["1.1", "mlp.1"])
    gap = circuit.measure(["1.1", "mlp.1"]).values - circuit.measure(["0.0"]).values
    assert answer["difference"][0] == pytest.approx(gap.mean(), abs=1e-4)


def test_checkpoints_are_opened_when_the_slider_reaches_them(decoder, tmp_path):
    other = made.decoder()
    with torch.no_grad():
        other.blocks[0].attn.W_O.mul_(0)
    mp.save_model(other, tmp_path / "step-1")
    explorer = explore(
        decoder, prompts(), checkpoints={"step 1": tmp_path / "step-1"}, baseline="zero",
        progress=False)
    assert explorer.checkpoints == ["step 1", "this model"]
    assert explorer.scene()["checkpoint"] == 1
    scene = ask(explorer, "scene", 0)["scene"]
    assert scene["checkpoint"] == 0
    first = dict(zip(scene["sites"], scene["effects"]))
    assert [first[f"0.{h}"][0] for h in range(3)] == [0, 0, 0]
    assert first["1.0"][0] != 0
    assert scene["full"] != explorer.scene(1)["full"]
    assert "count from 0" in ask(explorer, "scene", 5)["error"]
    smaller = mp.models.build_decoder(tokenizer=made.tokenizer(), **{**made.SIZES, "n_layers": 1})
    wrong = explore(decoder, prompts(), checkpoints={"small": smaller}, progress=False)
    assert "checkpoints of one model" in ask(wrong, "scene", 0)["error"]


def test_an_encoder_decoder_has_three_grids_and_crossing_attention():
    model = made.encoder_decoder()
    batch = mp.seq2seq_batch([[2, 3, 4], [5, 6]], [[7, 8], [9, 10]])
    answer = torch.tensor([[-100, 11, -100], [-100, 10, -100]])
    task = Behaviour("copy", batch, lambda logits, targets: logits[:, 1, 5], "logit",
                     {"answer": answer})
    explorer = explore(model, task, baseline="zero", progress=False)
    assert [part["stack"] for part in explorer.scene()["layout"]] == ["enc", "dec", "cross"]
    assert all(row["mlp"] is None for row in explorer.scene()["layout"][2]["rows"])
    told = ask(explorer, "attention", site="cross 1.0", closed=["enc 0.0"], reads=0)
    assert (len(told["rows"]), len(told["columns"])) == (3, 3)
    outputs = ask(explorer, "set", closed=["cross 0.1"], reads=0)["outputs"]
    with torch.no_grad():
        p = forward(model, batch)[0, 1].softmax(-1)
    assert outputs[0]["before"] == pytest.approx(float(p[11]), abs=1e-4)  # at the scored place


def test_what_the_page_asks_for_wrongly_is_said(explorer):
    assert "no site '9.9'" in ask(explorer, "set", closed=["9.9"], reads=0)["error"]
    assert "unknown question" in ask(explorer, "x")["error"]
    ask(explorer, "set", closed=["0.2"], reads=0, side=0)
    ask(explorer, "set", closed=["0.1"], reads=0, side=1)
    assert explorer.closed == ["0.2"]


def _saved(path):
    source = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="saved">(.*?)</script>', source, re.S)
    return source, json.loads(found[1])


def test_a_saved_page_holds_what_was_measured_and_loads_nothing(decoder, tmp_path):
    explorer = explore(
        decoder, prompts(), {"mine": ["0.0", "1.1"]}, baseline="zero", progress=False)
    path = explorer.save_html(tmp_path / "x.html", sets={"pair": ["0.0", "mlp.1"]}, examples=3)
    source, saved = _saved(path)
    page = Page(source)
    assert not {"link", "img", "iframe", "base"} & {kind for kind, _ in page.elements}
    assert not [a for _, a in page.elements if {"src", "href"} & set(a)]
    assert page.all("meta")[2]["content"].startswith("default-src 'none'")
    assert "</script>" not in source.split('id="saved">')[1].split("</script>")[0]
    (state,) = saved["states"]
    sites = state["scene"]["sites"]
    assert len(state["answers"]) == 1 + len(sites) + 2
    for closed in ([], ["1.0"], ["0.0", "mlp.1"]):
        key = ",".join(str(sites.index(s)) for s in closed)
        fresh = ask(explorer, "set", closed=closed, reads=2)
        kept = state["answers"][key]
        assert kept["metric"] == fresh["metric"]
        assert kept["changed"] == fresh["changed"]
        assert kept["outputs"][2] == fresh["outputs"]
        assert len(kept["outputs"]) == 3
    assert set(state["scene"]["sets"]) == {"mine", "pair"}
    weights = np.array(state["readings"][1]["attention"]["1.2"]) / 1000
    live = ask(explorer, "attention", site="1.2", closed=[], reads=1)
    assert weights == pytest.approx(np.array(live["weights"]), abs=0.0011)
    with pytest.raises(InputError, match="examples=0"):
        explorer.save_html(tmp_path / "y.html", examples=0)


def test_memory_is_bounded_by_bytes_and_what_was_forgotten_is_measured_again(
    decoder, explorer, monkeypatch
):
    behaviour = explorer.behaviour
    one = Circuit(decoder, behaviour, zero_baseline()).measure(["0.0"])
    assert one.nbytes >= one.log_p.numel() * 4
    monkeypatch.setattr(circuit_file, "REMEMBERED", int(2.5 * one.nbytes))
    circuit = Circuit(decoder, behaviour, zero_baseline())
    first = [circuit.measure([name]) for name in circuit.names]
    assert circuit._known.nbytes <= 2.5 * one.nbytes
    assert circuit.measure(circuit.names[-1:]) is first[-1]  # kept
    again = circuit.measure(circuit.names[:1])
    assert again is not first[0]
    assert (again.values == first[0].values).all()
    assert circuit.measure(circuit.names[-1:]) is first[-1]  # used last, so it stayed


def test_one_set_larger_than_the_limit_is_still_kept():
    class Big:
        nbytes = 100

    known = Remembered(10)
    kept = known.get("a", Big)
    assert known.get("a", Big) is kept
    assert known.get("b", Big) is not kept
    assert len(known) == 1


def test_without_anywidget_it_says_what_to_install(explorer, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.setattr(explorer, "_widget", None)
    with pytest.raises(InputError, match=r"pip install 'mechprobe\[notebooks\]'.*save_html"):
        _ = explorer.widget


def test_the_widget_answers_its_page(explorer):
    pytest.importorskip("anywidget", reason="anywidget is in the extra [notebooks]")
    widget = explorer.widget
    assert widget.scene["sites"] == explorer.circuit.names
    sent = []
    widget.send = lambda content, buffers=None: sent.append(content)
    question = {"kind": "reads", "checkpoint": 0, "reads": 0}
    widget._handle_custom_msg({**question, "id": "a 1"}, [])
    assert sent == [{**explorer.answer(question), "id": "a 1"}]
    assert sent[0]["words"] == WORDS[:3]
    assert "application/vnd.jupyter.widget-view+json" in str(explorer._repr_mimebundle_())


def test_the_page_is_told_when_python_fails(explorer):
    pytest.importorskip("anywidget", reason="anywidget is in the extra [notebooks]")
    sent = []
    page = make_widget(explorer.scene(), lambda question: 1 / 0)
    page.send = lambda content, buffers=None: sent.append(content)
    page._handle_custom_msg({"kind": "reads", "id": "a 1"}, [])  # which logs what was raised
    assert sent == [{"error": "ZeroDivisionError: division by zero", "id": "a 1"}]


def test_the_page_is_one_module_with_its_style():
    module, style = page_module(), page_style()
    assert module.rstrip().endswith("export default { render };")
    assert "import " not in re.sub(r"//.*", "", module)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|fetch\(", module)
    assert ".mpx-site" in style
    assert ".mp-rows" in style
    assert "url(" not in style


@pytest.mark.parametrize(("change", "said"), [
    ({"n": 0}, "n=0 examples"),
    ({"baseline": "median"}, "median"),
    ({"checkpoints": {"this model": "x"}}, "rename it"),
])
def test_arguments_that_do_not_fit_are_named(decoder, change, said):
    with pytest.raises(InputError, match=said):
        explore(decoder, prompts(), progress=False, **change)
