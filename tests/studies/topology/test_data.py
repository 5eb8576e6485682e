"""Parts without overlap from every source, and settings that cannot work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.studies.topology.check import check
from mechprobe.studies.topology.data import inputs, prepare
from mechprobe.studies.topology.finetune import Tuning
from mechprobe.studies.topology.probing import Opened
from mechprobe.studies.topology.settings import PRESETS, reads_files
from mechprobe.tasks.treebank_grammar import generate_treebank
from tests.studies.topology.conftest import MICRO


def as_conllu(sentences):
    blocks = []
    for s in sentences:
        rows = [
            f"{i + 1}\t{w}\t_\t{t}\t_\t_\t{h + 1}\t{r}\t_\t_"
            for i, (w, h, r, t) in enumerate(zip(s.words, s.heads, s.deprel, s.upos, strict=True))
        ]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("name", ["tiny", "laptop"])
def test_presets_of_our_own_treebank_pass(name):
    check(PRESETS[name])
    assert not reads_files(PRESETS[name])


def test_the_real_preset_passes_with_the_data_and_reads_files(data_dir, minilm):
    assert reads_files(PRESETS["real"])
    check(replace(PRESETS["real"], data_dir=str(data_dir)))
    small = replace(PRESETS["real"], data_dir=str(data_dir), n_train=20, n_dev=10, n_test=10)
    data = prepare(small)
    assert {part: len(s) for part, s in data.parts.items()} == {
        "train": 20, "dev": 10, "test": 10, "second": 500
    }  # fmt: skip


def test_generated_parts_do_not_overlap_and_depend_on_the_seed():
    data = prepare(MICRO)
    every = [s.words for part in (*data.parts.values(), data.pretrain) for s in part]
    assert len(set(every)) == len(every) == 30 + 12 + 14 + 60
    other = replace(MICRO, seed=1)
    assert inputs(MICRO, data) == inputs(MICRO, prepare(MICRO)) != inputs(other, prepare(other))
    assert list(inputs(MICRO, data)) == ["train", "dev", "test", "pretrain"]


def test_a_file_is_split_in_three(tmp_path):
    path = tmp_path / "mine.conllu"
    path.write_text(as_conllu(generate_treebank(80, seed=2)), encoding="utf-8")
    settings = replace(MICRO, treebank=str(path), n_train=1000)
    check(settings)
    data = prepare(settings)
    assert [len(data.parts[p]) for p in ("train", "dev", "test")] == [64, 8, 8]
    every = [s.words for part in data.parts.values() for s in part]
    assert len(set(every)) == 80
    assert data.pretrain == data.parts["train"]
    path.write_text(as_conllu(generate_treebank(49, seed=2)), encoding="utf-8")
    with pytest.raises(InputError, match="give a file with 50 or more"):
        prepare(settings)
    lines = as_conllu(generate_treebank(60, seed=2)).splitlines()
    lines[2] = lines[2].replace("\t", " ")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.conllu line 3: 1 columns where CoNLL-U has 10"):
        prepare(settings)


def test_a_file_without_parts_of_speech_is_refused_before_any_work(tmp_path):
    path = tmp_path / "mine.conllu"
    bare = [replace(s, upos=("_",) * len(s)) for s in generate_treebank(60, seed=2)]
    path.write_text(as_conllu(bare), encoding="utf-8")
    with pytest.raises(InputError, match="one part of speech only, '_'; give a treebank whose UPO"):
        prepare(replace(MICRO, treebank=str(path)))
    single = [
        replace(s, words=s.words[:1], heads=(-1,), deprel=("root",), upos=(tag,))
        for s, tag in zip(bare, ["NOUN", "VERB"] * 30, strict=True)
    ]
    path.write_text(as_conllu(single), encoding="utf-8")
    with pytest.raises(InputError, match="no neighbours in its sentences can be exchanged"):
        prepare(replace(MICRO, treebank=str(path)))
    assert len(prepare(replace(MICRO, treebank=str(path), finetune="none")).parts["train"]) == 30


def test_sentences_without_neighbours_to_exchange_are_counted(tmp_path):
    sentences = generate_treebank(60, seed=2)
    short = [replace(s, words=s.words[:1], heads=(-1,), deprel=("root",), upos=s.upos[:1])
             for s in sentences[:20]]
    path = tmp_path / "mine.conllu"
    path.write_text(as_conllu([*short, *sentences[20:]]), encoding="utf-8")
    settings = replace(MICRO, treebank=str(path), n_finetune=25)
    data = prepare(settings)
    used = [*data.parts["train"][:25], *data.parts["test"]]
    n_short = sum(len(s) == 1 for s in used)
    with Run.open(tmp_path / "run", {"study": "topology"}) as folder:
        tuning = Tuning(Opened(settings, data, folder, "trained"))
        assert 0 < n_short == tuning.left_out
        assert sum(map(len, tuning.texts)) == len(used) - n_short


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_test": 1}, "--n-test is 1; give 2 or more"),
        ({"finetune_weight": -1.0}, "--finetune-weight is -1.0; give 0 or more"),
        ({"probe_lr": 0.0}, "--probe-lr is 0.0; give more than 0"),
        ({"n_heads_tested": -2}, "--n-heads-tested is -2"),
        ({"topology_ranks": (0,)}, "--topology-ranks 0: give different numbers from 1 on"),
        ({"topology_rank": 4}, "--topology-ranks 4: give different numbers"),
        ({"d_model": 15}, "d_model 15 is not a multiple of n_heads 2"),
        ({"parts": ("resid", "heads")}, "'heads' is no part of a model"),
        ({"parts": ("attn_out",)}, "name resid and others"),
        ({"finetune": "glue"}, "expected own, cola or none"),
        ({"finetune_probe": "thawed"}, "expected frozen or trained"),
        ({"finetune_streams": ()}, "fine-tuning needs a stream and a seed"),
        ({"finetune_streams": ("resid.7",)}, r"act at resid\.7, but the last is resid\.2"),
        ({"finetune_streams": ("mid.1",)}, "but mid is not probed"),
        ({"finetune_streams": ("block 3",)}, "'block 3' is not a stream"),
        ({"treebank": "ptb"}, "no treebank 'ptb'"),
        ({"treebank": "pud"}, "pud has test sentences only"),
        ({"second": "own"}, "--second is own"),
        ({"data_dir": "/nowhere"}, "no data folder /nowhere"),
        ({"encoder": "./nowhere"}, r"no model in \./nowhere"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        check(replace(MICRO, **change))


def test_missing_files_are_named_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"no file en_ewt-ud-train\.conllu"):
        check(replace(MICRO, treebank="ewt", data_dir=str(tmp_path)))
    with pytest.raises(InputError, match=r"no file .*cola"):
        check(replace(MICRO, finetune="cola", data_dir=str(tmp_path)))
