import re
import subprocess
import sys

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks import list_tasks, load_task
from mechprobe.tasks.cards import read_card, resolve_card
from mechprobe.tasks.treebank_grammar import read_grammar


def test_the_cards_of_the_repository_are_listed(repo):
    files = (repo / "tasks").rglob("*.toml")
    names = [p.relative_to(repo / "tasks").with_suffix("").as_posix() for p in files]
    names = [name for name in names if not name.startswith(("grammars/", "minimal_pairs/"))]
    assert list_tasks() == sorted(names)
    assert {"nli/overlap", "nli/mnli-hans", "nli/snli", "paraphrase/qqp-paws"} <= set(names)


@pytest.mark.parametrize(
    "name", [name for name in list_tasks() if not name.startswith("behaviours/")]
)
def test_every_card_says_what_a_study_needs(name):
    card = read_card(name)
    assert card["title"]
    assert card["ood_score_groups"]
    assert {"n_train", "n_dev", "n_ood"} <= card["settings"].keys()


def test_settings_override_the_cards_own_and_are_kept():
    task = load_task("nli/overlap", n_train=20, n_dev=10, n_ood=2, seed=5)
    assert task.name == task.card["name"] == "nli/overlap"
    assert len(task.split("train")) == 20
    assert task.card["settings"]["n_train"] == 20
    assert task.card["settings"]["seed"] == 5
    assert task.card["settings"]["overlap_predicts"] == 0.96


def test_a_whole_number_is_good_where_the_card_has_a_fraction_but_not_the_other_way():
    card = {"name": "toy", "settings": {"share": 0.5, "n": 3, "on": True, "name": "x"}}
    assert resolve_card(card, {"share": 1})["settings"]["share"] == 1
    wrong = {"n": 0.5, "share": "much", "on": 1, "name": 2}
    for key, value in wrong.items():
        with pytest.raises(InputError, match=f"card toy: setting {key}={value!r}; expected"):
            resolve_card(card, {key: value})
    assert card["settings"]["share"] == 0.5


def test_an_unknown_card_names_the_nearest():
    with pytest.raises(InputError, match="no task card 'nli/mnli-hands'; nearest: nli/mnli-hans"):
        load_task("nli/mnli-hands")
    with pytest.raises(InputError, match=r"no card at nowhere\.toml"):
        load_task("nowhere.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'kind = "files"\nlabels = [1 2]\n', r"bad\.toml is not valid TOML: .*at line 2"),
        (b'kind = "\xff"\n', r"bad\.toml is not UTF-8 text"),
        (b'kind = "poem"\n', "has kind 'poem'; expected one of templates, files"),
        (
            b'kind = "files"\ntitel = "x"\n',
            r"card .*bad: unknown key 'titel' .*nearest: title; mend",
        ),
        (b'kind = "files"\nlabels = ["a"]\n', "lacks sources, splits; add it to the card"),
    ],
)
def test_a_card_that_cannot_be_read_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "bad.toml").write_bytes(text)
    with pytest.raises(InputError, match=message) as refused:
        load_task(tmp_path / "bad.toml")
    assert "\n" not in str(refused.value)


def test_listing_and_generating_load_no_torch():
    code = (
        "import sys; from mechprobe.tasks import list_tasks, load_task; list_tasks(); "
        "load_task('nli/overlap', n_train=9, n_dev=9, n_ood=1); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_source_without_public_copy_is_named_before_anything_is_loaded():
    with pytest.raises(InputError, match=r"'paws_qqp' has no public copy.* paraphrase/paws_qqp"):
        load_task("paraphrase/qqp-paws")


TYPOS = {
    "nli/overlap": [("overlap_label", "at the top"), ("n_ood", "[settings]"),
                    ("list", "[words.noun]"), ("counterexample", "[group]")],
    "nli/snli": [("drop_empty", "[sources.snli_train.hub]"),
                 ("quoting", "[sources.snli_train.local]"), ("source", "[splits.train]")],
    "abstraction/mini": [("weight", "[frame]"), ("codas", "[auxiliary.syllables]"),
                         ("per_item", "[settings]"), ("theme", "[phrases]")],
    "abstraction/released": [("cogs_train", "[files]"), ("title", "at the top")],
    "minimal_pairs/english": [("texts", "[frame]"), ("phenomenon", "[paradigm]")],
    "behaviours/ioi": [("counterfactual", "[settings]"), ("heads", "[expected]"),
                       ("objects", "at the top")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "key", "place"), [(n, *t) for n, ts in TYPOS.items() for t in ts])
def test_a_typo_in_a_key_is_refused_at_every_level_with_the_nearest(
    name, key, place, repo, tmp_path
):
    """Every card of ours, with the first use of a key misspelt in the level it stands in."""
    text = (repo / "tasks" / f"{name}.toml").read_text(encoding="utf-8")
    typo = key[:-2] + key[-1] + key[-2] if key[-1] != key[-2] else key + "x"
    changed, n = re.subn(
        rf"(?m)(^|\{{ |^\[expected\.|, ){key}(?= =|\])", rf"\g<1>{typo}", text, count=1
    )
    assert n == 1
    (tmp_path / "card.toml").write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=f"unknown key '{typo}'") as refused:
        read_card(tmp_path / "card.toml")
    assert place in str(refused.value)
    assert f"nearest: {key}; mend or remove it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_card_of_the_repository_has_known_keys(repo):
    kinds = set()
    for path in (repo / "tasks").rglob("*.toml"):
        if path.parent.name == "grammars":
            read_grammar(path)
        else:
            kinds.add(read_card(path)["kind"])
    assert len(kinds) == 6
