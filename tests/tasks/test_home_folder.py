"""``~`` in a path that a user gives is the home folder, in Python as on the command line."""

import numpy as np
import pytest

import mechprobe as mp
from mechprobe.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_data_and_cards_are_looked_for_below_the_home_folder(home, repo):
    (home / "data").mkdir()
    with pytest.raises(InputError, match=f" in {home / 'data'};"):
        mp.load_task("nli/mnli-hans", data_dir="~/data")
    card = (repo / "tasks" / "nli" / "overlap.toml").read_text(encoding="utf-8")
    (home / "mine.toml").write_text(card, encoding="utf-8")
    mine = mp.load_task("~/mine.toml", n_train=8, n_dev=4, n_ood=2)
    theirs = mp.load_task("nli/overlap", n_train=8, n_dev=4, n_ood=2)
    assert mine.split("train").first == theirs.split("train").first


def test_what_is_saved_below_the_home_folder_is_found_there(home, tiny_classifier):
    mp.save_model(tiny_classifier(), "~/models/tiny")
    assert sorted(path.name for path in home.iterdir()) == ["models"]
    found = mp.load_model("~/models/tiny")
    ours = dict(tiny_classifier().named_parameters())
    for name, value in found.named_parameters():
        assert np.array_equal(value.detach().numpy(), ours[name].detach().numpy())
