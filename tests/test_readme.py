"""What the README shows works: its Python, its card, its commands, its paths."""

import gzip
import json
import re
import shlex

import pytest

import mechprobe as mp
from mechprobe.studies.heuristic_core.settings import PRESETS


@pytest.fixture(scope="module")
def readme(repo) -> str:
    return (repo / "README.md").read_text(encoding="utf-8")


def _blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme, flags=re.M | re.S)


def _commands(readme: str) -> list[list[str]]:
    lines = "".join(_blocks(readme, "sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def test_the_python_example_runs(readme, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = _blocks(readme, "python")
    last = PRESETS["laptop"].train_steps
    pairs = mp.load_task("nli/overlap", n_train=64, n_dev=32, n_ood=8).split("train")
    from mechprobe.tasks import word_tokenizer

    model = mp.build_classifier(
        ("entailment", "non-entailment"), word_tokenizer([*pairs.first, *pairs.second]),
        n_layers=2, n_heads=2, d_model=16, d_mlp=16, n_ctx=64, seed=0,
    )
    mp.save_model(model, tmp_path / "model")
    for shown, small in {
        '"nli/overlap"': '"nli/overlap", n_train=64, n_dev=32, n_ood=8',
        f"runs/heuristic-core-laptop/models/model-0/step-{last:06d}": str(tmp_path / "model"),
        "seeds=range(6)": "seeds=range(2), steps=2",
    }.items():
        assert shown in code
        code = code.replace(shown, small)
    names: dict[str, object] = {}
    exec(code, names)
    nets = names["nets"]
    assert isinstance(nets, mp.SubnetworkSet)
    assert len(nets) == 4
    assert "seed" in capsys.readouterr().out
    assert (tmp_path / "kept.png").stat().st_size > 1_000


def test_the_trees_example_runs(readme, capsys):
    (code,) = [block for block in _blocks(readme, "py") if "belief_propagation(" in block]
    for shown, small in {"1500": "20", "epochs=5": "epochs=1", "1000, k=1": "100, k=1",
                         "(0, 600)": "(0, 60)", "(600, 800)": "(60, 80)",
                         "(800, 1000)": "(80, 100)"}.items():
        assert shown in code
        code = code.replace(shown, small)
    names: dict = {}
    exec(code, names)
    assert tuple(names["exact"].root.shape) == (100, 4)
    assert "head" in capsys.readouterr().out


def test_the_concept_example_runs(readme):
    (code,) = [block for block in _blocks(readme, "py") if "mp.load_abstraction(" in block]
    names: dict = {"mp": mp}
    exec(code, names)
    assert names["tasks"].probe == "mod"


def test_the_probes_example_runs(readme, tmp_path, monkeypatch, capsys):
    from mechprobe.models import build_encoder
    from mechprobe.tasks import word_tokenizer
    from mechprobe.tasks.treebank_grammar import generate_treebank
    from tests.studies.topology.test_data import as_conllu

    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in _blocks(readme, "py") if "fit_bank" in block)
    sentences = generate_treebank(40, seed=0)
    for part, rows in {"train": sentences[:20], "dev": sentences[20:30]}.items():
        (tmp_path / f"{part}.conllu").write_text(as_conllu(rows), encoding="utf-8")
    (tmp_path / "test.conllu").write_text(as_conllu(sentences[30:]), encoding="utf-8")
    model = build_encoder(
        tokenizer=word_tokenizer(" ".join(s.words) for s in sentences), n_layers=1, n_heads=2,
        d_model=8, d_mlp=8, n_ctx=64, seed=0,
    )
    mp.save_model(model, tmp_path / "model")
    for shown, own in {
        '"bert-base-uncased"': '"model"', 'load_treebank("ewt", part)':
        'load_treebank(f"{part}.conllu")',
    }.items():
        assert shown in code
        code = code.replace(shown, own)
    exec(code, {"mp": mp})
    said = capsys.readouterr().out
    assert "mlp_out.0" in said
    assert said.rstrip().endswith("() ()")


def test_the_example_card_loads(readme, tmp_path):
    (card,) = _blocks(readme, "toml")
    (tmp_path / "stories.toml").write_text(card, encoding="utf-8")
    table = "story\tending\tverdict\n" + "".join(
        f"Story {i} begins.\tEnding {i}.\t{'yes' if i % 2 else 'no'}\n" for i in range(6)
    )
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(table.encode()))
    (tmp_path / "dev.tsv").write_text(table.replace("Story", "Tale"), encoding="utf-8")
    row = {"story": "A fox.", "ending": "A fox.", "verdict": "no", "structure": "repeat"}
    (tmp_path / "repeating.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = mp.load_task(tmp_path / "stories.toml", data_dir=tmp_path, n_train=4)
    assert len(task.split("train")) == 4
    assert sorted(task.split("dev").first) == [f"Tale {i} begins." for i in range(6)]
    assert task.split("ood").groups() == ["repeat"]
    assert task.split("ood").labels[task.split("ood").label[0]] == "does not fit"


def test_make_targets_and_variables_exist(repo, readme):
    makefile = (repo / "Makefile").read_text(encoding="utf-8")
    used = [c for c in _commands(readme) if c and c[0] == "make"]
    used += [shlex.split(text) for text in re.findall(r"`(make [^`]*)`", readme)]
    assert len(used) >= 5
    for _, target, *variables in used:
        assert re.search(rf"^{target}:", makefile, flags=re.M), f"no make target {target}"
        for variable in variables:
            assert re.search(rf"^{variable.partition('=')[0]} \?=", makefile, flags=re.M)


def test_mechprobe_commands_parse(readme, capsys):
    from mechprobe.cli import main

    used = [c[1:] for c in _commands(readme) if c and c[0] == "mechprobe"]
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\w+)\b", capsys.readouterr().out, flags=re.M)
    assert {"run", "list"} <= {c[0] for c in used} == set(listed)  # the README shows each command
    for arguments in used:
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--help"])
        assert stop.value.code == 0
        assert "usage: mechprobe" in capsys.readouterr().out


def test_paths_exist(repo, readme):
    layout = readme[readme.index("## Layout") :]
    named = re.findall(r"`((?:mechprobe|tasks|tests|benchmarks)[\w/.]*)`", layout)
    named += re.findall(r"\]\(([\w./]+)\)", readme)
    assert len(named) > 10
    missing = [path for path in named if not (repo / path).exists()]
    assert not missing
